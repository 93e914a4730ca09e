from __future__ import annotations

import numpy as np
import pytest
from scipy.special import stdtrit

from nas_optuna.estimation.extrapolation import Extrapolation, choose_rungs
from nas_optuna.estimation.stopping import StoppingRule, expected_gain

RUNGS = [1, 2, 4]


def walks(count: int, *, noise: float = 0.5, seed: int = 0) -> np.ndarray:
    """Curves whose lead shrinks by half to the second rung and grows by half to the third."""
    random = np.random.default_rng(seed)
    first = random.normal(size=count)
    second = 1.0 + 0.5 * first + noise * random.normal(size=count)
    third = 1.0 + 1.5 * second + noise * random.normal(size=count)
    return np.stack([first, second, third], axis=1)


def stop_below(values: np.ndarray, *, rung: int, share: float) -> np.ndarray:
    """What a study knows that stopped this part of them at a rung."""
    stopped = values.copy()
    stopped[values[:, rung] < np.quantile(values[:, rung], share), rung + 1 :] = np.nan
    return stopped


def nothing(count: int) -> np.ndarray:
    return np.empty((count, 0))


def test_forecast_is_not_biased_by_what_was_stopped() -> None:
    values = stop_below(stop_below(walks(3000), rung=0, share=0.6), rung=1, share=0.6)
    mean, deviation, _ = Extrapolation(RUNGS, values, nothing(3000)).forecast(1.0, 0)
    # from the chain that made them: 1 + 1.5 (1 + 0.5 x), noise 0.5 and 1.5 times 0.5
    assert mean == pytest.approx(3.25, abs=0.15)
    assert deviation == pytest.approx((0.25 + 0.75**2) ** 0.5, rel=0.15)


def test_forecast_covers_what_comes() -> None:
    chain = Extrapolation(RUNGS, walks(40), nothing(40))
    inside = 0
    for first, _, third in walks(300, seed=1):
        mean, deviation, _ = chain.forecast(first, 0)
        inside += abs(third - mean) < 1.64 * deviation
    assert 0.84 < inside / 300 < 0.97


def lucky_epochs(count: int, *, seed: int = 0) -> np.ndarray:
    """What networks are worth, with luck that is gone at the next rung."""
    random = np.random.default_rng(seed)
    return random.normal(size=(count, 1)) + 0.7 * random.normal(size=(count, 5))


@pytest.mark.parametrize("share", [0.0, 0.4])
def test_as_many_do_better_than_forecast_as_the_forecast_says(share: float) -> None:
    better = []
    for seed in range(5):
        values = lucky_epochs(200, seed=seed)
        for rung in range(4):
            values = stop_below(values, rung=rung, share=share)
        chain = Extrapolation([1, 2, 4, 8, 16], values, nothing(200))
        for row in lucky_epochs(300, seed=100 + seed):
            mean, deviation, freedom = chain.forecast(row[0], 0)
            better.append(row[-1] > mean + deviation * stdtrit(freedom, 0.98))
    assert 0.004 < np.mean(better) <= 0.02


