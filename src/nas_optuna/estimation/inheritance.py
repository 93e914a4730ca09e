"""Performance estimation: a network that begins with the weights of a trained relative."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_optuna.space import Architecture, Block, Network
from nas_optuna.space.network import Residual

NOISE = 0.02  # of a weight's spread, on copies of a channel: equal ones would learn the same for ever
CACHED = 256  # layouts of networks

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Parent:
    """A trained network whose weights another one begins with.

    Attributes:
        architecture: The network, with the widths that it was trained with.
        weights: Its ``state_dict``.
        number: Of its trial.
    """

    architecture: Architecture
    weights: Mapping[str, Tensor]
    number: int


@dataclass(frozen=True)
class _Layout:
    """Names and shapes of a network's tensors; prefixes of them that belong to each block.

    Attributes:
        shapes: By name.
        blocks: Of each block, the prefix of its layer, and of the projection of its residual connection.
    """

    shapes: Mapping[str, Shape]
    blocks: Sequence[Mapping[str, str]]


def inherit(network: Network, parent: Parent, *, seed: int, noise: float = NOISE) -> None:
    """Give an untrained network the weights of a trained relative, as far as the two overlap.

    Blocks are paired by their place among those of one resolution, and have to be of one layer. Where the
    network is wider, channels are copied and what reads them is divided by the number of copies, so that
    it computes what its parent did; where it is narrower, the first channels stay; a larger kernel is
    the parent's in a border of zeros. A residual block that the parent does not have begins as the identity:
    its branch ends in zeros. (Net2Net: Chen et al. 2016, section 2.) Anything else keeps its own
    weights: other layers, and deeper stages without residual connections.

    Args:
        network: Untrained; changed in place.
        parent: Its relative.
        seed: Of the noise that tells copies of a channel apart.
        noise: Its standard deviation as a part of the copied weight's.
    """
    generator = torch.Generator().manual_seed(seed)
    layout = _layout(parent.architecture, *_interface(network))
    modules = dict(network.named_modules())
    with torch.no_grad():
        state = network.state_dict()
        for name, source in _pairs(network.architecture, parent.architecture, *_interface(network)):
            module = modules[name.rpartition(".")[0]]
            is_grouped = getattr(module, "groups", 1) > 1
            tensor = _resized(parent.weights[source], state[name].shape, is_grouped=is_grouped)
            copies = tensor.ndim > 1 and len(tensor) > layout.shapes[source][0]
            if copies and noise:
                _tell_apart(tensor, layout.shapes[source][0], noise, generator)
            state[name].copy_(tensor)
        for index in _unpaired(network.architecture, parent.architecture):
            _make_identity(network.blocks[index])


def likeness(child: Architecture, parent: Architecture, *, channels: int, classes: int) -> float:
    """How near a relative is, 0 to 1: the part of a network's weights that have a place in it.

    A weight of another size counts less: half where all channels are half or twice as many.

    Args:
        child: The network.
        parent: The relative.
        channels, classes: Of the data.
    """
    shapes = _layout(child, channels, classes).shapes
    known = _layout(parent, channels, classes).shapes
    alike = sum(
        math.prod(shapes[name]) * _ratio(shapes[name], known[source])
        for name, source in _pairs(child, parent, channels, classes)
    )
    return alike / sum(map(math.prod, shapes.values()))


def _ratio(shape: Shape, other: Shape) -> float:
    ratios = [min(sizes) / max(sizes) for sizes in zip(shape, other, strict=True)]
    return math.sqrt(math.prod(ratios)) if len(shape) > 1 else ratios[0]


def _interface(network: Network) -> tuple[int, int]:
    """Channels and classes."""
    return network.normalize.mean.shape[1], network.head.linear.out_features


@functools.lru_cache(CACHED)
def _layout(architecture: Architecture, channels: int, classes: int) -> _Layout:
    with torch.device("meta"):
        network = Network(architecture, classes=classes, mean=[0.0] * channels, std=[1.0] * channels)
    shapes = {
        name: tuple(tensor.shape)
        for name, tensor in network.state_dict().items()
        if tensor.ndim and not name.startswith("normalize.")
    }
    return _Layout(
        shapes, [_prefixes(f"blocks.{index}", block) for index, block in enumerate(network.blocks)]
    )


def _prefixes(prefix: str, block: nn.Module) -> dict[str, str]:
    """Where the tensors of a block are: behind a pool, or in a residual branch."""
    for name, part in block.named_children():
        if isinstance(part, Residual):
            return {"layer": f"{prefix}.{name}.layer.", "shortcut": f"{prefix}.{name}.shortcut."}
        if any(True for _ in part.parameters()):
            return {"layer": f"{prefix}.{name}."}
    return {}


def _pairs(
    child: Architecture, parent: Architecture, channels: int, classes: int
) -> Iterator[tuple[str, str]]:
    """Names of the child's tensors, and of the parent's that they come from."""
    ours, theirs = _layout(child, channels, classes), _layout(parent, channels, classes)
    prefixes = [("stem.", "stem."), ("head.", "head.")]
    for index, other in _partners(child, parent):
        if other is not None and _is_alike(child.blocks[index], parent.blocks[other]):
            mine, its = ours.blocks[index], theirs.blocks[other]
            prefixes += [(prefix, its[role]) for role, prefix in mine.items() if role in its]
    for prefix, source in prefixes:
        for name, shape in ours.shapes.items():
            known = theirs.shapes.get(source + name.removeprefix(prefix))
            if name.startswith(prefix) and known is not None and len(known) == len(shape):
                yield name, source + name.removeprefix(prefix)


def _partners(child: Architecture, parent: Architecture) -> Iterator[tuple[int, int | None]]:
    """Each block of the child, and the parent's at its place among those of the same resolution."""
    levels = zip_longest(_levels(child), _levels(parent), fillvalue=())
    for ours, theirs in levels:
        for place, index in enumerate(ours):
            yield index, theirs[place] if place < len(theirs) else None


