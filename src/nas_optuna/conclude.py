"""The end of a search: the best few are compared; the winner is trained to the end, tested once and saved."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

from optuna.trial import FrozenTrial

from nas_optuna.estimation import Fidelity, Table, plan_final
from nas_optuna.interrupt import Interrupt
from nas_optuna.objective import rebuild
from nas_optuna.prepare import Parts
from nas_optuna.results import (
    Display,
    Finals,
    FinalTrainingFailed,
    Interrupted,
    Race,
    front,
    plan_race,
)
from nas_optuna.space import Architecture
from nas_optuna.study import is_counted


def conclude(
    parts: Parts, *, display: Display, interrupt: Interrupt, seconds: Callable[[], float]
) -> tuple[FrozenTrial | None, dict[str, Any] | None]:
    """Compare the best networks with fresh seeds; train, test and save the winner.

    Args:
        parts: The search.
        display: What the user sees.
        interrupt: Whether the user waits for the end; then the best so far wins.
        seconds: How much of the budget is spent.

    Returns:
        The winner, None where no network was trained to the end within the limits; and its test, see
        ``Finals.train``, None where it did not take place.
    """
    best = [(trial, rebuild(parts.space, trial)) for trial in front(parts.study, parts.objectives)]
    if not best:
        return None, None
    winner, architecture = best[0]
    if interrupt.requested:
        return winner, None
    finals = Finals(
        study=parts.study,
        objectives=parts.objectives,
        data=parts.data,
        training=parts.training,
        display=display,
        interrupt=interrupt,
        seed=parts.seed,
        fidelity=parts.plan.fidelity,
        folder=parts.folder / "final",
    )
    try:
        finalists, race = plan_comparison(parts, [trial for trial, _ in best])
        winner, architecture = finals.choose(best[:finalists], race=race)
        return winner, _train(parts, finals, winner, architecture, seconds=seconds)
    except Interrupted:
        pass
    except FinalTrainingFailed as error:
        display.say(str(error))
    return winner, None


def plan_comparison(parts: Parts, best: Sequence[FrozenTrial]) -> tuple[int, Race]:
    """How many of the best are compared, and how often each is trained: what the plan affords."""
    final, budget, share = parts.final, parts.budget, parts.settings.finalists_share
    finalists = min(final.finalists, len(best))
    if final.seeds is not None:
        return finalists, Race(final.seeds, final.seeds, finalists * final.seeds)
    seconds = _seconds_of(parts, best[:finalists])
    if budget.timeout is None or seconds is None:
        return plan_race(finalists, trials=budget.n_trials, share=share)
    return plan_race(finalists, affordable=int(share * budget.timeout / seconds))


def _seconds_of(parts: Parts, trials: Sequence[FrozenTrial]) -> float | None:
    """Seconds of a full training of these networks, as their trials took; else the plan's."""
    plan, scale = parts.plan, parts.training.scale
    took = [trial.duration.total_seconds() for trial in trials if is_counted(trial) and trial.duration]
    if not took:
        return plan.full_seconds
    if plan.trial_seconds and plan.full_seconds:
        return statistics.median(took) * plan.full_seconds / plan.trial_seconds
    # nothing was timed, because the length was given: MACs grow with the squares of both
    return statistics.median(took) / (scale.width * scale.resolution) ** 2


def _train(
    parts: Parts,
    finals: Finals,
    winner: FrozenTrial,
    architecture: Architecture,
    *,
    seconds: Callable[[], float],
) -> dict[str, Any]:
    timeout, final = parts.budget.timeout, parts.final

    def fidelity() -> Fidelity:
        if isinstance(parts.training, Table):
            return parts.plan.fidelity
        if timeout is None or final.epochs is not None:
            return Fidelity(final.epochs or 2 * parts.plan.fidelity.epochs, final.data_share or 1.0)
        # what the comparison left is the winner's
        left = max(timeout - seconds(), timeout * parts.settings.final_share)
        planned = plan_final(parts.training, architecture, parts.data, seconds=left, settings=parts.settings)
        return Fidelity(planned.epochs, final.data_share or planned.data_share)

    return finals.train(
        winner,
        architecture,
        request={
            "epochs": final.epochs,
            "data_share": final.data_share,
            "timeout": timeout if final.epochs is None else None,
        },
        fidelity=fidelity,
    )