def seen_by_few(count: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Values of few images, the last of many, and losses with less luck in them."""
    random = np.random.default_rng(seed)
    worth, luck = random.normal(size=(count, 1)), random.normal(size=(count, 2, 3))
    values = worth + np.array([0.7, 0.7, 0.1]) * luck[:, 0]
    return values, 3.0 - 0.5 * worth + 0.1 * luck[:, 1]


def test_losses_tell_what_few_images_do_not() -> None:
    values, losses = seen_by_few(100)
    alone, together = (Extrapolation(RUNGS, values, nothing(100), told) for told in (None, losses))
    misses = {"alone": [], "together": []}
    for row, lost in zip(*seen_by_few(300, seed=1), strict=True):
        misses["alone"].append(alone.forecast(row[0], 0)[0] - row[-1])
        misses["together"].append(together.forecast(together.read(row[0], 0, lost[0]), 0)[0] - row[-1])
    assert np.std(misses["together"]) < 0.6 * np.std(misses["alone"])
    assert together.forecast(0.0, 0)[1] < 0.7 * alone.forecast(0.0, 0)[1]


@pytest.mark.parametrize("share", [0.0, 0.4])
def test_with_losses_no_more_do_better_than_the_forecast_says(share: float) -> None:
    better = []
    for seed in range(5):
        values, losses = seen_by_few(200, seed=seed)
        stopped = stop_below(stop_below(values, rung=0, share=share), rung=1, share=share)
        chain = Extrapolation(RUNGS, stopped, nothing(200), np.where(np.isnan(stopped), np.nan, losses))
        for row, lost in zip(*seen_by_few(300, seed=100 + seed), strict=True):
            mean, deviation, freedom = chain.forecast(chain.read(row[0], 0, lost[0]), 0)
            better.append(row[-1] > mean + deviation * stdtrit(freedom, 0.98))
    assert np.mean(better) <= 0.02


def test_losses_that_tell_nothing_change_little() -> None:
    values, _ = seen_by_few(100)
    losses = np.random.default_rng(5).normal(size=values.shape)
    chain = Extrapolation(RUNGS, values, nothing(100), losses)
    read = [chain.read(value, 0, loss) for value, loss in zip(values[:, 0], losses[:, 0], strict=True)]
    assert np.std(read - values[:, 0]) < 0.15 * np.std(values[:, 0])


def test_value_without_a_loss_stays_as_it_is() -> None:
    values, losses = seen_by_few(100)
    assert Extrapolation(RUNGS, values, nothing(100), losses).read(0.3, 0) == 0.3
    unknown = Extrapolation(RUNGS, values, nothing(100), np.full_like(losses, np.nan))
    assert unknown.forecast(0.3, 0) == Extrapolation(RUNGS, values, nothing(100)).forecast(0.3, 0)


def test_one_boundless_loss_changes_little() -> None:
    values, losses = seen_by_few(100)
    values[0], clean = -5.0, losses.copy()
    losses[0] = 1e12
    read = [Extrapolation(RUNGS, values, nothing(100), told).read(0.5, 0, 2.5) for told in (clean, losses)]
    assert read[1] == pytest.approx(read[0], abs=0.1)


def test_a_handful_of_curves_leaves_the_forecast_wide() -> None:
    few, many = (
        [Extrapolation(RUNGS, walks(count, seed=seed), nothing(count)).forecast(2.0, 0) for seed in range(20)]
        for count in (3, 100)
    )
    assert np.mean([deviation for _, deviation, _ in few]) > np.mean([deviation for _, deviation, _ in many])
    assert all(freedom < 10 for *_, freedom in few)


def test_costs_count_in_the_forecast() -> None:
    random = np.random.default_rng(0)
    costs = random.normal(size=(200, 1))
    values = walks(200, noise=0.1)
    # dear networks rise late
    values[:, 2] += 2.0 * costs[:, 0]
    chain = Extrapolation(RUNGS, values, costs)
    cheap, dear = (chain.forecast(1.0, 1, [cost])[0] for cost in (-1.0, 1.0))
    assert dear - cheap == pytest.approx(4.0, rel=0.15)


def test_noise_of_bad_networks_says_nothing_of_good_ones() -> None:
    random = np.random.default_rng(0)
    first = random.uniform(size=400)
    erratic = np.where(first < 0.7, 1.0, 0.01)
    values = np.stack([first, first + 0.2 * erratic * random.normal(size=400)], axis=1)
    chain = Extrapolation([1, 2], values, nothing(400))
    assert chain.forecast(0.9, 0)[1] < 0.5 * chain.forecast(0.5, 0)[1]


def test_diverged_curves_do_not_move_the_others() -> None:
    values = walks(100)
    clean = Extrapolation(RUNGS, values, nothing(100)).forecast(1.0, 0)[0]
    values[:10, 1:] = -np.inf
    assert Extrapolation(RUNGS, values, nothing(100)).forecast(1.0, 0)[0] == pytest.approx(clean, abs=0.5)


@pytest.mark.parametrize(
    ("steps", "rungs"),
    [
        (range(1, 53), [1, 2, 4, 8, 16, 32, 52]),
        (range(15), [0, 1, 3, 7, 14]),
        ((12, 200), [12, 200]),
        (range(1, 4), [1, 2, 3]),
        ((1,), [1]),
    ],
)
def test_rungs_are_twice_as_far_each(steps: range | tuple[int, ...], rungs: list[int]) -> None:
    assert choose_rungs(list(steps)) == rungs


def test_nothing_is_stopped_at_a_rung_that_says_nothing() -> None:
    random = np.random.default_rng(0)
    values = np.stack([random.normal(size=200), random.normal(size=200)], axis=1)
    rule = StoppingRule(Extrapolation([1, 2], values, nothing(200)), best=values[:, 1].max())
    assert not any(rule.stops(value, 0) for value in (-1.0, 0.0, 1.0))


def test_hopeless_networks_are_stopped_at_a_rung_that_tells_them() -> None:
    random = np.random.default_rng(0)
    first = random.normal(size=200)
    values = np.stack([first, first + 0.1 * random.normal(size=200)], axis=1)
    rule = StoppingRule(Extrapolation([1, 10], values, nothing(200)), best=values[:, 1].max())
    stopped = [rule.stops(value, 0) for value in (-1.0, 0.0, 1.0, first.max() + 0.5)]
    assert stopped == [True, True, True, False]


def test_the_dearer_the_rest_the_sooner_a_training_is_stopped() -> None:
    values = walks(300)[:, :2]
    worst_kept = []
    for end in (2, 50):
        rule = StoppingRule(Extrapolation([1, end], values, nothing(300)), best=float(values[:, 1].max()))
        worst_kept.append(min(value for value in np.linspace(-3, 3, 100) if not rule.stops(value, 0)))
    assert worst_kept[0] < worst_kept[1]


def test_expected_gain_is_the_mean_excess() -> None:
    random = np.random.default_rng(0)
    drawn = 1.0 + 2.0 * random.normal(size=400_000)
    gain = expected_gain(np.array([1.0]), np.array([2.0]), 2.0)
    assert gain[0] == pytest.approx(np.maximum(drawn - 2.0, 0).mean(), rel=0.02)
