"""Search space: what a network costs, known without training it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from nas_optuna.space.architecture import Architecture, Block, Head, Stem
from nas_optuna.space.network import Classifier, Normalize, build_block, build_stem
from nas_optuna.space.parts import Parts
from nas_optuna.space.registry import find_layer

_ATEN = torch.ops.aten
_IN_PLACE = {_ATEN.relu_, _ATEN.silu_, _ATEN.hardswish_}
_SAME_SHAPE = {_ATEN.relu, _ATEN.silu, _ATEN.hardswish, _ATEN.gelu, _ATEN.add}
_NORMS = {_ATEN.native_batch_norm, _ATEN._native_batch_norm_legit_no_training, _ATEN.native_group_norm}


@dataclass(frozen=True)
class LayerCosts:
    """Price of one part of a network: the stem, a block, or the head.

    Attributes:
        name: ``stem``, ``block1``, ... or ``head``.
        summary: The part in a word.
        output_shape: Channels and size of what it gives on, without the batch axis.
        macs, params, memory, size: See ``Costs``.
    """

    name: str
    summary: str
    output_shape: tuple[int, ...]
    macs: int
    params: int
    memory: int
    size: int


@dataclass(frozen=True)
class Costs:
    """Price of one network.

    Attributes:
        macs: Multiply-accumulate operations of convolutions and matrix products for one input.
        params: Trainable parameters.
        memory: Peak activation memory in bytes: the most that is alive at once while one input
            passes in float32, operation by operation. Norms and other pointwise operations work in
            place where their input is not needed any more. Weights are not part of it.
        size: Bytes of the model: weights and the norms' statistics in float32.
        layers: The same for each part.
    """

    macs: int
    params: int
    memory: int
    size: int
    layers: tuple[LayerCosts, ...]


def measure_costs(architecture: Architecture, *, input_shape: tuple[int, ...], classes: int) -> Costs:
    """Count the costs on the meta device: shapes flow through the real modules, numbers do not.

    Each part is measured once for its input's shape and remembered, so that the networks of a
    search, which share most of their parts, cost a fraction of a millisecond each.

    Args:
        architecture: The network.
        input_shape: Channels, then height and width, or length.
        classes: Length of the logits.
    """
    parts = architecture.parts
    layers = [_measure_stem(architecture.stem, tuple(input_shape), parts)]
    for number, block in enumerate(architecture.blocks, start=1):
        # the layer is part of the key: a name may come to mean another layer
        factory = find_layer(block.layer).factory
        measured = _measure_block(block, layers[-1].output_shape, parts, factory)
        layers.append(replace(measured, name=f"block{number}"))
    layers.append(_measure_head(architecture.head, layers[-1].output_shape, parts, classes))
    return Costs(
        macs=sum(layer.macs for layer in layers),
        params=sum(layer.params for layer in layers),
        memory=max(layer.memory for layer in layers),
        size=sum(layer.size for layer in layers),
        layers=tuple(layers),
    )


@functools.lru_cache(maxsize=10_000)
def _measure_stem(stem: Stem, shape: tuple[int, ...], parts: Parts) -> LayerCosts:
    def build() -> nn.Module:
        zeros, ones = [0.0] * shape[0], [1.0] * shape[0]
        return nn.Sequential(
            Normalize(zeros, ones, dimensions=parts.dimensions), build_stem(stem, shape[0], parts=parts)
        )

    return _measure("stem", str(stem), build, shape)


@functools.lru_cache(maxsize=100_000)
def _measure_block(block: Block, shape: tuple[int, ...], parts: Parts, factory: object) -> LayerCosts:
    return _measure("block", str(block), lambda: build_block(block, shape[0], parts=parts), shape)


@functools.lru_cache(maxsize=10_000)
def _measure_head(head: Head, shape: tuple[int, ...], parts: Parts, classes: int) -> LayerCosts:
    return _measure("head", str(head), lambda: Classifier(head, shape[0], classes, parts=parts), shape)


def _measure(name: str, summary: str, build: Callable[[], nn.Module], shape: tuple[int, ...]) -> LayerCosts:
    with torch.device("meta"):
        module = build().eval()
        inputs = torch.empty(1, *shape)
    with torch.no_grad(), _Recorder() as recorder:
        output = module(inputs)
    state = [*module.parameters(), *module.buffers()]
    return LayerCosts(
        name=name,
        summary=summary,
        output_shape=tuple(output.shape[1:]),
        macs=recorder.macs,
        params=sum(parameter.numel() for parameter in module.parameters()),
        memory=recorder.peak(inputs, output, weights=state),
        size=sum(tensor.numel() * tensor.element_size() for tensor in state),
    )


@dataclass(frozen=True)
class _Step:
    """One operation: the memory that it reads and writes, by identity, and whether it may work in place."""

    read: set[int]
    written: set[int]
    in_place: bool


class _Recorder(TorchDispatchMode):
    """Counts multiplications and follows which values are alive, operation by operation."""

    def __init__(self) -> None:
        TorchDispatchMode.__init__(self)
        self.macs = 0
        self._steps: list[_Step] = []
        self._kept: list[Tensor] = []  # so that no identity is given twice

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = _run(func, args, kwargs or {})
        self.macs += _count_macs(func, args, kwargs or {}, output)
        read, written = _tensors((args, kwargs)), _tensors(output)
        self._kept += written
        in_place = torch.Tag.pointwise in func.tags or "_norm" in str(func)
        self._steps.append(_Step(set(map(_identity, read)), set(map(_identity, written)), in_place))
        return output

    def peak(self, inputs: Tensor, output: Tensor, *, weights: list[Tensor]) -> int:
        """The most bytes alive during any operation."""
        ignored = set(map(_identity, weights))
        sizes = {_identity(tensor): _bytes(tensor) for tensor in [inputs, output, *self._kept]}
        last = {identity: index for index, step in enumerate(self._steps) for identity in step.read}
        last[_identity(output)] = len(self._steps)
        alive, most = {_identity(inputs)}, sizes[_identity(inputs)]
        for index, step in enumerate(self._steps):
            dying = {identity for identity in alive if last.get(identity, -1) <= index}
            # what nothing reads, such as the places that a pool remembers for its gradient, is left out
            new = {identity for identity in step.written - alive - ignored if identity in last}
            needed = sum(sizes[identity] for identity in alive | new)
            if step.in_place:
                freed = sum(sizes[identity] for identity in dying & step.read)
                needed -= min(freed, sum(sizes[identity] for identity in new))
            most = max(most, needed)
            alive = {identity for identity in alive | new if last.get(identity, -1) > index}
        return most


def _run(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The operation itself, or what is known of its result: meta kernels of the commonest are slow."""
    operation = func.overloadpacket
    inputs: Any = args[0] if args else None
    if operation in _IN_PLACE:
        return inputs
    if operation in _SAME_SHAPE and all(
        isinstance(other, Tensor) and other.shape == inputs.shape for other in args[1:2]
    ):
        return torch.empty_like(inputs)
    if operation in _NORMS:
        nothing = torch.empty(0, device=inputs.device)
        return torch.empty_like(inputs), nothing, nothing
    return func(*args, **kwargs)


def _count_macs(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> int:
    """Multiplications of one operation; those of rarer kinds as torch counts them."""
    operation = func.overloadpacket
    if operation is _ATEN.convolution:
        inputs, weight, transposed = args[0], args[1], args[6]
        # each output value is a sum over one filter: all of the weight's axes but the first
        places = inputs if transposed else output
        return int(places.numel()) * int(math.prod(weight.shape[1:]))
    if operation in (_ATEN.mm, _ATEN.addmm, _ATEN.bmm, _ATEN.baddbmm):
        return int(output.numel()) * int(args[-1].shape[-2])
    if operation in flop_registry:
        return int(flop_registry[operation](*args, **kwargs, out_val=output)) // 2
    return 0


def _tensors(values: Any) -> list[Tensor]:
    if isinstance(values, Tensor):
        return [values]
    if isinstance(values, dict):
        values = values.values()
    elif not isinstance(values, list | tuple):
        return []
    return [tensor for value in values for tensor in _tensors(value)]


def _identity(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _bytes(tensor: Tensor) -> int:
    return tensor.untyped_storage().nbytes()
