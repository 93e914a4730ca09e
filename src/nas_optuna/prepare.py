"""Before a search: the request is checked, the study opened, the plan made. Nothing is trained for keeps."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import optuna
from omegaconf import DictConfig, OmegaConf

from nas_optuna.configuration import build, build_sampler, build_space, plain
from nas_optuna.cores import check_workers, count_workers, threads_of_each
from nas_optuna.data import LabelledData, NoData
from nas_optuna.description import NetworkDescription, measure_network
from nas_optuna.errors import InputError, check_number, check_one_of
from nas_optuna.estimation import (
    DEFAULT_EPOCHS,
    EXECUTIONS_FILE,
    FULL,
    Estimator,
    Execution,
    Executions,
    Fidelity,
    Objectives,
    Plan,
    PlanSettings,
    Scale,
    Table,
    make_plan,
)
from nas_optuna.heirs import Heirs, make_heirs
from nas_optuna.kept import Kept, make_kept
from nas_optuna.latency import LATENCY, LatencyMeter, LatencySettings, make_meter
from nas_optuna.limits import describe_limits
from nas_optuna.objective import DUPLICATES
from nas_optuna.record import remember_data, remember_run
from nas_optuna.results import FinalSettings
from nas_optuna.space import Architecture, Space, measure_costs, resolve_seeds
from nas_optuna.storages import check_address
from nas_optuna.study import (
    Budget,
    check_same,
    keep_budget,
    keep_configuration,
    open_study,
    sweep_dead,
)
from nas_optuna.study_dir import make_study_dir
from nas_optuna.zero_cost import ProxyMeter, ProxySettings, make_proxies

CHECKED_NETWORKS = 5

_Settings = TypeVar("_Settings")


@dataclass(frozen=True)
class Parts:
    """A checked request: one object for each group of the configuration, and the study.

    Attributes:
        budget: How much the study may spend in all.
        seed: The search's seed.
        duplicates: What an equal network gets; see ``Objective``.
        folder: Where everything of the study lies.
        storage: Address of the database that holds the study.
        final: What happens after the search.
        settings: How a timeout is divided.
        objectives, space, data, training: Built from the groups of their names.
        plan: How long a training is.
        limits: How much of the space keeps to them, in words; None where there are none.
        latency: Measures it; None where nothing asks for it, or a table knows it.
        proxies: Measures them; None where none are asked for.
        study: With its sampler and pruner.
        kept: Trainings that may be taken up; None for none.
        heirs: Weights that networks begin with; None where each begins anew.
        dashboard: Whether trials and study get what a dashboard shows beside values.
        workers: Processes that train.
        worker_config: The configuration for them: interpolations resolved, the trainings' length set.
    """

    budget: Budget
    seed: int
    duplicates: str
    folder: Path
    storage: str
    final: FinalSettings
    settings: PlanSettings
    objectives: Objectives
    space: Space
    data: LabelledData
    training: Estimator
    plan: Plan
    limits: str | None
    latency: LatencyMeter | None
    proxies: ProxyMeter | None
    study: optuna.Study
    kept: Kept | None
    heirs: Heirs | None
    dashboard: bool
    workers: int
    worker_config: dict[str, Any]


def prepare(config: DictConfig, *, started: float | None = None) -> Parts:
    """Check everything that can be checked without training, cheap checks first; open the study.

    Args:
        config: The composed configuration.
        started: When the search began, as ``time.monotonic`` counts; None for now.

    Raises:
        InputError: The request is wrong.
    """
    started = time.monotonic() if started is None else started
    budget = Budget(config.n_trials, config.timeout)
    check_number("seed", config.seed, whole=True, at_least=0)
    check_one_of("duplicates", config.duplicates, DUPLICATES)
    check_number("checkpoints", config.checkpoints, whole=True, at_least=0)
    if not isinstance(config.dashboard, bool):
        raise InputError(f"dashboard: {config.dashboard!r} must be true or false.")
    check_number("lease", config.lease, above=0)
    check_address(str(config.storage))
    settings = _settings(PlanSettings, config, "plan")
    final = _settings(FinalSettings, config, "final")
    folder = _study_folder(config)
    objectives: Objectives = build(config, "objective")
    space = build_space(config)
    seeds = resolve_seeds(space)
    open_training = _check_training(config)
    LatencySettings.read(objectives.latency)
    gate = ProxySettings.read(plain(config, "proxies")).gate
    build_sampler(config, existing=0, score=None if gate is None else lambda _: 0.0)
    check_workers(config.workers)
    data: LabelledData = build(config, "data")
    if isinstance(data, NoData) and not isinstance(open_training, Table):
        raise InputError(
            "data: none holds no examples, so it goes with estimation=table only. Choose another data."
        )
    data.cache_dir = _cache_dir(config)
    data.prepare()
    if not isinstance(open_training, Table):
        open_training.check(data)
    workers = count_workers(
        config.workers,
        device=open_training.torch_device,
        n_trials=budget.n_trials,
        needed=lambda: open_training.device_bytes(data),
    )
    shape, classes = data.input_shape, len(data.classes)
    check_networks(space, shape, classes)
    if open_training.scale != FULL:
        check_networks(space, shape, classes, scale=open_training.scale)
    latency = make_meter(objectives, open_training, input_shape=shape, classes=classes, folder=folder)
    if latency is not None:
        latency.check(draw_networks(space, 1)[0])
    if (asked := make_proxies(plain(config, "proxies"), open_training, data)) is not None:
        asked.check(draw_networks(space, 1)[0])

    def measure(network: Architecture) -> dict[str, float]:
        return measure_network(network, open_training, input_shape=shape, classes=classes)

    limits = None
    if objectives.limits:
        limits = describe_limits(space, objectives, measure, latency)
    study = _open(config, objectives, data, folder, measures_latency=latency is not None)
    if latency is not None:
        latency.save()
    open_training.executions = Executions(folder / EXECUTIONS_FILE)
    with Execution(threads=threads_of_each(workers)).limited_threads():
        plan = _recall_plan(study, open_training) or make_plan(
            open_training,
            space,
            data,
            settings=settings,
            timeout=budget.timeout,
            workers=workers,
            spent=time.monotonic() - started,
            fits=lambda network: objectives.fits(measure(network)),
        )
    seconds = {"trial_seconds": plan.trial_seconds, "full_seconds": plan.full_seconds}
    study.set_user_attr("plan", {**asdict(plan.fidelity), **seconds})
    planned = _planned(config, plan.fidelity)
    training: Estimator = build(planned, "estimation")
    training.executions = open_training.executions
    study.pruner = training.pruner
    proxies = make_proxies(plain(config, "proxies"), training, data)
    describe = NetworkDescription(
        space, objectives, training, input_shape=shape, classes=classes, proxies=proxies
    )
    study.sampler = build_sampler(
        config,
        existing=len(study.get_trials(deepcopy=False)),
        describe=describe,
        score=None if proxies is None else proxies.score(describe),
        distributions=space.distributions(),
    )
    _enqueue(study, seeds)
    worker_config = cast("dict[str, Any]", OmegaConf.to_container(planned, resolve=True))
    keep_configuration(study, worker_config)
    remember_data(study, data)
    remember_run(
        study,
        seconds=time.monotonic() - started,
        budget={**asdict(budget), "workers": workers},
        device=open_training.torch_device,
    )
    keep_budget(study, n_trials=budget.n_trials, deadline=_deadline(study, budget, settings, started))
    return Parts(
        budget=budget,
        seed=config.seed,
        duplicates=config.duplicates,
        folder=folder,
        storage=str(config.storage),
        final=final,
        settings=settings,
        objectives=objectives,
        space=space,
        data=data,
        training=training,
        plan=plan,
        limits=limits,
        latency=latency,
        proxies=proxies,
        study=study,
        kept=make_kept(folder, config.checkpoints, training),
        heirs=make_heirs(folder, space, objectives, training, input_shape=shape, classes=classes),
        dashboard=config.dashboard,
        workers=workers,
        worker_config=worker_config,
    )


def _open(
    config: DictConfig,
    objectives: Objectives,
    data: LabelledData,
    folder: Path,
    *,
    measures_latency: bool,
) -> optuna.Study:
    make_study_dir(folder)
    study = open_study(str(config.storage), str(config.study_name), directions=objectives.directions)
    check_same(study, fingerprint(config, data, measures_latency=measures_latency))
    sweep_dead(study)
    return study


def fingerprint(config: DictConfig, data: LabelledData, *, measures_latency: bool) -> dict[str, Any]:
    """What must be equal for results to be comparable, as ``check_same`` takes it."""
    # the length of a training is the plan's, which the study keeps
    free = {"pruner", "device", *Fidelity.__annotations__}
    estimation = {name: value for name, value in plain(config, "estimation").items() if name not in free}
    # what is in full leaves no trace, so that studies from before it could be otherwise go on
    estimation["fidelity"] = {
        name: value for name, value in (estimation.get("fidelity") or {}).items() if value != 1
    }
    if not estimation.get("inherit"):
        estimation = {name: value for name, value in estimation.items() if not name.startswith("inherit")}
    images = {
        "classes": len(data.classes),
        "input_shape": list(data.input_shape),
        "images": data.fingerprint,
        "augmentation": plain(config, "data").get("augmentation"),
    }
    # what is tried first changes no result
    space = {name: value for name, value in plain(config, "space").items() if name != "seeds"}
    same = {"space": space, "data": images, "estimation": estimation}
    if measures_latency:
        same["objective"] = {LATENCY: plain(config, "objective")[LATENCY]}
    return same


def _recall_plan(study: optuna.Study, training: Estimator) -> Plan | None:
    """The plan of a study that has trials; what the command sets by hand must agree with it."""
    known: dict[str, Any] | None = study.user_attrs.get("plan")
    if known is None or not study.get_trials(deepcopy=False):
        return None
    for name in Fidelity.__annotations__:
        asked = getattr(training, name)
        if asked is not None and asked != known.get(name):
            raise InputError(
                f"estimation.{name}: the study {study.study_name!r} trains with {known.get(name)}, "
                f"this command asks for {asked}. Leave it out, or choose another study_name."
            )
    fidelity = Fidelity(**{name: known[name] for name in Fidelity.__annotations__ if name in known})
    return Plan(fidelity, known["trial_seconds"], known.get("full_seconds", known["trial_seconds"]))


def _deadline(study: optuna.Study, budget: Budget, settings: PlanSettings, started: float) -> float | None:
    """When the search's part of the time is used up, as ``time.time`` counts; None for never."""
    if budget.timeout is None:
        return None
    used: float = study.user_attrs.get("search_seconds", 0.0) + time.monotonic() - started
    return round(time.time() + budget.timeout * settings.search_share - used, 1)


