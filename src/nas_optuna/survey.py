"""A search space in figures before anything is trained: decisions, size, costs, what fits the limits."""

from __future__ import annotations

import random
import re
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table
from rich.text import Text

from nas_optuna.configuration import build, build_space, plain
from nas_optuna.data import LabelledData
from nas_optuna.errors import InputError, check_number
from nas_optuna.estimation import COSTS, Objectives
from nas_optuna.latency import LATENCY, LatencyMeter, LatencySettings
from nas_optuna.limits import Share, descend, describe_latency_limit, draw
from nas_optuna.prepare import check_networks
from nas_optuna.space import Architecture, Choice, Costs, Space, measure_costs, resolve_seeds
from nas_optuna.space.diagram import draw as draw_diagram

ASSUMED_CLASSES = 10
STARTS = 5  # of the climb to the smallest and the largest
PLAIN_WIDTH = 160  # characters of a line where the output is no terminal
MOST_OPTIONS = 12  # of a decision that are spelt out

Values = dict[str, Any]


@dataclass(frozen=True)
class SurveySettings:
    """How much of a space is shown.

    Attributes:
        samples: Random networks to show.
        networks: Random networks behind shares and quartiles.
        latency: Whether the smallest and the largest network are timed.
        svg: A folder for diagrams of the networks that are shown; None for none.
    """

    samples: int
    networks: int
    latency: bool
    svg: str | None

    def __post_init__(self) -> None:
        check_number("survey.samples", self.samples, whole=True, at_least=0)
        check_number("survey.networks", self.networks, whole=True, at_least=max(10, self.samples))
        if not isinstance(self.latency, bool):
            raise InputError(f"survey.latency: {self.latency!r} must be true or false.")
        if self.svg is not None and (not isinstance(self.svg, str) or not self.svg):
            raise InputError(f"survey.svg: {self.svg!r} must be the name of a folder, or null.")


