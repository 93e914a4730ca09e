"""Zero-cost proxies in a search: told with each network, as a gate before trainings, as features."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nas_optuna.data import LabelledData
from nas_optuna.data.augmentation import to_float
from nas_optuna.errors import InputError, check_number, check_one_of
from nas_optuna.estimation import PROXIES, Estimator, Table, is_out_of_memory, measure_proxies
from nas_optuna.estimation.proxies import IMAGES
from nas_optuna.space import Architecture
from nas_optuna.strategy import Describe

SEED = 0  # of the weights: equal networks have equal proxies


@dataclass(frozen=True)
class ProxySettings:
    """Which proxies are measured, and what they are good for.

    Attributes:
        names: Those that each network is told with.
        gate: The one that chooses among candidates of the strategy: the largest wins, with a minus
            before the name the smallest. None for no gate.
        candidates: How many there are for each network that is asked for, where there is a gate.
        features: Whether the predictor learns from them.

    Raises:
        InputError: There is no such proxy, or a value is of the wrong kind.
    """

    names: Sequence[str] = ()
    gate: str | None = None
    candidates: int = 4
    features: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.names, str) or not isinstance(self.names, Sequence):
            raise InputError(f"proxies.names: {self.names!r} must be a list, such as [synflow].")
        for name in self.names:
            check_one_of("proxies.names", name, list(PROXIES))
        if self.gate is not None:
            check_one_of("proxies.gate", str(self.gate).removeprefix("-"), list(PROXIES))
        check_number("proxies.candidates", self.candidates, whole=True, at_least=2)
        if not isinstance(self.features, bool):
            raise InputError(f"proxies.features: {self.features!r} must be true or false.")
        if self.features and not self.measured:
            raise InputError("proxies.features: true needs proxies to learn from: proxies.names=[synflow].")

    @classmethod
    def read(cls, values: Mapping[str, Any] | None) -> ProxySettings:
        """From the configuration's ``proxies``; a study from before there was the key has none."""
        if values is not None and not isinstance(values, Mapping):
            raise InputError(f"proxies: {values!r} must have the keys {', '.join(cls.__annotations__)}.")
        unknown = [name for name in values or {} if name not in cls.__annotations__]
        if unknown:
            raise InputError(f"proxies.{unknown[0]} is unknown; known: {', '.join(cls.__annotations__)}.")
        return cls(**(values or {}))

    @property
    def measured(self) -> tuple[str, ...]:
        """The names, and the gate's."""
        gate = () if self.gate is None else (self.gate.removeprefix("-"),)
        return tuple(dict.fromkeys((*self.names, *gate)))

    def __str__(self) -> str:
        told = f"{', '.join(self.measured)} of each network"
        if self.gate is None:
            return told
        which = "smallest" if self.gate.startswith("-") else "largest"
        name = self.gate.removeprefix("-")
        return f"{told}, tried is of {self.candidates} candidates the one with the {which} {name}"


class ProxyMeter:
    """Measures untrained networks on one batch of training images; equal networks once a process.

    Args:
        settings: Which proxies.
        training: Builds networks, and says on which device.
        data: What they would learn.

    Attributes:
        settings: The same.
    """

    def __init__(self, settings: ProxySettings, training: Estimator, data: LabelledData) -> None:
        self.settings = settings
        self._training, self._data = training, data
        self._known: dict[str, dict[str, float]] = {}

    def __call__(self, network: Architecture) -> dict[str, float]:
        """The proxies by name; none of a network that is too large for the device."""
        if network.hash not in self._known:
            self._known[network.hash] = self._measure(network)
        return self._known[network.hash]

    def check(self, network: Architecture) -> None:
        """Measure one network.

        Raises:
            InputError: That does not work.
        """
        try:
            self(network)
        except Exception as error:  # whatever a layer from elsewhere raises
            reason = (str(error).splitlines() or [""])[0]
            raise InputError(
                f"proxies: {', '.join(self.settings.measured)} can't be measured of the network {network} "
                f"({type(error).__name__}: {reason}). Leave them out, or the layer."
            ) from error

    def features(self, network: Architecture) -> list[float]:
        """As many numbers for each network, for a strategy that learns from them; none where none does."""
        if not self.settings.features:
            return []
        found = self(network)
        return [found.get(name, 0.0) for name in self.settings.measured]

    def score(self, describe: Describe) -> Callable[[Mapping[str, Any]], float] | None:
        """What a gate thinks of a point; None without a gate.

        Args:
            describe: Tells of a point its network, as identity, and whether it keeps to the limits.
        """
        gate = self.settings.gate
        if gate is None:
            return None
        sign, name = (-1.0 if gate.startswith("-") else 1.0), gate.removeprefix("-")

        def score(point: Mapping[str, Any]) -> float:
            described = describe(point)
            if not described.is_allowed:
                return -math.inf
            assert isinstance(described.identity, Architecture)
            return sign * self(described.identity).get(name, math.nan)

        return score

    @functools.cached_property
    def _batch(self) -> tuple[Tensor, Tensor]:
        split = self._data.split("train")
        count = min(IMAGES, len(split))
        chosen = torch.arange(count) * len(split) // count
        device = self._training.torch_device
        return to_float(split.inputs[chosen]).to(device), split.labels[chosen].to(device)

    def _measure(self, network: Architecture) -> dict[str, float]:
        assert not isinstance(self._training, Table)
        images, labels = self._batch
        try:
            built = self._training.build(network, self._data, seed=SEED).to(images.device)
            names = self.settings.measured
            return measure_proxies(built, images=images, labels=labels, seed=SEED, names=names)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            return {}


def make_proxies(
    values: Mapping[str, Any] | None, training: Estimator, data: LabelledData
) -> ProxyMeter | None:
    """What measures proxies, where any is asked for; else None.

    Args:
        values: The configuration's ``proxies``.
        training: Builds networks.
        data: What they would learn.

    Raises:
        InputError: A setting is wrong, or a table stands for the training, which has no images.
    """
    settings = ProxySettings.read(values)
    if not settings.measured:
        return None
    if isinstance(training, Table):
        raise InputError(
            f"proxies: {', '.join(settings.measured)} need images, and estimation=table has none. "
            "Leave them out."
        )
    return ProxyMeter(settings, training, data)
