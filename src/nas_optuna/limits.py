"""How much of a space keeps to the limits: known before anything is trained."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nas_optuna.errors import InputError
from nas_optuna.estimation import Objectives
from nas_optuna.space import Architecture, Space

DRAWN = 300  # random networks
# of those whose latency has to be measured; fewer where that takes longer than so many seconds
TIMED, FEWEST_TIMED, TIMED_SECONDS = 30, 10, 20.0
STARTS = 3  # of the climb to the smallest

Point = dict[str, Any]
Measure = Callable[[Architecture], Mapping[str, float]]
Key = Callable[[Architecture], float]


@dataclass(frozen=True)
class Share:
    """A part of some random networks.

    Attributes:
        count: How many.
        total: Of how many.
    """

    count: int
    total: int

    def __str__(self) -> str:
        """In per cent, with its 95 % interval (Wilson 1927)."""
        share, z = self.count / self.total, 1.96
        centre = (share + z * z / (2 * self.total)) / (1 + z * z / self.total)
        spread = z * math.sqrt(share * (1 - share) / self.total + z * z / (4 * self.total**2))
        spread /= 1 + z * z / self.total
        return f"{share:.1%} fit ({max(0.0, centre - spread):.1%} to {min(1.0, centre + spread):.1%})"


def describe_limits(
    space: Space, objectives: Objectives, measure: Measure, latency: Key | None = None
) -> str:
    """In words, the share of a space that keeps to the limits.

    Args:
        space: Its networks are drawn, each decision alike.
        objectives: Their limits; at least one.
        measure: Costs of a network by name.
        latency: Of a network, in milliseconds, where it has to be measured: of a few networks alone.

    Raises:
        InputError: No network is found that keeps to them. Names the limit that is the culprit.
    """
    if latency is not None and "latency" in objectives.limits:
        known = objectives.without_limit("latency")
        texts = [describe_limits(space, known, measure)] if known.limits else []
        return "\n".join([*texts, describe_latency_limit(space, objectives, measure, latency)])
    draws = random.Random(0)
    points = [draw(space, draws) for _ in range(DRAWN)]
    excesses = [objectives.excess(measure(space.at(point).canonical())) for point in points]
    fitting = [max(excess.values()) <= 0 for excess in excesses]
    text = f"limits: of {DRAWN} random networks {Share(sum(fitting), DRAWN)}"
    if not any(fitting):
        _check_smallest(space, objectives, measure, points)
        text += ", but smaller ones do"
    if len(objectives.limits) > 1:
        alone = {
            name: Share(sum(excess[name] <= 0 for excess in excesses), DRAWN) for name in objectives.limits
        }
        text += "; " + ", ".join(
            f"{name} alone {share.count / share.total:.1%}" for name, share in alone.items()
        )
    return text


def describe_latency_limit(space: Space, objectives: Objectives, measure: Measure, latency: Key) -> str:
    """In words, the share of a space that keeps to a latency that has to be measured, from a few networks.

    Args:
        space: Its networks are drawn, each decision alike.
        objectives: Their limits; one on latency.
        measure: Other costs of a network by name.
        latency: Of a network, in milliseconds.

    Raises:
        InputError: None of these networks keeps to all limits, and none of the smallest.
    """
    limit = objectives.limits["latency"]
    points, times = _time_some(space, latency)
    networks, count = [space.at(point).canonical() for point in points], len(points)
    share = Share(sum(taken <= limit for taken in times), count)
    text = (
        f"limits: of {count} random networks that were timed {share} a latency of {limit:g} ms; they take "
        f"{min(times):.3g} to {max(times):.3g} ms"
    )

    def fit(networks: list[Architecture]) -> list[bool]:
        return [objectives.fits({**measure(each), "latency": latency(each)}) for each in networks]

    if any(fit(networks)):
        return text
    smallest = _smallest(space, objectives, measure, points)
    if any(fit(smallest)):
        return f"{text}, but smaller ones do"
    least = min(*times, *map(latency, smallest))
    if least > limit:
        raise InputError(
            f"objective.limits.latency: {limit:g} is below what any of {count} random networks and the "
            f"smallest of this space take; the least is {least:.4g} ms. Raise it, or let the space have "
            "smaller networks."
        )
    raise InputError(
        f"objective.limits.latency: none of {count} random networks and the smallest of this space keeps to "
        f"{limit:g} ms and to the other limits. Raise them, or let the space have smaller networks."
    )


def draw(space: Space, draws: random.Random) -> Point:
    """A random point, each decision alike."""
    return {name: draws.choice(choice.options) for name, choice in space.decisions.items()}


def descend(space: Space, point: Point, key: Key) -> tuple[float, Point]:
    """The smallest key near a point: decisions are changed until none helps.

    They are changed one by one, and together with a depth: what a deeper network adds is void
    before, and so may be anything.
    """
    best = key(space.at(point).canonical())
    improved = True
    while improved:
        improved = False
        for change in _changes(space):
            changed = {**point, **change}
            value = key(space.at(changed).canonical())
            if value < best:
                point, best, improved = changed, value, True
    return best, point


def _changes(space: Space) -> Iterator[Point]:
    single = [
        {name: option}
        for name, choice in space.decisions.items()
        if choice.is_open
        for option in choice.options
    ]
    depths = [change for change in single if next(iter(change)).endswith(".depth")]
    yield from single
    for depth in depths:
        stage = next(iter(depth)).rpartition(".")[0]
        yield from (depth | change for change in single if next(iter(change)).startswith(f"{stage}."))


def _time_some(space: Space, latency: Key) -> tuple[list[Point], list[float]]:
    """Random points, and the latencies of their networks."""
    draws, ends = random.Random(0), time.monotonic() + TIMED_SECONDS
    points: list[Point] = []
    times: list[float] = []
    while len(points) < FEWEST_TIMED or (len(points) < TIMED and time.monotonic() < ends):
        points.append(draw(space, draws))
        times.append(latency(space.at(points[-1]).canonical()))
    return points, times


def _smallest(
    space: Space, objectives: Objectives, measure: Measure, points: list[Point]
) -> list[Architecture]:
    """The networks of the fewest MACs, parameters and blocks, and what is best within the known limits."""

    def worst(network: Architecture) -> float:
        return max(objectives.excess(measure(network)).values(), default=0.0)

    keys: list[Key] = [
        lambda network: measure(network)["macs"],
        lambda network: measure(network)["params"],
        # of as many blocks the one with the fewest MACs
        lambda network: len(network.blocks) + 1e-15 * measure(network)["macs"],
        worst,
    ]
    found = [_lowest(space, points, key)[1] for key in keys]
    return [space.at(point).canonical() for point in found]


def _lowest(space: Space, points: list[Point], key: Key) -> tuple[float, Point]:
    starts = sorted(points, key=lambda point: key(space.at(point).canonical()))[:STARTS]
    return min((descend(space, start, key) for start in starts), key=lambda found: found[0])


def _check_smallest(space: Space, objectives: Objectives, measure: Measure, points: list[Point]) -> None:
    """Look for a network that keeps to all limits."""

    def worst(network: Architecture) -> float:
        return max(objectives.excess(measure(network)).values())

    for name, limit in objectives.limits.items():

        def cost(network: Architecture, name: str = name) -> float:
            return measure(network)[name]

        least, _ = _lowest(space, points, cost)
        if least > limit:
            raise InputError(
                f"objective.limits.{name}: {limit:,g} is below what any network of this space has; the least "
                f"found is {least:,.6g}. Raise it, or let the space have smaller networks."
            )
    excess, point = _lowest(space, points, worst)
    if excess > 0:
        measures = measure(space.at(point).canonical())
        each = objectives.excess(measures)
        name = max(each, key=lambda name: each[name])
        raise InputError(
            f"objective.limits.{name}: no network of this space keeps to all limits at once; the nearest "
            f"found has {measures[name]:,.6g} where {objectives.limits[name]:,g} is the limit. Raise it, or "
            f"let the space have smaller networks."
        )
