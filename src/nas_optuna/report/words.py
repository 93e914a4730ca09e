"""Report: numbers and parts of a study in words."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from nas_optuna.report.facts import Facts, Row

COSTS = {
    "macs": "MACs",
    "params": "parameters",
    "memory": "bytes of activations",
    "size": "bytes of weights",
    "latency": "milliseconds",
}
Z = 1.96  # of a normal distribution, for 95 per cent
NOTHING = "-"


def cost(name: str, value: float | None) -> str:
    """A cost without its unit."""
    if value is None:
        return NOTHING
    return f"{value:.4g}" if name == "latency" else f"{value:,.0f}"


def accuracy(value: float | None) -> str:
    """Four digits, as everywhere in this project."""
    return NOTHING if value is None else f"{value:.4f}"


def mean_of(values: Sequence[float]) -> str:
    """Mean, and of several values its standard error."""
    if not values:
        return NOTHING
    mean = f"{statistics.mean(values):.4f}"
    if len(values) < 2:
        return mean
    return f"{mean} ± {statistics.stdev(values) / math.sqrt(len(values)):.4f}"


def share(part: float, whole: float) -> str:
    """A part in per cent."""
    return f"{part / whole:.1%}" if whole else NOTHING


def seconds(value: float) -> str:
    """A length of time."""
    if value < 100:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def interval(rate: float, count: int) -> tuple[float, float]:
    """Between which rates the true one lies with a confidence of 95 % (Wilson 1927).

    Args:
        rate: Observed.
        count: Over so many examples.
    """
    centre = (rate + Z**2 / (2 * count)) / (1 + Z**2 / count)
    spread = Z / (1 + Z**2 / count) * math.sqrt(rate * (1 - rate) / count + Z**2 / (4 * count**2))
    return max(0.0, centre - spread), min(1.0, centre + spread)


def costs_of(facts: Facts) -> list[str]:
    """The costs that tables show: MACs and parameters, and what else was asked for or limited."""
    asked = (*facts.objectives.names, *facts.objectives.limits)
    return list(dict.fromkeys(["macs", "params", *(name for name in asked if name in COSTS)]))


def tested_images(facts: Facts) -> int | None:
    """Over how many images the winner was tested, as far as they were counted."""
    return sum(map(sum, facts.confusion)) if facts.confusion else None


def tested(facts: Facts) -> str:
    """The test accuracy with its uncertainty."""
    assert facts.test is not None
    rate, count = facts.test["accuracy"], tested_images(facts)
    if count is None:
        return accuracy(rate)
    low, high = interval(rate, count)
    return f"{rate:.4f} (95 % interval {low:.4f} to {high:.4f}, {count:,} images)"


def lead(facts: Facts) -> str:
    """What came of the study, in a few sentences."""
    counts = ", ".join(f"{count:,} {name}" for name, count in facts.counts.items() if count)
    spent = f"{sum(facts.counts.values()):,} trial(s) in {seconds(facts.seconds)}{counts and ': '}{counts}."
    winner = facts.winner
    if winner is None:
        return f"No network was trained to the end within the limits. {spent}"
    found = f"Trial {winner.number} won: {_judged(facts, winner)}, "
    found += " and ".join(f"{cost(name, winner.costs.get(name))} {COSTS[name]}" for name in costs_of(facts))
    return f"{found}. {spent}"


def _judged(facts: Facts, winner: Row) -> str:
    if facts.test is not None and facts.test["number"] == winner.number:
        return f"test accuracy {accuracy(facts.test['accuracy'])}"
    fresh = facts.fresh.get(winner.number)
    known = mean_of(fresh) if fresh else accuracy(winner.accuracy)
    return f"validation accuracy {known}, not tested"


def group_of_settings(settings: Any) -> str:
    """A group of the configuration in a line: what it builds, and the settings that are one value."""
    if not isinstance(settings, Mapping):
        return NOTHING
    values = [
        f"{name}={value}"
        for name, value in settings.items()
        if name != "_target_" and value is not None and not isinstance(value, Mapping | list)
    ]
    return ", ".join([name_of(settings), *values])


def name_of(settings: Mapping[str, Any]) -> str:
    """The class that a group of the configuration builds."""
    return str(settings.get("_target_", NOTHING)).rpartition(".")[2]
