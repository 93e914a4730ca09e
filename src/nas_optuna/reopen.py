"""A finished study opened again by its folder alone: its networks, and the parts that trained them."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from omegaconf import DictConfig, OmegaConf
from optuna.trial import FrozenTrial, TrialState

from nas_optuna.configuration import build, build_space, plain
from nas_optuna.data import LabelledData
from nas_optuna.errors import InputError, check_number
from nas_optuna.estimation import EXECUTIONS_FILE, Estimator, Executions, Fidelity, Objectives
from nas_optuna.objective import rebuild
from nas_optuna.prepare import fingerprint
from nas_optuna.results import front, ranking
from nas_optuna.space import Architecture, Space
from nas_optuna.storages import hide_password, open_storage, path_of
from nas_optuna.study import CONFIGURATION, check_same, is_feasible
from nas_optuna.study_dir import DATABASE, no_study
from nas_optuna.targets import check_targets

NEEDED = ("data", "space", "estimation", "objective", "final", "seed")


@dataclass(frozen=True)
class Reopened:
    """A study with at least one finished network, and what its configuration says.

    Attributes:
        study: The study.
        config: Its configuration, with the user's changes.
        objectives, space, training: Built from the groups of their names.
        fidelity: Length of a training of the search.
        seed: The search's seed.
        folder: Where everything of the study lies.
    """

    study: optuna.Study
    config: DictConfig
    objectives: Objectives
    space: Space
    training: Estimator
    fidelity: Fidelity
    seed: int
    folder: Path

    @functools.cached_property
    def data(self) -> LabelledData:
        """What its networks learnt, found and read when it is first asked for.

        Raises:
            InputError: It is not where it was, or not what it was.
        """
        data: LabelledData = _build(LabelledData, self.config, "data")
        cache_dir = self.config.cache_dir
        data.cache_dir = None if cache_dir is None else Path(str(cache_dir)).expanduser()
        data.prepare()
        cure = "Give the data and the settings that it was made with."
        measured = "objective" in self.study.user_attrs["fingerprint"]
        check_same(self.study, fingerprint(self.config, data, measures_latency=measured), cure=cure)
        return data

    def architecture(self, trial: FrozenTrial) -> Architecture:
        """The network of a trial."""
        return rebuild(self.space, trial)

    def front(self) -> list[FrozenTrial]:
        """See ``results.front``."""
        return front(self.study, self.objectives)

    def ranking(self) -> list[FrozenTrial]:
        """See ``results.ranking``."""
        return ranking(self.study, self.objectives)

    def ranked(self, rank: int) -> FrozenTrial:
        """The network of a rank, from 1.

        Raises:
            InputError: There are fewer.
        """
        found = self.ranking()
        check_number("rank", rank, whole=True, at_least=1, at_most=len(found))
        return found[rank - 1]

    def trial(self, number: int) -> FrozenTrial:
        """The trial of a number.

        Raises:
            InputError: There is none, or it was not trained to its end within the limits.
        """
        trials = self.study.get_trials(deepcopy=False)
        check_number("trial", number, whole=True, at_least=0, at_most=len(trials) - 1)
        trial = trials[number]
        cure = f"Take one that was, such as {self.front()[0].number}."
        if trial.state != TrialState.COMPLETE:
            was = {TrialState.PRUNED: "was stopped early", TrialState.FAIL: "failed"}
            raise InputError(
                f"trial: {number} {was.get(trial.state, 'has not ended')}, so it was not trained to the end "
                f"of the search's schedule. {cure}"
            )
        if not is_feasible(trial):
            reason = trial.user_attrs.get("infeasible", "beyond a limit")
            raise InputError(f"trial: {number} is infeasible ({reason}), so it was not judged. {cure}")
        return trial


@dataclass(frozen=True)
class Recalled:
    """What is needed to read a study that has found something, and no more.

    Attributes:
        study: The study.
        objectives, space: Built from the groups of their names.
        folder: Where everything of the study lies.
    """

    study: optuna.Study
    objectives: Objectives
    space: Space
    folder: Path


def recall(
    study_dir: str | Path,
    *,
    storage: str | None = None,
    study_name: str | None = None,
    allow: Sequence[str] = (),
) -> Recalled:
    """Open a study to be read: neither its data nor what trained it is needed.

    Args:
        study_dir, storage, study_name: See ``reopen``.
        allow: Modules outside nas_optuna whose code its space may name.

    Raises:
        InputError: There is no such study, it found nothing, or it can't be used here.
    """
    folder = Path(study_dir).expanduser()
    study = find_at(address_of(storage, folder), study_name, folder)
    kept = _read(study)
    named = {group: kept[group] for group in ("space", "objective")}
    check_targets(named, allow=allow)
    config = OmegaConf.create(named)
    recalled = Recalled(study, _build(Objectives, config, "objective"), build_space(config), folder)
    _check_found(study, recalled.objectives)
    return recalled


def find_study(folder: Path, *, storage: str | None = None, study_name: str | None = None) -> optuna.Study:
    """The study of a folder, whatever it found; see ``reopen`` for the arguments.

    Raises:
        InputError: There is no such study.
    """
    return find_at(address_of(storage, folder), study_name, folder)


def reopen(
    study_dir: str | Path,
    *,
    storage: str | None = None,
    study_name: str | None = None,
    allow: Sequence[str] = (),
    overrides: Mapping[str, Any] | None = None,
) -> Reopened:
    """Open a study that has found something. Its data is read when it is asked for.

    Args:
        study_dir: Its folder.
        storage: Address of its database; None for ``study.db`` in the folder.
        study_name: Its name; None where the database holds one study only.
        allow: Modules outside nas_optuna whose code its configuration may name, such as ``my_layers``. No
            other code is run: the study may be a stranger's.
        overrides: Changes to the configuration it was made with, by the keys it has: where the data is,
            the device. ``cache_dir`` is taken from here alone.

    Raises:
        InputError: There is no such study, it found nothing, or it can't be used here.
    """
    folder = Path(study_dir).expanduser()
    address = address_of(storage, folder)
    study = find_at(address, study_name, folder)
    reopened = open_again(study, storage=address, folder=folder, allow=allow, overrides=overrides)
    _check_found(study, reopened.objectives)
    return reopened


def open_again(
    study: optuna.Study,
    *,
    storage: str,
    folder: Path,
    allow: Sequence[str] = (),
    overrides: Mapping[str, Any] | None = None,
) -> Reopened:
    """What a study says of itself, as objects: see ``reopen``. It need not have found anything.

    Args:
        study: As it was loaded.
        storage: Address of its database.
        folder: Where its files are, or shall be, on this machine.
        allow, overrides: See ``reopen``.

    Raises:
        InputError: It does not say how it was made, or can't be used here.
    """
    kept = _merge(_read(study), {**(overrides or {})})
    kept["cache_dir"] = (overrides or {}).get("cache_dir")
    check_targets(kept, allow=allow)
    config = OmegaConf.create(
        {**kept, "study_dir": str(folder), "storage": storage, "study_name": study.study_name}
    )
    training: Estimator = _build(Estimator, config, "estimation")
    training.executions = Executions(folder / EXECUTIONS_FILE)
    plan = study.user_attrs["plan"]
    return Reopened(
        study=study,
        config=config,
        objectives=_build(Objectives, config, "objective"),
        space=build_space(config),
        training=training,
        fidelity=Fidelity(**{name: plan[name] for name in Fidelity.__annotations__ if name in plan}),
        seed=config.seed,
        folder=folder,
    )


def overrides_of(config: DictConfig) -> dict[str, Any]:
    """What a command's configuration changes of a study's: where the data is, the device, the cache."""
    groups = {group: plain(config, group) or {} for group in ("data", "estimation")}
    given = {
        group: {name: value for name, value in values.items() if value is not None}
        for group, values in groups.items()
    }
    return {**given, "cache_dir": config.cache_dir}


def _build(kind: Any, config: DictConfig, group: str) -> Any:
    built = build(config, group)
    if not isinstance(built, kind):
        raise InputError(
            f"{group}: the study's configuration says {type(built).__name__}, which does not belong there."
        )
    return built


def address_of(storage: str | None, folder: Path) -> str:
    """Address of a study's database; without ``storage`` it is ``study.db`` in the study's folder."""
    return str(storage) if storage is not None else f"sqlite:///{folder / DATABASE}"


def _check_found(study: optuna.Study, objectives: Objectives) -> None:
    if not front(study, objectives):
        raise InputError(
            f"study_dir: the study {study.study_name!r} has no network that was trained to the end within "
            "its limits. Let the search go on first."
        )


def find_at(address: str, name: str | None, folder: Path) -> optuna.Study:
    """Load the study of a name, or the only one that there is.

    Raises:
        InputError: There is none.
    """
    if _is_missing(address):
        raise no_study(folder, hide_password(address))
    backend = open_storage(address)
    names = optuna.get_all_study_names(backend)
    if not names or (name is None and len(names) > 1) or (name is not None and name not in names):
        raise InputError(
            f"study_name: {name!r} is not the one study to open: {hide_password(address)} has "
            f"{', '.join(map(repr, names)) or 'none'}. Give study_name=... as it is there."
        )
    return optuna.load_study(study_name=name or names[0], storage=backend)


def _is_missing(address: str) -> bool:
    """Whether it is a file that is not there, which opening it would make."""
    path = path_of(address)
    return path is not None and not path.is_file()


def _read(study: optuna.Study) -> dict[str, Any]:
    """The configuration that the study carries."""
    try:
        config = json.loads(study.user_attrs[CONFIGURATION])
        missing = [key for key in NEEDED if key not in config]
        missing += [key for key in ("plan", "fingerprint") if key not in study.user_attrs]
    except (KeyError, TypeError, ValueError):
        config, missing = {}, [CONFIGURATION]
    if missing or not isinstance(config, dict):
        raise InputError(
            f"study_dir: the study {study.study_name!r} does not say how it was made ({missing[0]} is "
            "missing). Run its search command once more, which adds it."
        )
    return config


def _merge(kept: Mapping[str, Any], changes: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    merged = dict(kept)
    for name, value in changes.items():
        key = f"{prefix}{name}"
        if name not in kept:
            raise InputError(
                f"{key}: {value!r} is no setting of this study; known: {', '.join(map(str, kept))}."
            )
        both = isinstance(value, Mapping) and isinstance(kept[name], Mapping)
        merged[name] = _merge(kept[name], value, f"{key}.") if both else value
    return merged
