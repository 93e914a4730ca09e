"""Whether a difference is more than luck."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from nas_optuna.comparison import Difference, compare_seeds
from nas_optuna.comparison.difference import adjust
from nas_optuna.comparison.verdict import sentence, too_few


def by_seed(*values: float) -> dict[int, float]:
    return dict(enumerate(values))


def compared(first: dict[int, float], second: dict[int, float]) -> Difference:
    difference = compare_seeds(first, second)
    assert difference is not None
    return difference


def say(difference: Difference) -> str:
    return sentence(difference, first="auto", second="random", what="tested accuracy")


def test_clear_difference_is_called_one() -> None:
    difference = compared(
        by_seed(0.92, 0.93, 0.91, 0.92, 0.94, 0.93), by_seed(0.9, 0.9, 0.89, 0.9, 0.91, 0.9)
    )
    assert not difference.is_luck
    assert too_few(difference) is None
    # all six signs alike: two of 64 ways
    assert difference.p == pytest.approx(2 / 64)
    assert "auto's tested accuracy is 2.50 points higher than random's on average" in say(difference)
    assert "more than luck explains (p = 0.031)" in say(difference)
    assert "higher in 6 of 6 seeds" in say(difference)


def test_equal_groups_are_called_luck() -> None:
    values = by_seed(0.9, 0.91, 0.92, 0.9, 0.91, 0.92, 0.9)
    difference = compared(values, values)
    assert (difference.p, difference.mean, difference.needed) == (1.0, 0.0, None)
    assert "could be luck (p = 1)" in say(difference)


def test_noise_is_rarely_called_a_difference() -> None:
    random = np.random.default_rng(0)
    called = 0
    for _ in range(400):
        first, second = random.normal(0.9, 0.01, (2, 8))
        called += not compared(by_seed(*first), by_seed(*second)).is_luck
    # at most one in twenty in the long run
    assert called <= 30


def test_three_seeds_cannot_show_anything_and_the_verdict_says_so() -> None:
    difference = compared(by_seed(0.92, 0.93, 0.94), by_seed(0.82, 0.83, 0.84))
    assert difference.p == difference.smallest_p == 0.25
    assert too_few(difference) == (
        "With 3 seeds each p is 0.25 at the least, however large the difference, and at most 0.05 counts as "
        "more than luck: so few can show none."
    )
    assert "About 6 seeds each would be needed" in say(difference)


def test_same_seeds_are_compared_seed_by_seed() -> None:
    # seeds scatter by ten points, the groups differ by one in each
    first = by_seed(0.71, 0.75, 0.81, 0.85, 0.91, 0.61)
    second = {seed: value - 0.01 - 0.001 * seed for seed, value in first.items()}
    assert not compared(first, second).is_luck
    assert compared(first, {seed + 1: value for seed, value in second.items()}).is_luck


def test_other_seeds_are_compared_as_groups() -> None:
    difference = compared(by_seed(0.9, 0.91, 0.92, 0.93), {10: 0.8, 11: 0.81, 12: 0.79, 13: 0.8})
    # one division of 70 and its mirror image set the means so far apart
    assert difference.p == pytest.approx(2 / 70)
    assert difference.better is None
    assert "With 4 seeds each" in say(difference)


def test_interval_of_pairs_is_students() -> None:
    gains = [0.01, 0.02, 0.015, 0.03]
    difference = compared(by_seed(*gains), by_seed(0, 0, 0, 0))
    expected = stats.ttest_1samp(gains, 0).confidence_interval()
    assert (difference.low, difference.high) == pytest.approx((expected.low, expected.high))


def test_interval_of_groups_is_welchs() -> None:
    first, second = [0.9, 0.92, 0.91], [0.8, 0.85]
    difference = compared(by_seed(*first), by_seed(*second))
    expected = stats.ttest_ind(first, second, equal_var=False).confidence_interval()
    assert (difference.low, difference.high) == pytest.approx((expected.low, expected.high))
    assert "With 3 and 2 seeds" in say(difference)


def test_interval_that_leaves_0_out_does_not_overrule_the_test() -> None:
    difference = compared(by_seed(0.92, 0.921, 0.922), by_seed(0.9, 0.9, 0.9))
    assert difference.low > 0
    assert "could be luck" in say(difference)
    assert "leaves 0 out only if seeds scatter normally" in say(difference)


def test_more_seeds_are_needed_where_seeds_scatter_more() -> None:
    quiet = compared(by_seed(0.01, 0.02, 0.015), by_seed(0, 0, 0))
    loud = compared(by_seed(-0.03, 0.06, 0.015), by_seed(0, 0, 0))
    assert quiet.needed == 6
    assert loud.needed is not None
    assert loud.needed > 30


def test_needed_seeds_have_the_power_that_is_said() -> None:
    difference = compared(by_seed(0.0, 0.02, 0.04, 0.0), by_seed(0, 0, 0, 0))
    assert difference.needed is not None
    random = np.random.default_rng(0)
    deviation = np.std([0.0, 0.02, 0.04, 0.0], ddof=1)
    drawn = random.normal(0.015, deviation, (4000, difference.needed))
    shown = stats.ttest_1samp(drawn, 0, axis=1).pvalue <= 0.05
    assert 0.78 < shown.mean() < 0.9


def test_one_seed_tells_nothing() -> None:
    assert compare_seeds(by_seed(0.9), by_seed(0.1)) is None


def test_many_seeds_are_drawn_instead_of_counted() -> None:
    random = np.random.default_rng(1)
    gains = random.normal(0.01, 0.02, 30)
    difference = compared(by_seed(*gains), by_seed(*[0.0] * 30))
    assert difference.p == pytest.approx(stats.ttest_1samp(gains, 0).pvalue, abs=0.01)


def test_several_comparisons_are_adjusted_for() -> None:
    clear = compared(by_seed(1, 2, 3, 4, 5, 6), by_seed(0, 0, 0, 0, 0, 0))
    unclear = compared(by_seed(1, -1, 1, -1, 1, -1), by_seed(0, 0, 0, 0, 0, 0))
    adjusted = adjust([unclear, clear])
    assert [difference.p for difference in adjusted] == [1.0, 2 * clear.p]
    assert adjusted[1].is_luck
    # of 2^7 ways two are few enough for one of two comparisons
    assert adjusted[1].needed == 7
    assert "adjusted for 2 comparisons" in say(adjusted[1])