def _levels(architecture: Architecture) -> list[list[int]]:
    """Indices of the blocks by resolution; a block that shrinks its input is the first of a new one."""
    levels: list[list[int]] = [[]]
    for index, block in enumerate(architecture.blocks):
        if block.stride > 1:
            levels.append([])
        levels[-1].append(index)
    return levels


def _is_alike(block: Block, other: Block) -> bool:
    """Whether two blocks have the same parts, if of other sizes."""
    return block.layer == other.layer


def _unpaired(child: Architecture, parent: Architecture) -> Iterator[int]:
    """Blocks of the child with a residual connection and no weights from the parent."""
    for index, other in _partners(child, parent):
        block = child.blocks[index]
        if block.residual and (other is None or not _is_alike(block, parent.blocks[other])):
            yield index


def _resized(source: Tensor, shape: Sequence[int], *, is_grouped: bool) -> Tensor:
    """A tensor of another shape that does the same: (out, in, kernel...), (out, in) or (out,)."""
    result = source[torch.arange(shape[0]) % len(source)]
    if len(shape) == 1:
        return result
    inputs = torch.arange(shape[1]) % source.shape[1]
    result = result[:, inputs]
    if not is_grouped:
        copies = inputs.bincount()[inputs]
        result = result / copies.view(1, -1, *[1] * (len(shape) - 2))
    borders = [(wanted - given) // 2 for wanted, given in zip(shape[2:], source.shape[2:], strict=True)]
    # negative ones cut
    return F.pad(result, [border for border in reversed(borders) for _ in range(2)])


def _tell_apart(weight: Tensor, given: int, noise: float, generator: torch.Generator) -> None:
    """Add noise to the output channels of a weight that are copies."""
    copied = weight[given:]
    spread = noise * weight[:given].std()
    copied += spread * torch.randn(copied.shape, generator=generator)


def _make_identity(block: nn.Module) -> None:
    """Let the branch of a residual block end in zeros, where nothing but the identity is beside it."""
    residual = next(part for part in block.children() if isinstance(part, Residual))
    if not isinstance(residual.shortcut, nn.Identity):
        return
    own = [list(part.parameters(recurse=False)) for part in residual.layer.modules()]
    for parameter in [parameters for parameters in own if parameters][-1]:
        parameter.zero_()
