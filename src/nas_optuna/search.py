"""The one file that knows all parts: from a configuration to a trained, tested, saved network."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import optuna
from omegaconf import DictConfig
from optuna.trial import FrozenTrial, TrialState

from nas_optuna.artifacts import make_artifacts
from nas_optuna.claims import Claims
from nas_optuna.conclude import conclude
from nas_optuna.cores import threads_of_each, tune_process
from nas_optuna.crew import POLL_SECONDS, Crew
from nas_optuna.dashboard import Fresh
from nas_optuna.errors import NothingFound
from nas_optuna.estimation import FULL, Table, may_prune
from nas_optuna.files import to_json, write_file
from nas_optuna.interrupt import EXIT_CODE, Interrupt
from nas_optuna.lease import Watch
from nas_optuna.member import Job, run_trial
from nas_optuna.objective import INTERRUPTED, OUT_OF_TIME, Objective, rebuild
from nas_optuna.prepare import prepare
from nas_optuna.report import Facts, gather, write_report
from nas_optuna.results import (
    Display,
    Timing,
    dashboard_command,
    describe,
    front,
    summarize,
    table,
)
from nas_optuna.schedule import Schedule
from nas_optuna.storages import settle
from nas_optuna.study import (
    FAILURES_IN_A_ROW,
    UNTRAINED_IN_A_ROW,
    count_trained,
    ended_last,
    is_trained,
    read_trials,
    requeue,
    sweep_dead,
)

TIMING = "timing.json"
SHOWN = 5  # networks in the closing table


def search(config: DictConfig) -> float | tuple[float, ...]:
    """Search, compare the best, train the winner, test it, save it; resume where an earlier run stopped.

    Args:
        config: The composed configuration.

    Returns:
        The best trial's value, or values where there are several objectives.

    Raises:
        InputError: The request is wrong. Nothing was trained.
        NothingFound: No network was trained to the end. What is known was reported.
        SystemExit: The user interrupted. What is known was reported.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    tune_process()
    with Interrupt() as interrupt:
        run = Search(config, interrupt)
        with run.display:
            run.explore()
            run.conclude()
        run.report()
    if interrupt.requested:
        raise SystemExit(EXIT_CODE)
    if run.winner is None:
        raise NothingFound
    values = tuple(run.winner.values)
    return values[0] if len(values) == 1 else values


