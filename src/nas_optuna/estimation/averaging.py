"""Performance estimation: the mean of a network's weights over the last steps of an epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

SNAPSHOTS = 8  # that a mean is made of, at most: neighbouring steps are much alike


def is_averaged(left: int, window: int) -> bool:
    """Whether the weights after a step belong to the mean over the last steps of an epoch.

    Args:
        left: Steps of the epoch after this one.
        window: How many steps the mean spans.
    """
    return left < window and left % math.ceil(window / SNAPSHOTS) == 0


class WeightAverage:
    """The mean of a network's weights and of the statistics that its norms keep.

    Where the learning rate is high, weights swing about what they have learned: their mean over some steps
    judges as weights do that have settled (Izmailov et al. 2018, "Averaging weights leads to wider optima and
    better generalization"), and so foretells sooner what the network will be worth (Kaddour 2022, "Stop
    wasting my time! Saving days of ImageNet and BERT training with latest weight averaging").

    torch's ``AveragedModel`` is another network: it would be compiled and timed anew, and knows no copies.
    """

    def __init__(self) -> None:
        self._count = 0
        self._weights: list[Tensor] = []
        self._statistics: list[Tensor] = []

    @torch.no_grad()
    def add(self, networks: Sequence[nn.Module]) -> None:
        """Take in the weights as they are now.

        Args:
            networks: The network, and copies that share its weights and keep statistics of their own.
        """
        weights, statistics = list(networks[0].parameters()), [_statistics(network) for network in networks]
        if not self._count:
            self._weights = [torch.zeros_like(weight) for weight in weights]
            self._statistics = [torch.zeros_like(kept) for kept in statistics[0]]
        self._count += 1
        _add(self._weights, weights)
        for kept in statistics:
            _add(self._statistics, kept, share=1 / len(networks))

    @contextmanager
    def in_place(self, network: nn.Module) -> Iterator[None]:
        """Give a network the mean for a while, then its own weights again; the next mean begins anew."""
        if not self._count:
            yield
            return
        own = [*network.parameters(), *_statistics(network)]
        kept = [tensor.detach().clone() for tensor in own]
        _copy([total / self._count for total in (*self._weights, *self._statistics)], own)
        self._count = 0
        try:
            yield
        finally:
            _copy(kept, own)


def _statistics(network: nn.Module) -> list[Tensor]:
    return [buffer for buffer in network.buffers() if buffer.is_floating_point()]


def _add(sums: Sequence[Tensor], values: Sequence[Tensor], *, share: float = 1.0) -> None:
    for total, value in zip(sums, values, strict=True):
        total.add_(value, alpha=share)


@torch.no_grad()
def _copy(values: Sequence[Tensor], tensors: Sequence[Tensor]) -> None:
    for tensor, value in zip(tensors, values, strict=True):
        tensor.copy_(value)
