"""What a strategy may know of a network before it is trained: its identity, its costs, whether it fits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from nas_optuna.estimation import COSTS, Estimator, Objectives
from nas_optuna.space import Architecture, Space, measure_costs
from nas_optuna.strategy import Description
from nas_optuna.zero_cost import ProxyMeter


def measure_network(
    network: Architecture, estimation: Estimator, *, input_shape: tuple[int, ...], classes: int
) -> dict[str, float]:
    """What is known of a network at no cost, by the name that objectives and limits use."""
    costs = measure_costs(network, input_shape=input_shape, classes=classes)
    return {name: getattr(costs, name) for name in COSTS} | estimation.measure(network)


class NetworkDescription:
    """Describes the point of a trial by the network that it says.

    Args:
        space: Says which.
        objectives: Their limits tell whether it fits.
        estimation: Tells measures beside costs.
        input_shape: Of the data: channels, then height and width, or length.
        classes: How many the data has.
        proxies: Tell what strategies learn from beside costs; None for nothing.
    """

    def __init__(
        self,
        space: Space,
        objectives: Objectives,
        estimation: Estimator,
        *,
        input_shape: tuple[int, ...],
        classes: int,
        proxies: ProxyMeter | None = None,
    ) -> None:
        self._space = space
        self._objectives = objectives
        self._estimation = estimation
        self._input_shape, self._classes = input_shape, classes
        self._proxies = proxies

    def __call__(self, values: Mapping[str, Any]) -> Description:
        network = self._space.at(values).canonical()
        measures = measure_network(
            network, self._estimation, input_shape=self._input_shape, classes=self._classes
        )
        features = [math.log(1.0 + measures[name]) for name in ("macs", "params")]
        features += [float(len(network.blocks)), *self._space.features(network)]
        if self._proxies is not None:
            features += self._proxies.features(network)
        # a measured latency is not known of a candidate: strategies learn it from what was tried
        void = frozenset(self._space.void(values))
        return Description(network, tuple(features), self._objectives.fits(measures), void)
