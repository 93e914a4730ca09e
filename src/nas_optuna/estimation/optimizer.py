"""Performance estimation: how a network's weights follow their gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import overload

import torch
from torch import Tensor, nn

# of a quintic whose iterates send every singular value to about 1 (Jordan et al. 2024)
QUINTIC = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """SGD with Nesterov momentum whose every update is turned into the nearest orthogonal matrix.

    So all directions of a weight matrix learn at one pace, where plain SGD follows the few strong
    ones (Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks"). A
    convolution's weight is a matrix of its filters. The update is scaled by the square root of
    rows over columns, so that one learning rate serves layers of every shape.

    Args:
        parameters: Weights with two or more axes.
        lr: Learning rate.
        momentum: 0 to 1.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], *, lr: float, momentum: float) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Make one update of every weight that has a gradient.

        Args:
            closure: Computes the loss, and the gradients, once more.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, weight.grad, lr=group["lr"], momentum=group["momentum"])
        return loss

    def _update(self, weight: Tensor, gradient: Tensor, *, lr: float, momentum: float) -> None:
        state = self.state[weight]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(gradient)
        state["momentum"].mul_(momentum).add_(gradient)
        direction = gradient.add(state["momentum"], alpha=momentum).flatten(1)
        rows, columns = direction.shape
        update = orthogonalize(direction).view(weight.shape)
        weight.add_(update, alpha=-lr * max(1.0, rows / columns) ** 0.5)


def orthogonalize(matrix: Tensor) -> Tensor:
    """Nearly the orthogonal factor of a matrix: singular values between about 0.7 and 1.2.

    By Newton-Schulz iterations, which need products of matrices only (Jordan et al. 2024).
    """
    is_tall = matrix.shape[0] > matrix.shape[1]
    factor: Tensor = matrix.T if is_tall else matrix
    factor = factor / (factor.norm() + 1e-7)
    first, third, fifth = QUINTIC
    for _ in range(ITERATIONS):
        square = factor @ factor.T
        mixed = torch.addmm(square, square, square, beta=third, alpha=fifth)
        factor = torch.addmm(factor, mixed, factor, beta=first)
    return factor.T if is_tall else factor


def is_matrix(weight: Tensor) -> bool:
    """Whether Muon suits a weight: more than one input a filter, which depthwise ones have not."""
    return weight.ndim > 1 and weight[0].numel() > 1 and weight.shape[1] > 1
