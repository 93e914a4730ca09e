"""What may be wrong with a study: found, said in a line each, and mended on request."""

from __future__ import annotations

import json
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import optuna
from omegaconf import DictConfig, OmegaConf
from optuna.trial import FrozenTrial, TrialState

from nas_optuna.attributes import PROMOTES
from nas_optuna.errors import InputError, NothingFound, check_number
from nas_optuna.files import TEMPORARY, files_below, remove_temporaries
from nas_optuna.kept import CHECKPOINTS
from nas_optuna.lease import SECONDS, Watch, bring_back
from nas_optuna.reopen import address_of, find_at, open_again
from nas_optuna.results import FINAL, Lines
from nas_optuna.storages import path_of
from nas_optuna.study import BUDGET_LEFT, CONFIGURATION, dead, is_counted, is_feasible, sweep_dead

SAID = (CONFIGURATION, BUDGET_LEFT, "plan", "fingerprint")
SKEW = timedelta(seconds=5)


@dataclass(frozen=True)
class Finding:
    """Something that is wrong.

    Attributes:
        text: What, and the cure, in a line.
        mend: Cures it; None where only the user can.
    """

    text: str
    mend: Callable[[], object] | None = None


def examine(config: DictConfig) -> float:
    """Say what is wrong with a study, a line each.

    Args:
        config: The composed configuration of ``doctor.yaml``.

    Returns:
        How many findings were mended.

    Raises:
        InputError: The request is wrong, or there is no such study.
        NothingFound: Something is wrong and was not mended.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage, given = config.get("storage"), config.get("study_dir")
    if storage is None and given is None:
        raise InputError(
            "storage is missing: set it on the command line, storage=postgresql://user@host/name, "
            "or study_dir=runs/NAME, the study's folder."
        )
    folder = Path(str(given)).expanduser() if given is not None else None
    address = address_of(storage, folder or Path())
    path = path_of(address)
    if folder is None and path is not None:
        folder = path.parent
    study = find_at(address, config.get("study_name"), folder or Path())
    seconds, lines = _watch_seconds(config, study), Lines()
    allow = OmegaConf.to_container(config.allow) or []
    assert isinstance(allow, list)
    findings = [
        *_unfinished(study, seconds, lines),
        *_numbers(study),
        *_budget(study),
        *_twins(study),
        *_clocks(study),
        *_says(study, address, folder, [str(module) for module in allow]),
        *(_files(study, folder) if folder is not None else ()),
    ]
    if not findings:
        count = len(study.get_trials(deepcopy=False))
        lines.say(f"{study.study_name!r}: nothing is wrong with its {count} trials")
    mended = sum(_mend(finding, lines, on_request=bool(config.mend)) for finding in findings)
    if len(findings) > mended:
        raise NothingFound
    return float(mended)


def _mend(finding: Finding, lines: Lines, *, on_request: bool) -> bool:
    """Say it, and mend it where that is asked for and can be done; whether it was."""
    if finding.mend is None:
        lines.say(finding.text)
    elif on_request:
        finding.mend()
        lines.say(f"{finding.text}; done")
    else:
        lines.say(f"{finding.text}; mend=true does it")
    return on_request and finding.mend is not None


def _watch_seconds(config: DictConfig, study: optuna.Study) -> float:
    if config.watch is not None:
        check_number("watch", config.watch, above=0)
        return float(config.watch)
    try:
        lease = json.loads(study.user_attrs[CONFIGURATION])["lease"]
    except (KeyError, TypeError, ValueError):
        return SECONDS
    return float(lease) if isinstance(lease, int | float) and 0 < lease < 3600 else SECONDS


def _unfinished(study: optuna.Study, seconds: float, lines: Lines) -> Iterator[Finding]:
    """Trials that run for nobody, and networks that were cut off and forgotten."""
    gone = dead(study.get_trials(deepcopy=False))
    if gone:
        yield Finding(
            f"{_named(gone)}: the process on this machine is gone; end it and queue its network again",
            lambda: sweep_dead(study),
        )
    watch = Watch(study, seconds=seconds)
    watch.lost()
    if watch.has_suspects:
        lines.say(f"watching for {seconds:g} s who gives a sign of life")
        time.sleep(1.01 * seconds)
    known = {trial.number for trial in gone}
    lost = [trial for trial in watch.lost() if trial.number not in known]
    silent = [trial for trial in lost if trial.state == TrialState.RUNNING]
    if silent:
        yield Finding(
            f"{_named(silent)}: no sign of life for {seconds:g} s; end it and queue its network again",
            lambda: bring_back(study, silent),
        )
    forgotten = [trial for trial in lost if trial.state == TrialState.FAIL]
    if forgotten:
        yield Finding(
            f"{_named(forgotten)}: cut off, and its network was never queued again; queue it",
            lambda: bring_back(study, forgotten),
        )


def _numbers(study: optuna.Study) -> Iterator[Finding]:
    numbers = [trial.number for trial in study.get_trials(deepcopy=False)]
    if numbers != list(range(len(numbers))):
        yield Finding("numbers of trials are missing or twice there: the storage was damaged; search anew")


def _budget(study: optuna.Study) -> Iterator[Finding]:
    limit = (study.user_attrs.get(BUDGET_LEFT) or {}).get("n_trials")
    ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    spent = sum(map(is_counted, ended))
    if isinstance(limit, int) and spent > limit:
        yield Finding(f"{spent} networks were trained, the last search allowed {limit}: it was given less")


def _twins(study: optuna.Study) -> Iterator[Finding]:
    """Equal networks that were trained more than once, though their first value could have been reused."""
    if '"duplicates": "retrain"' in str(study.user_attrs.get(CONFIGURATION)):
        return
    by_hash: dict[str, list[FrozenTrial]] = defaultdict(list)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        attributes = trial.user_attrs
        if "hash" in attributes and is_feasible(trial) and not {"untrained", PROMOTES} & attributes.keys():
            by_hash[str(attributes["hash"])].append(trial)
    for twins in by_hash.values():
        if len(twins) > 1:
            yield Finding(f"{_named(twins)}: one network, trained {len(twins)} times; nothing is to be done")


def _clocks(study: optuna.Study) -> Iterator[Finding]:
    """Machines whose clocks are ahead of this one's, or behind one another's."""
    now = datetime.now()
    ahead, backwards = set(), []
    for trial in study.get_trials(deepcopy=False):
        times = [moment for moment in (trial.datetime_start, trial.datetime_complete) if moment is not None]
        if any(moment > now + SKEW for moment in times):
            ahead.add(str(trial.user_attrs.get("worker", "nobody")).rpartition(":")[0] or "nobody")
        if len(times) == 2 and times[1] < times[0] - SKEW:
            backwards.append(trial)
    if ahead:
        yield Finding(f"the clock of {', '.join(sorted(ahead))} is ahead of this one's: set both by NTP")
    if backwards:
        yield Finding(f"{_named(backwards)}: ended before the begin, so clocks differ: set them by NTP")


def _says(study: optuna.Study, address: str, folder: Path | None, allow: Sequence[str]) -> Iterator[Finding]:
    """What the study says of itself, and whether the data still is what it was."""
    missing = [key for key in SAID if key not in study.user_attrs]
    if missing:
        yield Finding(f"it does not say its {missing[0]}: run its search command once more, which adds it")
        return
    try:
        # reading the data compares what it was with what it is
        _ = open_again(study, storage=address, folder=folder or Path(), allow=allow).data
    except InputError as error:
        yield Finding(f"it can't be used here: {error}")


def _files(study: optuna.Study, folder: Path) -> Iterator[Finding]:
    """Files that nobody will take up, and those that should be there."""
    left = list(files_below(folder, f".*{TEMPORARY}"))
    if left:
        yield Finding(
            f"{len(left)} temporary file(s) of processes that were killed, or write now; remove the former",
            lambda: remove_temporaries(folder),
        )
    trials = study.get_trials(deepcopy=False)
    over = [path for path in folder.glob(f"{CHECKPOINTS}/trial-*.pt") if _is_over(path, trials)]
    if over:
        yield Finding(
            f"{len(over)} checkpoint(s) of trainings that are over; remove them", lambda: _remove(over)
        )
    summary = folder / "summary.json"
    if FINAL in study.user_attrs and folder.is_dir() and not summary.is_file():
        yield Finding(f"{summary} of the trained winner is missing: run the search command once more")


def _is_over(path: Path, trials: Sequence[FrozenTrial]) -> bool:
    name = re.fullmatch(r"trial-(\d+)\.pt", path.name)
    number = int(name[1]) if name else -1
    return number >= len(trials) or (number >= 0 and trials[number].state == TrialState.COMPLETE)


def _remove(paths: Sequence[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _named(trials: Sequence[FrozenTrial]) -> str:
    return f"trial {', '.join(str(trial.number) for trial in trials)}"
