"""Performance estimation: what an untrained network tells of its worth, from one batch."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_optuna.errors import check_one_of
from nas_optuna.estimation.execution import Execution
from nas_optuna.space import Architecture, Network, measure_costs
from nas_optuna.space.network import Normalize

IMAGES = 64  # of a batch that are used at most: the memory of a training step of so many
ACTIVATIONS = (nn.ReLU, nn.SiLU, nn.GELU, nn.Hardswish)
NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)
CODES = 2**16  # bits of each image's code that are compared at once
FLAT = 1e-12  # eigenvalues below this part of the largest, or below this, count as this
JITTER = 1e-5  # the k of jacob_cov


def measure_proxies(
    architecture: Architecture | nn.Module,
    *,
    images: Tensor,
    labels: Tensor,
    seed: int,
    names: Sequence[str] | None = None,
) -> dict[str, float]:
    """Zero-cost proxies of an untrained network; larger is meant to be better.

    The same arguments give the same numbers on the same machine, all of them finite.

    Args:
        architecture: A network, for which weights are drawn from ``seed``, or a module with weights,
            of which a copy is measured. ``macs`` and ``params`` need a ``Network`` or its architecture.
        images: (N, C, H, W), or series (N, C, L), as networks see them: images in [0, 1]. On the device
            that computes; the first 64 are used.
        labels: (N,) classes.
        seed: Of the weights.
        names: Of ``PROXIES``; None for all.

    Raises:
        InputError: There is no such proxy.
    """
    chosen = list(PROXIES if names is None else names)
    for name in chosen:
        check_one_of("names", name, list(PROXIES))
    images, labels = images[:IMAGES], labels[:IMAGES]
    network = architecture
    if isinstance(network, Architecture):
        network = _build(network, images, labels, seed=seed)
    # each measures a copy: they change norms, statistics or weights
    measured = Execution().arrange(copy.deepcopy(network)).to(images.device)
    return {name: float(PROXIES[name](copy.deepcopy(measured), images, labels)) for name in chosen}


def _build(architecture: Architecture, images: Tensor, labels: Tensor, *, seed: int) -> Network:
    """With the normalisation of the batch, and as many classes as it shows."""
    axes = [0, *range(2, images.ndim)]
    mean, deviation = images.mean(dim=axes), images.std(dim=axes).clamp(min=1e-6)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Network(
            architecture, classes=int(labels.max()) + 1, mean=mean.tolist(), std=deviation.tolist()
        )


def synflow(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Natural logarithm of the sum of synaptic saliencies: log sum_w |w * dR/dw|.

    R is the sum of the logits for an input of ones, all weights replaced by their absolute values
    (Tanaka et al. 2020, SynFlow, section 4; summed over the weights of convolutions and linear layers
    by Abdelfattah et al. 2021, section 3.2). The saliencies of a deep network exceed every number that a
    float32 holds: computed in float64, and told as a logarithm, which ranks alike.

    Norms are left out, as in Abdelfattah et al. 2021; Tanaka et al. keep batch norms at their initial
    statistics, which differs by 1 / sqrt(1 + 1e-5) each. So is the normalisation of images, that the flow
    be never negative. There ReLU does nothing; SiLU, GELU and Hardswish are replaced by it. Gates of
    squeeze-excite stay. Nothing that flows through counts as the smallest number.
    """
    # MPS has no float64
    device = torch.device("cpu") if images.device.type == "mps" else images.device
    flow = _replace(network, (*NORMS, *ACTIVATIONS, Normalize)).to(device, torch.float64).eval()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.abs_()
    ones = torch.ones((1, *images.shape[1:]), dtype=torch.float64, device=device)
    weights = _weights(flow)
    gradients = torch.autograd.grad(flow(ones).sum(), weights, allow_unused=True)
    total = sum(
        float((weight.detach() * gradient).abs().sum())
        for weight, gradient in zip(weights, gradients, strict=True)
        if gradient is not None
    )
    return float(torch.tensor(total, dtype=torch.float64).clamp(sys.float_info.min, sys.float_info.max).log())


