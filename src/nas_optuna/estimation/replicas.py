"""Performance estimation: the parts of a batch side by side, each on its share of a CPU's threads."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")

SMALLEST_PART = 2  # images: of a single one, a batch norm may see a single number


class Team:
    """Threads that work side by side, each with its share of the threads of the one that makes them.

    Where many threads compute one kernel, all wait for the slowest at its end, hundreds of times a step.
    Members of a team meet once.

    Args:
        size: How many work.
    """

    def __init__(self, size: int) -> None:
        threads = torch.get_num_threads()
        everyone = threading.Barrier(size + 1)

        def begin() -> None:
            torch.get_num_threads()  # the first look at the number sets it, whatever was set before
            torch.set_num_threads(max(1, threads // size))
            everyone.wait()

        self.size = size
        self._members = ThreadPoolExecutor(size, thread_name_prefix="part")
        for _ in range(size):
            self._members.submit(begin)
        everyone.wait()
        # what a member sets is also what threads that are yet to come begin with
        torch.set_num_threads(threads)

    def map(self, work: Callable[..., T], *arguments: Iterable[Any]) -> list[T]:
        """What ``work`` gives for the first value of each argument, the second and so on."""
        return list(self._members.map(work, *arguments))


class Replicas:
    """A network and copies of it that share its weights, each to learn from its part of a batch.

    Batch norms normalise each part by its own statistics (ghost batch normalization, Hoffer et al. 2017,
    "Train longer, generalize better", section 4); what they keep for judging is the parts' mean.

    Args:
        network: On the CPU, in training mode.
        team: Who computes the parts.

    Attributes:
        networks: It and its copies.
    """

    def __init__(self, network: nn.Module, team: Team) -> None:
        self._team = team
        self.networks = [network, *(_share_weights(network) for _ in range(team.size - 1))]

    def backward(
        self, loss: Callable[[nn.Module, Tensor, Tensor], Tensor], inputs: Tensor, targets: Tensor
    ) -> Tensor:
        """Add the gradients of a batch's mean loss to those of the weights.

        Args:
            loss: From a network, inputs and targets to the mean loss of a part.
            inputs, targets: (N, ...) of the batch, N at least the size of the team.

        Returns:
            The mean loss, without its graph.
        """

        def learn(network: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
            share = loss(network, inputs, targets) * (len(targets) / total)
            share.backward()
            return share.detach()

        total, parts = len(targets), [tensor.tensor_split(self._team.size) for tensor in (inputs, targets)]
        losses = self._team.map(learn, self.networks, *parts)
        first, *others = self.networks
        for other in others:
            for weight, twin in zip(first.parameters(), other.parameters(), strict=True):
                if twin.grad is not None:
                    weight.grad = twin.grad if weight.grad is None else weight.grad.add_(twin.grad)
                    twin.grad = None
        return torch.stack(losses).sum()

    @torch.no_grad()
    def merge(self) -> None:
        """Give the network, and every copy, the mean of the statistics that each has kept."""
        for kept in zip(*(network.buffers() for network in self.networks), strict=True):
            if kept[0].is_floating_point():
                kept[0].copy_(torch.stack(kept).mean(dim=0))
            for other in kept[1:]:
                other.copy_(kept[0])


def infer(network: nn.Module, inputs: Tensor, team: Team) -> Tensor:
    """What a network in evaluation mode answers, its parts computed by a team.

    Args:
        network: From inputs (N, ...) to (N, C).
        inputs: On the CPU.
        team: Who computes.
    """

    def answer(part: Tensor) -> Tensor:
        with torch.inference_mode():
            outputs: Tensor = network(part)
            return outputs

    return torch.cat(team.map(answer, inputs.tensor_split(max(1, min(team.size, len(inputs))))))


def draws_numbers(network: nn.Module, inputs: Tensor) -> bool:
    """Whether a training step draws random numbers: side by side, parts would draw them in any order.

    Args:
        network: Stays as it is.
        inputs: Some of a batch.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        before = torch.get_rng_state()
        copy.deepcopy(network).train()(inputs[:SMALLEST_PART])
        return not torch.equal(before, torch.get_rng_state())


def _share_weights(network: nn.Module) -> nn.Module:
    """A copy with the same weights, and gradients and buffers of its own."""
    twin = copy.deepcopy(network)
    for weight, other in zip(network.parameters(), twin.parameters(), strict=True):
        other.data, other.grad = weight.data, None
    return twin