def survey(config: DictConfig) -> None:
    """Print the space of a configuration.

    Raises:
        InputError: The space, the limits or the data can't be had.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    values = plain(config, "survey")
    if not isinstance(values, dict) or set(values) != set(SurveySettings.__annotations__):
        known = ", ".join(SurveySettings.__annotations__)
        raise InputError(f"survey: {values!r} must have exactly the keys {known}.")
    settings = SurveySettings(**values)
    check_number("seed", config.seed, whole=True, at_least=0)
    objectives: Objectives = build(config, "objective")
    LatencySettings.read(objectives.latency)
    space = build_space(config)
    resolve_seeds(space)
    data: LabelledData = build(config, "data")
    shape, classes = data.expect()
    Survey(space, objectives, shape, classes, settings=settings, seed=config.seed).show()


class Survey:
    """One look at a space.

    Args:
        space: What is looked at.
        objectives: Their limits.
        input_shape: Without the batch axis.
        classes: How many; None where the data does not say so yet.
        settings: How much is shown.
        seed: Of the random networks.
    """

    def __init__(
        self,
        space: Space,
        objectives: Objectives,
        input_shape: tuple[int, ...],
        classes: int | None,
        *,
        settings: SurveySettings,
        seed: int,
    ) -> None:
        self._space = space
        self._objectives = objectives
        self._shape = input_shape
        self._classes = classes or ASSUMED_CLASSES
        self._assumed = classes is None
        self._settings = settings
        self._random = random.Random(seed)
        check_networks(space, input_shape, self._classes)
        self.console = Console(highlight=False, soft_wrap=True)
        if not self.console.is_terminal:
            self.console.width = PLAIN_WIDTH

    def show(self) -> None:
        """Print everything."""
        points = [draw(self._space, self._random) for _ in range(self._settings.networks)]
        costs = [self._cost(point) for point in points]
        assumed = " (assumed: the data is not here)" if self._assumed else ""
        self._say(f"networks for inputs of {_times(self._shape)} and {self._classes} classes{assumed}\n")
        self.console.print(self._decisions())
        open_decisions = self._space.distributions()
        self._say(
            f"\n{len(open_decisions)} decisions, {self._space.points:,} combinations, {self._space.size()}; "
            f"{self._space.encoding} encoding\n"
        )
        shown = self._shown(points, costs)
        self.console.print(self._networks(shown))
        self._say(f"\nof {len(points):,} random networks, each decision drawn alike:")
        for name in COSTS:
            self._say(_quartiles(name, [getattr(cost, name) for cost in costs]))
        for line in self._limits(costs):
            self._say(line)
        if self._settings.latency or LATENCY in self._objectives.limits:
            self._latencies(shown)
        if self._settings.svg is not None:
            self._diagrams(Path(self._settings.svg), shown)

    def _say(self, text: str) -> None:
        self.console.print(Text(text))

    def _cost(self, point: Values) -> Costs:
        return self._measure(self._space.at(point).canonical())

    def _measure(self, network: Architecture) -> Costs:
        return measure_costs(network, input_shape=self._shape, classes=self._classes)

    def _decisions(self) -> Table:
        view = Table(box=None, pad_edge=False)
        view.add_column("decision")
        view.add_column("options", overflow="fold")
        rows: dict[tuple[str, tuple[Any, ...]], int] = {}
        for name, choice in self._space.decisions.items():
            key = (re.sub(r"(block|layer)\d+", r"\1*", name), choice.options)
            rows[key] = rows.get(key, 0) + 1
        for (name, options), count in rows.items():
            times = f"  (x {count})" if count > 1 else ""
            view.add_row(Text(name), Text(_options(Choice(options)) + times))
        return view

    def _shown(self, points: Sequence[Values], costs: Sequence[Costs]) -> dict[str, Architecture]:
        """Smallest, seeds, samples, largest: by name."""
        order = sorted(range(len(points)), key=lambda index: costs[index].macs)
        smallest = [self._extreme(points[index], sign=1) for index in order[:STARTS]]
        largest = [self._extreme(points[index], sign=-1) for index in order[-STARTS:]]
        shown = {"smallest": min(smallest, key=_first)[1]}
        shown |= {label: self._space.at(values) for label, values in resolve_seeds(self._space).items()}
        shown |= {
            f"random {number}": self._space.at(point)
            for number, point in enumerate(points[: self._settings.samples], start=1)
        }
        shown["largest"] = min(largest, key=_first)[1]
        return {name: architecture.canonical() for name, architecture in shown.items()}

    def _extreme(self, point: Values, *, sign: int) -> tuple[float, Architecture]:
        """The fewest (or, by their negative, most) MACs near a point."""
        best, found = descend(self._space, point, lambda network: sign * self._measure(network).macs)
        return best, self._space.at(found)

    def _networks(self, shown: dict[str, Architecture]) -> Table:
        view = Table(box=None, pad_edge=False)
        for name in ("", "MACs", "parameters", "memory", "size", "network"):
            view.add_column(name, justify="left" if name in ("", "network") else "right", overflow="fold")
        for label, architecture in shown.items():
            costs = measure_costs(architecture, input_shape=self._shape, classes=self._classes)
            view.add_row(
                Text(label),
                f"{costs.macs:,}",
                f"{costs.params:,}",
                _bytes(costs.memory),
                _bytes(costs.size),
                Text(str(architecture)),
            )
        return view

    def _limits(self, costs: Sequence[Costs]) -> Iterator[str]:
        limits = self._objectives.without_limit(LATENCY).limits
        if not self._objectives.limits:
            yield "no limits are set: objective.limits.macs, params, memory, size, latency"
            return
        for name, limit in limits.items():
            fitting = sum(getattr(cost, name) <= limit for cost in costs)
            yield f"{name} at most {limit:,.0f}: {Share(fitting, len(costs))}"
        if len(limits) > 1:
            fitting = sum(self._objectives.fits(vars(cost)) for cost in costs)
            yield f"all limits: {Share(fitting, len(costs))}"

    def _latencies(self, shown: dict[str, Architecture]) -> None:
        settings = LatencySettings.read(self._objectives.latency)
        meter = LatencyMeter(settings, input_shape=self._shape, classes=self._classes)
        meter.check(shown["smallest"])
        if LATENCY in self._objectives.limits:
            self._say(
                describe_latency_limit(
                    self._space, self._objectives, lambda network: vars(self._measure(network)), meter
                )
            )
        for label in ("smallest", "largest") if self._settings.latency else ():
            if settings.measure is not None:
                self._say(f"latency of the {label}: {meter(shown[label]):.3g} ms")
                continue
            for form in dict.fromkeys(("eager", "exported", settings.form)):
                latency = meter.time(shown[label], form=form)
                self._say(
                    f"latency of the {label}, {form}: {latency}, {latency.repeats} batches of "
                    f"{latency.batch_size} on {latency.threads} CPU thread(s)"
                )

    def _diagrams(self, folder: Path, shown: dict[str, Architecture]) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for label, architecture in shown.items():
                name = re.sub(r"\W+", "-", label).strip("-")
                picture = draw_diagram(architecture, input_shape=self._shape, classes=self._classes)
                (folder / f"{name}.svg").write_text(picture, encoding="utf-8")
        except OSError as error:
            raise InputError(f"survey.svg: can't write to {str(folder)!r} ({error.strerror}).") from error
        self._say(f"diagrams: {folder}")


def _first(pair: tuple[float, Architecture]) -> float:
    return pair[0]


def _options(choice: Choice) -> str:
    options = [str(option).lower() if isinstance(option, bool) else str(option) for option in choice.options]
    if len(options) == 1:
        return f"{options[0]} (fixed)"
    if len(options) > MOST_OPTIONS:
        return f"{options[0]}, {options[1]}, ... {options[-1]}"
    return ", ".join(options)


def _quartiles(name: str, values: Sequence[int]) -> str:
    words = _bytes if name in ("memory", "size") else "{:,}".format
    low, middle, high = (words(round(value)) for value in statistics.quantiles(values, n=4))
    return (
        f"  {name}: {words(min(values))} to {words(max(values))}, median {middle}, "
        f"half of them between {low} and {high}"
    )


def _bytes(count: int) -> str:
    return f"{count / 1024:,.0f} KiB"


def _times(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
