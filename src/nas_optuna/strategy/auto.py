"""Search strategy: the choice among strategies, where the user leaves it open."""

from __future__ import annotations

from nas_optuna.errors import check_number
from nas_optuna.strategy.predictor import PredictorSampler

FEW = 25  # trials up to which the fast goal was ahead on the tables of docs/strategies.md


def choose_sampler(*, n_trials: int | None = None, seed: int | None = None) -> PredictorSampler:
    """The strategy that did best on published tables, set for the budget.

    That is the predictor throughout: with one objective and several, with decisions that depend on
    one another and without. What the budget decides is its goal: ``best`` for more than 25 trials,
    ``fast`` for fewer, or where only the time is limited, in which few networks can be trained.

    Args:
        n_trials: The budget; None where the time decides.
        seed: Of the sampler's random numbers; None for others each time.

    Raises:
        InputError: ``n_trials`` is not a positive whole number.
    """
    if n_trials is not None:
        check_number("n_trials", n_trials, whole=True, at_least=1)
    return PredictorSampler(goal="best" if n_trials is not None and n_trials > FEW else "fast", seed=seed)