class Search:
    """One run of a search. Building it checks the request and opens the study; nothing is trained yet.

    Attributes:
        display: What the user sees.
        winner: The network that was chosen, once ``conclude`` has.
    """

    def __init__(self, config: DictConfig, interrupt: Interrupt) -> None:
        started = time.monotonic()
        self._interrupt = interrupt
        self._parts = prepare(config, started=started)
        self._study = self._parts.study
        self._objectives = self._parts.objectives
        self._timing = Timing(self._parts.folder / TIMING)
        known = self._study.user_attrs
        self._schedule = Schedule(
            timeout=self._parts.budget.timeout,
            share=self._parts.settings.search_share,
            trial_seconds=self._parts.plan.trial_seconds,
            started=started,
            earlier=known.get("seconds", 0.0),
            earlier_search=known.get("search_seconds", 0.0),
            has_found=bool(front(self._study, self._objectives)),
        )
        self.display = Display(
            budget=self._parts.budget, objectives=self._objectives, elapsed=self._schedule.seconds()
        )
        self.display.say(self._describe_plan())
        if self._parts.limits:
            self.display.say(self._parts.limits)
        self._fresh = self._make_fresh() if self._parts.dashboard else None
        self._said: set[str] = set()
        self.winner: FrozenTrial | None = None
        self._test: dict[str, Any] | None = None
        self._halt: str | None = None
        self._watch = Watch(self._study, seconds=self._parts.worker_config["lease"])

    def explore(self) -> None:
        """Run trials until the budget is spent or the user interrupts."""
        trials = read_trials(self._study)
        self.display.resume(trials)
        for trial in trials:
            self._schedule.take_in(trial)
        if self._parts.workers == 1:
            self._explore_alone()
        else:
            self._parts.data.share()
            Crew(self._job(), workers=self._parts.workers, chief=self).run()
        if not self._schedule.is_time_over():
            self._watch.wait_out(lambda: self._interrupt.requested or self._halt)
        for files in (self._parts.kept, self._parts.heirs):
            if files is not None and not self._interrupt.requested:
                files.clear()
        if self._halt:
            self.display.say(f"the search stops here: {self._halt}")

    def may_start(self, *, asking: int) -> bool | None:
        """Whether a worker may ask for a network; None while that depends on those that run."""
        self._look_for_lost()
        schedule = self._schedule
        if self._interrupt.requested or self._halt or schedule.is_over() or schedule.is_too_late():
            return False
        limit, is_late = self._parts.budget.n_trials, schedule.is_time_over()
        if limit is None and not is_late:
            return True
        trials = read_trials(self._study)
        running = sum(trial.state == TrialState.RUNNING for trial in trials)
        if is_late and (running or asking):
            # one at a time is enough for a winner
            return None
        claimed = count_trained(trials) + asking
        if limit is None or claimed < limit:
            return True
        # those that run may yet turn out to cost nothing
        return None if claimed - asking - running < limit else False

    def stop_reason(self) -> str | None:
        """Why trainings shall stop, or None."""
        self._look_for_lost()
        if self._interrupt.requested:
            return INTERRUPTED
        return OUT_OF_TIME if self._schedule.is_over() else None

    def is_interrupted(self) -> bool:
        """Whether the user waits for the end."""
        return self._interrupt.requested

    def _look_for_lost(self) -> None:
        """Queue again what workers of other machines left that give no sign of life."""
        if lost := self._watch.sweep():
            self.display.say(f"the workers of trial {', '.join(map(str, lost))} are gone: queued again")

    def running(self, what: str, *, worker: int = 0) -> None:
        """A worker begins a training."""
        self.display.running(what, worker=worker)

    def epoch(self, epoch: int, accuracy: float | None, epochs: int, *, worker: int = 0) -> None:
        """An epoch of it ended."""
        self.display.epoch(epoch, accuracy, epochs, worker=worker)

    def ended(self, number: int, seconds: dict[str, float], *, worker: int = 0) -> None:
        """A worker's trial ended."""
        self._after(number, read_trials(self._study))
        self._timing.add(number, seconds)

    def say(self, text: str) -> None:
        """A worker has something to say; what others said is not said again."""
        if text not in self._said:
            self.display.say(text)
        self._said.add(text)

    def died(self, exit_code: int | None, *, worker: int, starts_again: bool) -> None:
        """A worker's process ended unasked: what it had begun is queued again."""
        lost = sweep_dead(self._study)
        again = "; another one takes its place" if starts_again else ""
        trials = f", and with it trial {', '.join(map(str, lost))}" if lost else ""
        self.display.say(f"worker {worker} ended with exit code {exit_code}{trials}{again}")

    def _explore_alone(self) -> None:
        objective = Objective(
            space=self._parts.space,
            data=self._parts.data,
            training=self._parts.training,
            objectives=self._objectives,
            fidelity=self._parts.plan.fidelity,
            seed=self._parts.seed,
            progress=self.display,
            stop_reason=self.stop_reason,
            duplicates=self._parts.duplicates,
            latency=self._parts.latency,
            proxies=self._parts.proxies,
            kept=self._parts.kept,
            heirs=self._parts.heirs,
            artifacts=make_artifacts(
                self._parts.folder,
                self._parts.dashboard,
                input_shape=self._parts.data.input_shape,
                classes=len(self._parts.data.classes),
                say=self.say,
            ),
            lease=self._parts.worker_config["lease"],
            claims=Claims(self._study),
        )
        while (answer := self.may_start(asking=0)) is not False:
            if answer is None:
                time.sleep(POLL_SECONDS)
                continue
            trial, seconds = run_trial(self._study, objective, read_trials(self._study))
            self.ended(trial.number, seconds)

    def _job(self) -> Job:
        return Job(
            index=0,
            config=self._parts.worker_config,
            data=self._parts.data,
            fidelity=self._parts.plan.fidelity,
            threads=threads_of_each(self._parts.workers),
        )

    def conclude(self) -> None:
        """Compare the best networks with fresh seeds; train, test and save the winner."""
        has_time = not self._interrupt.requested
        self.winner, self._test = conclude(
            self._parts, display=self.display, interrupt=self._interrupt, seconds=self._schedule.seconds
        )
        if has_time:
            self._remember_seconds()

    def report(self) -> None:
        """Write ``summary.json`` and print the best networks and how to look at the study."""
        best = [(trial, rebuild(self._parts.space, trial)) for trial in front(self._study, self._objectives)]
        fresh = {trial.number: self._study.user_attrs.get(f"fresh:{trial.number}") for trial, _ in best}
        summary = summarize(
            self._study,
            self._objectives,
            storage=self._parts.storage,
            seed=self._parts.seed,
            seconds=self._schedule.seconds(),
            best=next(((trial, found) for trial, found in best if trial == self.winner), None),
            front=best,
            fresh={number: values for number, values in fresh.items() if values},
            test=self._test,
            timing=self._timing.totals(),
        )
        write_file(self._parts.folder / "summary.json", to_json(summary))
        self._timing.save()
        say = self.display.say
        counts = ", ".join(f"{count} {name}" for name, count in summary["trials"].items() if count)
        say(f"\n{self._study.study_name}: {counts or 'no trial'} in {self._schedule.seconds():.0f} s")
        if best:
            shown = best if len(self._objectives.names) > 1 else best[:SHOWN]
            self.display.console.print(
                table(self._objectives, shown, winner=self.winner.number if self.winner else None)
            )
        else:
            say("No network was trained to the end. Give more trials or time, or look at the trials' errors.")
        if heirs := summary["inherited"]["networks"]:
            skipped = summary["inherited"]["epochs_skipped"]
            say(f"{heirs} networks began with the weights of others and skipped {skipped} epochs")
        if text := self._timing.describe():
            say(text)
        page, _ = write_report(self._facts(), self._parts.folder)
        if self._fresh is not None:
            self._fresh.finish()
        if self._test:
            say(f"test accuracy of trial {self._test['number']}: {self._test['accuracy']:.4f}")
            if not isinstance(self._parts.training, Table):
                say(f"the trained network: {self._parts.folder / 'final'}")
        say(f"summary: {self._parts.folder / 'summary.json'}")
        say(f"report: {page}")
        say(f"look at the study: {dashboard_command(self._parts.folder, self._parts.storage)}")

    def _make_fresh(self) -> Fresh:
        return Fresh(
            self._study,
            objectives=self._objectives,
            space=self._parts.space,
            folder=self._parts.folder,
            say=self.display.say,
        )

    def _facts(self) -> Facts:
        parts = self._parts
        return gather(parts.study, objectives=parts.objectives, space=parts.space, folder=parts.folder)

    def _describe_plan(self) -> str:
        plan, settings, timeout = self._parts.plan, self._parts.settings, self._parts.budget.timeout
        fidelity, pruner = plan.fidelity, self._parts.training.pruner
        rungs = f", {fidelity.rung_images} where pruners decide" if fidelity.rung_images else ""
        judges = (
            f"{fidelity.validation_images}{rungs}, at the end all" if fidelity.validation_images else "all"
        )
        text = f"plan: {describe(fidelity)} a network, judged on {judges} validation images"
        if plan.trial_seconds and timeout:
            text += (
                f"; about {plan.trial_seconds:.0f} s a full training, "
                f"{timeout * settings.search_share:.0f} s of search, "
                f"{timeout * settings.final_share:.0f} s of final training"
            )
        if self._parts.training.scale != FULL:
            text += f"; a trial sees {self._parts.training.scale}"
        if self._parts.proxies is not None:
            text += f"; measured: {self._parts.proxies.settings}"
        if not isinstance(pruner, optuna.pruners.NopPruner) and not may_prune(self._study):
            text += f"; {type(pruner).__name__} rests: with several objectives take estimation=curves"
        return text

    def _after(self, number: int, trials: Sequence[FrozenTrial]) -> None:
        study, trial = self._study, trials[number]
        self.display.ended(trial)
        self._schedule.take_in(trial)
        if trial.user_attrs.get("stopped") == INTERRUPTED:
            requeue(study, trial)
        for files in (self._parts.kept, self._parts.heirs):
            if files is not None:
                files.tidy(study, trials)
        study.set_user_attr("search_seconds", round(self._schedule.search_seconds(), 2))
        self._remember_seconds()
        if self._fresh is not None:
            self._fresh.after_trial()
        if "error" in trial.user_attrs and self._have_last_failed(trials):
            self._halt = (
                f"the last {FAILURES_IN_A_ROW} networks failed, this one with {trial.user_attrs['error']}; "
                "its traceback is the trial's user attribute 'traceback'"
            )
        if not is_trained(trial) and self._were_last_known(trials):
            self._halt = (
                f"the last {UNTRAINED_IN_A_ROW} networks were known already or beyond the limits "
                f"{self._objectives.limits}: widen the space or the limits"
            )

    @staticmethod
    def _have_last_failed(trials: Sequence[FrozenTrial]) -> bool:
        # what was not trained could not fail
        last = ended_last(filter(is_trained, trials), FAILURES_IN_A_ROW)
        return len(last) == FAILURES_IN_A_ROW and all("error" in trial.user_attrs for trial in last)

    @staticmethod
    def _were_last_known(trials: Sequence[FrozenTrial]) -> bool:
        last = ended_last(trials, UNTRAINED_IN_A_ROW)
        return len(last) == UNTRAINED_IN_A_ROW and not any(map(is_trained, last))

    def _remember_seconds(self) -> None:
        self._study.set_user_attr("seconds", round(self._schedule.seconds(), 2))
        settle(self._parts.storage)
