"""Performance estimation: how a network's weights follow their gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import overload

import torch
from torch import Tensor, nn

# of a quintic whose iterates send every singular value to about 1 (Jordan et al. 2024)
QUINTIC = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5
# columns for each row from which on iterating on the squares, and multiplying once, takes less
LONG = 2


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
            alike: dict[torch.Size, list[Tensor]] = {}
            for weight in group["params"]:
                if weight.grad is not None:
                    alike.setdefault(weight.flatten(1).shape, []).append(weight)
            for (rows, columns), weights in alike.items():
                directions = [self._direction(weight, group["momentum"]) for weight in weights]
                rate = group["lr"] * max(1.0, rows / columns) ** 0.5
                # together: one alone is too small to keep a device busy
                for weight, update in zip(weights, orthogonalize(torch.stack(directions)), strict=True):
                    weight.add_(update.view(weight.shape), alpha=-rate)
        return loss

    def _direction(self, weight: Tensor, momentum: float) -> Tensor:
        """The gradient as a matrix, with Nesterov's momentum."""
        assert weight.grad is not None
        state = self.state[weight]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(weight.grad)
        state["momentum"].mul_(momentum).add_(weight.grad)
        return weight.grad.add(state["momentum"], alpha=momentum).flatten(1)


def orthogonalize(matrices: Tensor) -> Tensor:
    """Nearly the orthogonal factor of each matrix: singular values between about 0.7 and 1.2.

    By Newton-Schulz iterations, which need products of matrices only (Jordan et al. 2024). A CPU iterates on
    the squares of long matrices: with 9 columns a row, as 3 by 3 filters of as many inputs as outputs have,
    that takes 35 products of square matrices in place of 95.

    Args:
        matrices: (N, rows, columns).
    """
    is_tall = matrices.shape[1] > matrices.shape[2]
    factors: Tensor = matrices.mT if is_tall else matrices
    factors = factors / (factors.norm(dim=(1, 2), keepdim=True) + 1e-7)
    if factors.device.type == "cpu" and factors.shape[2] >= LONG * factors.shape[1]:
        factors = _polynomial_of_squares(factors @ factors.mT) @ factors
    else:
        for _ in range(ITERATIONS):
            factors = torch.baddbmm(factors, _mixed(factors @ factors.mT), factors, beta=QUINTIC[0])
    return factors.mT if is_tall else factors


def _mixed(squares: Tensor) -> Tensor:
    """What a quintic's third and fifth powers multiply a matrix by, from its squares."""
    return torch.baddbmm(squares, squares, squares, beta=QUINTIC[1], alpha=QUINTIC[2])


def _polynomial_of_squares(squares: Tensor) -> Tensor:
    """What the iterations multiply a matrix by, from its squares (N, rows, rows), which commute with it."""
    whole: Tensor | None = None
    for remaining in range(ITERATIONS, 0, -1):
        factor = _mixed(squares)
        factor.diagonal(dim1=1, dim2=2).add_(QUINTIC[0])
        whole = factor if whole is None else factor @ whole
        if remaining > 1:
            squares = factor @ squares @ factor
    assert whole is not None
    return whole


def is_matrix(weight: Tensor) -> bool:
    """Whether Muon suits a weight: more than one input a filter, which depthwise ones have not."""
    return weight.ndim > 1 and weight[0].numel() > 1 and weight.shape[1] > 1
