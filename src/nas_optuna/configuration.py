"""From a composed configuration to objects, one a group, with errors that name the group."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import optuna
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from optuna.distributions import BaseDistribution

from nas_optuna.errors import InputError
from nas_optuna.space import Space
from nas_optuna.strategy import Describe, GatedSampler, PointSampler
from nas_optuna.study import derive_seed


def build(config: DictConfig, group: str, **overrides: Any) -> Any:
    """Instantiate one group of the configuration.

    Args:
        config: The whole configuration.
        group: ``data``, ``space``, ``strategy``, ``estimation`` or ``objective``.
        overrides: Values that replace the group's own.

    Raises:
        InputError: A value is missing or of the wrong kind, or the class can't be found.
    """
    try:
        return instantiate(config[group], **overrides, _convert_="all")
    except MissingMandatoryValue as error:
        raise InputError(
            f"{error.full_key} is missing: set it on the command line, {error.full_key}=..."
        ) from error
    except (InstantiationException, OmegaConfBaseException) as error:
        raise _first_input_error(error) or InputError(f"{group}: {_innermost(error)}") from error


def build_space(config: DictConfig) -> Space:
    """The space of a configuration."""
    space = build(config, "space")
    if not isinstance(space, Space):
        raise InputError(f"space: {type(space).__name__} must be a nas_optuna.space.Space.")
    return space


def build_sampler(
    config: DictConfig,
    *,
    existing: int,
    worker: int = 0,
    describe: Describe | None = None,
    score: Callable[[Mapping[str, Any]], float] | None = None,
    distributions: Mapping[str, BaseDistribution] | None = None,
) -> optuna.samplers.BaseSampler:
    """The strategy. A resumed study gets a new seed, or its sampler would repeat its first networks.

    Args:
        config: The whole configuration.
        existing: Trials of the study.
        worker: Number of the worker, from 0; each draws other networks.
        describe: Tells a strategy of ours what a point means.
        score: By which the best of several candidates is tried; None for the first.
        distributions: The search space, where candidates are compared.
    """
    parts = (config.seed, existing, worker) if worker else (config.seed, existing)
    seeded = {"seed": derive_seed(*parts)} if "seed" in config.strategy else {}
    with warnings.catch_warnings():
        # what Optuna may change; the configuration says which of its samplers are used, and tests try them
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = build(config, "strategy", **seeded)
    if not isinstance(sampler, optuna.samplers.BaseSampler):
        raise InputError(f"strategy: {type(sampler).__name__} must be an optuna.samplers.BaseSampler.")
    if isinstance(sampler, optuna.samplers.CmaEsSampler):
        if len(config.objective.directions) > 1:
            raise InputError(
                f"strategy: CMA-ES has one objective, not {len(config.objective.directions)}: take "
                "strategy=predictor, tpe or nsga2."
            )
        # a network beyond a limit has the accuracy of guessing, which steers as well
        warnings.filterwarnings("ignore", message="Constraints have been set, but CmaEsSampler")
    if isinstance(sampler, PointSampler):
        sampler.describe = describe
    if score is None:
        return sampler
    return GatedSampler(
        sampler, score=score, candidates=config.proxies.candidates, distributions=distributions
    )


def plain(config: DictConfig, key: str) -> Any:
    """A part of the configuration as plain containers, interpolations resolved."""
    value = config[key]
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _first_input_error(error: BaseException | None) -> InputError | None:
    while error is not None:
        if isinstance(error, InputError):
            return error
        error = error.__cause__
    return None


def _innermost(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).splitlines()[0]