def _study_folder(config: DictConfig) -> Path:
    name = str(config.study_name)
    if not name or "/" in name or name in (".", ".."):
        raise InputError(f"study_name: {name!r} must be a name without slashes: it becomes a folder.")
    return Path(str(config.study_dir))


def _cache_dir(config: DictConfig) -> Path | None:
    return Path(str(config.cache_dir)).expanduser() if config.cache_dir is not None else None


def _settings(kind: type[_Settings], config: DictConfig, key: str) -> _Settings:
    values, known = plain(config, key), list(kind.__annotations__)
    if not isinstance(values, dict) or set(values) != set(known):
        raise InputError(f"{key}: {values!r} must have exactly the keys {', '.join(known)}.")
    return kind(**values)


def draw_networks(space: Space, count: int) -> list[Architecture]:
    """The first of a space's random networks."""
    drawn = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [space(drawn.ask()).canonical() for _ in range(count)]


def check_networks(space: Space, input_shape: tuple[int, ...], classes: int, *, scale: Scale = FULL) -> None:
    """Build a few networks, without memory for their weights, for the data's shape, at a scale of both."""
    space.check_input(input_shape)
    for architecture in map(scale.network, draw_networks(space, CHECKED_NETWORKS)):
        try:
            measure_costs(architecture, input_shape=scale.shape(input_shape), classes=classes)
        except Exception as error:  # whatever a layer from elsewhere raises
            reason = (str(error).splitlines() or [""])[0]
            raise InputError(
                f"space: the network {architecture} can't be built for inputs of {input_shape} "
                f"({type(error).__name__}: {reason}). Change the layer or the decisions that lead to it."
            ) from error


def _enqueue(study: optuna.Study, seeds: dict[str, dict[str, Any]]) -> None:
    """Let the seeds that the study has not seen be tried before anything else."""
    known = {trial.user_attrs.get("seed_network") for trial in study.get_trials(deepcopy=False)}
    for label, values in seeds.items():
        if label not in known:
            study.enqueue_trial(values, user_attrs={"seed_network": label})


def _check_training(config: DictConfig) -> Estimator:
    """The training with its length still open; its pruner is checked at some length, and left out."""
    training: Estimator = build(config, "estimation", pruner=optuna.pruners.NopPruner())
    build(_planned(config, Fidelity(training.epochs or DEFAULT_EPOCHS)), "estimation")
    return training


def _planned(config: DictConfig, fidelity: Fidelity) -> DictConfig:
    """The configuration with the length of a training written into it, because pruners refer to it."""
    planned = config.copy()
    planned.estimation.update(asdict(fidelity))
    return planned
