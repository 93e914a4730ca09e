"""Comparison: what a difference between groups means, in plain sentences."""

from __future__ import annotations

from nas_optuna.comparison.contrasts import NETWORKS
from nas_optuna.comparison.difference import LEVEL, MOST_SEEDS, Difference


def describe_budget(amount: float, over: str) -> str:
    """So many networks or seconds."""
    if over == NETWORKS:
        return f"{amount:.0f} networks"
    return f"{amount:.{0 if amount >= 10 else 1}f} s"


def sentence(difference: Difference, *, first: str, second: str, what: str, unit: str = "points") -> str:
    """A verdict.

    Args:
        difference: Of parts of one, as accuracies are.
        first, second: The groups.
        what: What was measured, such as ``tested accuracy``; more is better.
        unit: What a hundredth of it is called.
    """
    said = f"With {_seeds(difference)}, {first}'s {what} is {_size(difference, unit)} {second}'s on average"
    said += f" (95 % interval {_signed(difference.low)} to {_signed(difference.high)}{_in_seeds(difference)})"
    if not difference.is_luck:
        return f"{said}. That is more than luck explains ({_p(difference)})."
    return f"{said}. That could be luck ({_p(difference)}).{_no_normal(difference)}{_needed(difference)}"


def too_few(difference: Difference) -> str | None:
    """Why no difference, however large, could have been shown; None where one could."""
    if difference.smallest_p <= LEVEL:
        return None
    return (
        f"With {_seeds(difference)} p is {difference.smallest_p:.2g} at the least, however large the "
        f"difference, and at most {LEVEL} counts as more than luck: so few can show none."
    )


def one_seed(first: str, second: str) -> str:
    """The verdict where a group has one seed."""
    return (
        f"Nothing can be concluded about {first} and {second}: one seed says nothing of what another would "
        "bring. Six seeds each are the fewest that can show a difference: seed=0,1,2,3,4,5."
    )


def _seeds(difference: Difference) -> str:
    first, second = difference.seeds
    return f"{first} seeds each" if first == second else f"{first} and {second} seeds"


def _signed(value: float) -> str:
    return f"{100 * value:+.2f}"


def _in_seeds(difference: Difference) -> str:
    if difference.better is None:
        return ""
    return f", higher in {difference.better} of {difference.seeds[0]} seeds"


def _p(difference: Difference) -> str:
    among = f", adjusted for {difference.comparisons} comparisons" if difference.comparisons > 1 else ""
    return f"p = {difference.p:.2g}{among}"


def _size(difference: Difference, unit: str) -> str:
    if difference.mean == 0:
        return "the same as"
    return f"{abs(100 * difference.mean):.2f} {unit} {'higher' if difference.mean > 0 else 'lower'} than"


def _no_normal(difference: Difference) -> str:
    if difference.low <= 0 <= difference.high:
        return ""
    return " The interval leaves 0 out only if seeds scatter normally, which the test does not assume."


def _needed(difference: Difference) -> str:
    if difference.mean == 0:
        return ""
    if difference.needed is None:
        return f" More than {MOST_SEEDS} seeds each would be needed to show a difference this small."
    needed = max(difference.needed, max(difference.seeds) + 1)
    return f" About {needed} seeds each would be needed to show it, if it is as it looks."