def naswot(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Log-determinant of how alike the images' binary codes are (Mellor et al. 2021, section 3).

    The code of an image says for each unit before an activation whether it is above 0. Images i and j
    agree in K[i, j] = units - Hamming distance of their codes; the score is log det K, batch norms with the
    statistics of the batch. Of SiLU, GELU and Hardswish the sign of their input counts as well.

    Two images of one code make the determinant 0: eigenvalues below 1e-12 of the largest count as that.
    """
    agreement = torch.zeros(len(images), len(images), dtype=torch.float64)

    def compare(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        for codes in (inputs[0].flatten(1) > 0).split(CODES, dim=1):
            on = codes.float()
            agreement.add_((on @ on.T + (1 - on) @ (1 - on).T).cpu())

    for module in network.modules():
        if isinstance(module, ACTIVATIONS):
            module.register_forward_pre_hook(compare)
    with torch.no_grad():
        network.train()(images)
    return float(_floored(torch.linalg.eigvalsh(agreement)).log().sum())


def jacob_cov(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """How uncorrelated the images' gradients are: -sum_i [log(e_i + k) + 1 / (e_i + k)], k = 1e-5.

    e are the eigenvalues of the correlations between the gradients of the summed logits by each image
    (Mellor et al. 2020, first version of "Neural architecture search without training", section 3). A
    gradient that does not vary correlates with nothing, itself included.
    """
    inputs = images.clone().requires_grad_(True)
    (gradients,) = torch.autograd.grad(network.train()(inputs).sum(), inputs)
    rows = gradients.flatten(1).cpu().double()
    rows = F.normalize(rows - rows.mean(dim=1, keepdim=True), dim=1, eps=sys.float_info.min)
    shifted = torch.linalg.eigvalsh(rows @ rows.T).clamp(min=0.0) + JITTER
    return -float((shifted.log() + 1 / shifted).sum())


def grad_norm(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Sum over the layers' weights of the Euclidean norm of the gradient of the cross entropy.

    Abdelfattah et al. 2021, section 3.1: one batch, batch norms with its statistics. Weights are those of
    convolutions and linear layers.
    """
    weights = _weights(network.train())
    loss = F.cross_entropy(network(images), labels)
    gradients = torch.autograd.grad(loss, weights, allow_unused=True)
    return sum(float(gradient.norm()) for gradient in gradients if gradient is not None)


def macs(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Multiply-accumulate operations for one input; see ``measure_costs``."""
    if not isinstance(network, Network):
        raise TypeError(f"macs are known of a Network, not of a {type(network).__name__}.")
    classes = network.head.linear.out_features
    return float(
        measure_costs(network.architecture, input_shape=tuple(images.shape[1:]), classes=classes).macs
    )


def params(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Trainable parameters."""
    return float(sum(parameter.numel() for parameter in network.parameters()))


def _weights(network: nn.Module) -> list[nn.Parameter]:
    """Of convolutions and linear layers: the parameters that have more than one axis."""
    return [parameter for parameter in network.parameters() if parameter.ndim > 1]


def _replace(module: nn.Module, kinds: tuple[type[Any], ...]) -> nn.Module:
    """The module without its parts of these kinds: what goes in comes out."""
    if isinstance(module, kinds):
        return nn.Identity()
    for name, child in module.named_children():
        setattr(module, name, _replace(child, kinds))
    return module


def _floored(eigenvalues: Tensor) -> Tensor:
    return eigenvalues.clamp(min=FLAT * max(1.0, float(eigenvalues.max())))


PROXIES: dict[str, Callable[[nn.Module, Tensor, Tensor], float]] = {
    "synflow": synflow,
    "naswot": naswot,
    "jacob_cov": jacob_cov,
    "grad_norm": grad_norm,
    "macs": macs,
    "params": params,
}
