"""Search space of stages: runs of blocks of one width, from which most image classifiers are made."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nas_optuna.errors import InputError, check_number, check_one_of
from nas_optuna.space.architecture import DOWNSAMPLING, Architecture, Block, Head, Stem
from nas_optuna.space.base import Get, Size, Space
from nas_optuna.space.choice import Choice, parse_choice, parse_integers, parse_kernel, parse_words
from nas_optuna.space.layers import Scalar
from nas_optuna.space.parts import ACTIVATIONS, NORMS, Parts
from nas_optuna.space.registry import LAYERS, find_layer, register_layer

RESIDUAL = (True, False, "same")
MOST_SETS = 20_000  # of states that counting may go through

# where counting is: the stage, blocks left in it, channels coming in and going out, how the next block
# shrinks; or the beginning of a stage
_State = tuple[int, int, int, int, int, str]
_Table = dict[Block | None, dict[str, Scalar]]


@dataclass(frozen=True)
class _BlockChoices:
    """What every block of a stage decides: its layer, whether it is residual, the layer's choices."""

    layer: Choice
    residual: Choice
    choices: Mapping[str, Choice]

    @property
    def asked(self) -> dict[str, Choice]:
        """The decisions that some layer makes use of, the layer first."""
        used = {name for layer in self.layer.options for name, _ in find_layer(layer).choices}
        own = {name: choice for name, choice in self.choices.items() if name in used}
        return {"layer": self.layer, **own, "residual": self.residual}


@dataclass(frozen=True)
class _Stage:
    name: str
    depth: Choice
    width: Choice
    stride: Choice
    downsampling: Choice
    block: _BlockChoices

    @property
    def shapes(self) -> Iterator[tuple[int, int, int, str]]:
        """Each depth, width, stride and way of shrinking."""
        for depth, width, stride in itertools.product(
            self.depth.options, self.width.options, self.stride.options
        ):
            for downsampling in self.downsampling.options if stride > 1 else ("stride",):
                yield depth, width, stride, downsampling


class Stages(Space):
    """A stem, stages of blocks, a head. Every stage decides its depth and width, every block its layer.

    The first block of a stage may shrink its input. Each decision is a scalar (fixed), a list of
    options or a range such as ``16..32 by 8``; see ``Choice``.

    Args:
        stem: ``width``, ``kernel``, ``stride`` of the first convolution.
        stages: Name of a stage to its ``depth``, ``width``, ``stride``, and, where it differs from
            the others, ``block``. The names become the prefix of the stage's parameters in the study.
        block: ``layer`` and ``residual`` of every block (``same``: only where input and output have
            one shape), and the choices of its layers by name: ``kernel``, ``expansion``, ...
            A choice that is left out keeps the layer's default.
        head: ``width`` of a pointwise convolution before the classifier, 0 for none; ``norm: true``
            for a norm and an activation alone.
        activation, norm: See ``Parts``.
        downsampling: How blocks shrink: by ``stride``, ``maxpool`` or ``avgpool``.
        dimensions: 2 for images, 1 for series.
        layers: Layers of your own: name to a module class, partially applied; see ``register_layer``.
        encoding, seeds: See ``Space``.

    Raises:
        InputError: A range is empty or contradictory, a layer is unknown or can't be built.
    """

    def __init__(
        self,
        *,
        stem: Mapping[str, Any],
        stages: Mapping[str, Mapping[str, Any]],
        block: Mapping[str, Any],
        head: Mapping[str, Any] | None = None,
        activation: Any = "relu",
        norm: Any = "batch",
        downsampling: Any = "stride",
        dimensions: int = 2,
        layers: Mapping[str, Callable[..., Any]] | None = None,
        encoding: str = "flat",
        seeds: Sequence[Any] | str = (),
    ) -> None:
        layers = layers or {}
        if not isinstance(layers, Mapping):
            raise InputError(f"space.layers: {layers!r} must be names of layers with a _target_ each.")
        for name, factory in layers.items():
            register_layer(str(name), factory)
        check_number("space.dimensions", dimensions, whole=True, at_least=1, at_most=2)
        _check_keys("space.stem", stem, {"width", "kernel", "stride"})
        head = {"width": 0} if head is None else head
        _check_keys("space.head", head, {"width"}, optional={"norm"})
        check_one_of("space.head.norm", head.get("norm", False), (False, True))
        if not isinstance(stages, Mapping) or not stages:
            raise InputError("space.stages is empty: give at least one stage with depth, width and stride.")
        self.dimensions = dimensions
        self._head_norm = bool(head.get("norm", False))
        self._whole = {
            "activation": parse_words("space.activation", activation, ACTIVATIONS),
            "norm": parse_words("space.norm", norm, NORMS),
            "stem.width": parse_integers("space.stem.width", stem["width"], minimum=1),
            "stem.kernel": parse_kernel("space.stem.kernel", stem["kernel"]),
            "stem.stride": parse_integers("space.stem.stride", stem["stride"], minimum=1),
            "head.width": parse_integers("space.head.width", head["width"], minimum=0),
        }
        shrinking = parse_words("space.downsampling", downsampling, DOWNSAMPLING)
        self._stages = [_parse_stage(name, stage, block, shrinking) for name, stage in stages.items()]
        self._check_layers()
        self._tables: dict[tuple[Any, ...], _Table] = {}
        decisions = dict(self._whole)
        for stage in self._stages:
            decisions |= _stage_decisions(stage)
        super().__init__(decisions, encoding=encoding, seeds=seeds)

    def decode(self, get: Get) -> Architecture:
        parts = Parts(self.dimensions, get("activation"), get("norm"))
        stem = Stem(get("stem.width"), get("stem.kernel"), get("stem.stride"))
        blocks: list[Block] = []
        for stage in self._stages:
            depth, width, stride = (get(f"{stage.name}.{key}") for key in ("depth", "width", "stride"))
            shrinking = get(f"{stage.name}.downsampling") if stride > 1 else "stride"
            sites = [Block("", width, stride, downsampling=shrinking), *[Block("", width)] * (depth - 1)]
            for index, site in enumerate(sites, start=1):
                in_channels = blocks[-1].width if blocks else stem.width
                ask = functools.partial(_ask, get, f"{stage.name}.block{index}")
                blocks.append(_decode_block(stage.block, ask, site, in_channels))
        return Architecture(stem, tuple(blocks), Head(get("head.width"), self._head_norm), parts)

    def size(self) -> Size:
        """Counted exactly by following all networks at once, block by block, unless they are too many."""
        whole = math.prod(len(choice.options) for name, choice in self._whole.items() if name != "stem.width")
        try:
            known: dict[frozenset[_State], int] = {}
            starts = [
                self._closure([self._beginning(0, width)]) for width in self._whole["stem.width"].options
            ]
            return Size(whole * sum(self._count(start, known) for start in starts), exact=True)
        except (OverflowError, RecursionError):
            return Size(self.points, exact=False)

    def encode(self, architecture: Architecture) -> dict[str, Any] | None:
        """Decisions that give a network equal to ``architecture``; None where the space can't say it.

        Decisions that are void at that point are left out.
        """
        wanted = architecture.canonical()
        values: dict[str, Any] = {
            "activation": wanted.parts.activation,
            "norm": wanted.parts.norm,
            "stem.width": wanted.stem.width,
            "stem.kernel": wanted.stem.kernel,
            "stem.stride": wanted.stem.stride,
            "head.width": wanted.head.width,
        }
        mine = Head(wanted.head.width, self._head_norm and not wanted.head.width)
        fits = all(value in self._whole[name].options for name, value in values.items())
        if not fits or self.dimensions != wanted.parts.dimensions or not wanted.stem.activated:
            return None
        if mine != wanted.head:
            return None
        found = self._match(0, wanted.stem.width, wanted.blocks, set())
        if found is None:
            return None
        return {name: value for name, value in (values | found).items() if self.decisions[name].is_open}

    def _check_layers(self) -> None:
        """Refuse widths and choices that a layer says it can't be built with."""
        before = self._whole["stem.width"].options
        for stage in self._stages:
            # the first block comes from the stage before, the others from this one
            pairs = {*itertools.product(before, stage.width.options), *((w, w) for w in stage.width.options)}
            for name in stage.block.layer.options:
                layer = find_layer(name)
                for (into, out), choices in itertools.product(
                    sorted(pairs), _combinations(stage.block, name)
                ):
                    reason = layer.check(into, out, choices) if hasattr(layer.module, "check") else None
                    if reason:
                        raise InputError(
                            f"space.stages.{stage.name}: layer {name!r} can't be built with {choices}: "
                            f"{reason}. Change the widths, or take the layer out of space.block.layer."
                        )
            before = stage.width.options

    def _table(self, stage: _Stage, site: Block, in_channels: int) -> _Table:
        """The distinct blocks that a place can hold, None for nothing, and decisions for each."""
        key = (id(stage), site, in_channels)
        if key not in self._tables:
            table: _Table = {}
            for name in stage.block.layer.options:
                for choices in _combinations(stage.block, name):
                    for residual in stage.block.residual.options:
                        values = {**choices, "layer": name, "residual": residual}
                        block = _decode_block(stage.block, values.__getitem__, site, in_channels)
                        table.setdefault(_simplest(block, in_channels), values)
            self._tables[key] = table
        return self._tables[key]

    def _beginning(self, index: int, in_channels: int) -> _State:
        return (index, -1, in_channels, 0, 1, "stride")

    def _closure(self, states: Iterable[_State]) -> frozenset[_State]:
        """All states that can be reached without another block."""
        found: set[_State] = set()
        waiting = list(states)
        while waiting:
            state = waiting.pop()
            if state in found:
                continue
            found.add(state)
            index, left, into, out, *_ = state
            if left == -1 and index < len(self._stages):
                shapes = self._stages[index].shapes
                waiting += [(index, depth, into, width, s, kind) for depth, width, s, kind in shapes]
            elif left == 0:
                waiting.append(self._beginning(index + 1, out))
            elif left > 0 and None in self._table_at(state):
                waiting.append(_after(state))
        return frozenset(found)

    def _table_at(self, state: _State) -> _Table:
        index, _, into, out, stride, kind = state
        return self._table(self._stages[index], Block("", out, stride, downsampling=kind), into)

    def _count(self, states: frozenset[_State], known: dict[frozenset[_State], int]) -> int:
        """How many different chains of blocks lead from these states to the end."""
        if states in known:
            return known[states]
        if len(known) > MOST_SETS:
            raise OverflowError
        total = int(any(index == len(self._stages) for index, *_ in states))
        ways: dict[Block, list[_State]] = {}
        for state in states:
            if state[1] > 0:
                after = _after(state)
                for block in self._table_at(state):
                    if block is not None:
                        ways.setdefault(block, []).append(after)
        # many blocks lead to the same states: those are followed once
        alike: dict[frozenset[_State], int] = {}
        for reached in ways.values():
            group = frozenset(reached)
            alike[group] = alike.get(group, 0) + 1
        total += sum(count * self._count(self._closure(group), known) for group, count in alike.items())
        known[states] = total
        return total

    def _match(
        self, index: int, into: int, blocks: tuple[Block, ...], failed: set[tuple[int, int, int]]
    ) -> dict[str, Any] | None:
        """Decisions of the stages from ``index`` on that give exactly ``blocks``."""
        if index == len(self._stages):
            return None if blocks else {}
        place = (index, into, len(blocks))
        if place in failed:
            return None
        stage = self._stages[index]
        for depth, width, stride, kind in stage.shapes:
            values: dict[str, Any] = {"depth": depth, "width": width, "stride": stride}
            values = {f"{stage.name}.{key}": value for key, value in values.items()}
            if stride > 1:
                values[f"{stage.name}.downsampling"] = kind
            state = (index, depth, into, width, stride, kind)
            for found, rest in self._fill(state, 1, blocks):
                others = self._match(index + 1, width, rest, failed)
                if others is not None:
                    return values | found | others
        failed.add(place)
        return None

    def _fill(
        self, state: _State, number: int, blocks: tuple[Block, ...]
    ) -> Iterator[tuple[dict[str, Any], tuple[Block, ...]]]:
        """Decisions of the blocks left in a stage, and the blocks that are left over after it."""
        if state[1] == 0:
            yield {}, blocks
            return
        table, prefix = self._table_at(state), f"{self._stages[state[0]].name}.block{number}"
        nothing: tuple[Block | None, tuple[Block, ...]] = (None, blocks)
        for block, rest in [(blocks[0], blocks[1:]), nothing] if blocks else [nothing]:
            if block in table:
                here = {f"{prefix}.{key}": value for key, value in table[block].items()}
                for found, left in self._fill(_after(state), number + 1, rest):
                    yield here | found, left


def _ask(get: Get, prefix: str, key: str) -> Any:
    return get(f"{prefix}.{key}")


def _after(state: _State) -> _State:
    index, left, _, out, *_ = state
    return (index, left - 1, out, out, 1, "stride")


def _decode_block(block: _BlockChoices, get: Get, site: Block, in_channels: int) -> Block:
    """The block at a place whose width, stride and way of shrinking are known."""
    name = get("layer")
    layer = find_layer(name)
    choices = {choice: get(choice) for choice, _ in layer.choices if choice in block.choices}
    residual = get("residual")
    if residual == "same":
        residual = site.stride == 1 and site.width == in_channels
    return replace(
        site, layer=name, residual=residual, choices=tuple(sorted(layer.complete(choices).items()))
    )


def _simplest(block: Block, in_channels: int) -> Block | None:
    return find_layer(block.layer).canonical(block, in_channels)


def _combinations(block: _BlockChoices, layer: str) -> list[dict[str, Scalar]]:
    names = [name for name, _ in find_layer(layer).choices if name in block.choices]
    options = (block.choices[name].options for name in names)
    return [dict(zip(names, values, strict=True)) for values in itertools.product(*options)]


def _stage_decisions(stage: _Stage) -> dict[str, Choice]:
    decisions = {"depth": stage.depth, "width": stage.width, "stride": stage.stride}
    if max(stage.stride.options) > 1:
        decisions["downsampling"] = stage.downsampling
    for number in range(1, 1 + max(stage.depth.options)):
        decisions |= {f"block{number}.{key}": choice for key, choice in stage.block.asked.items()}
    return {f"{stage.name}.{key}": choice for key, choice in decisions.items()}


def _parse_stage(name: str, stage: Mapping[str, Any], block: Any, shrinking: Choice) -> _Stage:
    key = f"space.stages.{name}"
    _check_keys(key, stage, {"depth", "width", "stride"}, optional={"block"})
    if not str(name).isidentifier():
        raise InputError(f"space.stages: {name!r} must be a word: it becomes a part of parameters' names.")
    own = stage.get("block", {})
    for where_given, given in (("space.block", block), (f"{key}.block", own)):
        if not isinstance(given, Mapping):
            raise InputError(f"{where_given}: {given!r} must hold layer, residual and choices of the layers.")
    numbers = {
        what: parse_integers(f"{key}.{what}", stage[what], minimum=1) for what in ("depth", "width", "stride")
    }
    where = {what: f"{key}.block" if what in own else "space.block" for what in {**block, **own}}
    return _Stage(name, **numbers, downsampling=shrinking, block=_parse_block({**block, **own}, where))


def _parse_block(block: Mapping[str, Any], where: Mapping[str, str]) -> _BlockChoices:
    missing = sorted({"layer", "residual"} - set(block))
    if missing:
        raise InputError(f"space.block: {missing[0]} is missing; it must hold layer and residual.")
    layer = parse_choice(f"{where['layer']}.layer", block["layer"])
    for name in layer.options:
        if name not in LAYERS:
            raise InputError(
                f"{where['layer']}.layer: unknown layer {name!r}; known: {', '.join(sorted(LAYERS))}."
            )
    known = {name: default for found in LAYERS.values() for name, default in found.choices}
    choices = {}
    for name, value in block.items():
        if name in ("layer", "residual"):
            continue
        if name not in known:
            raise InputError(
                f"{where[name]}.{name}: no layer has this choice; known: layer, residual, "
                f"{', '.join(sorted(known))}."
            )
        choices[name] = _parse_layer_choice(f"{where[name]}.{name}", name, known[name], value)
    for name in layer.options:
        open_choices = [choice for choice, default in LAYERS[name].choices if default is None]
        unsaid = [choice for choice in open_choices if choice not in choices]
        if unsaid:
            raise InputError(
                f"{where['layer']}.{unsaid[0]} is missing: layer {name!r} needs it and has no default."
            )
    residual = parse_words(f"{where['residual']}.residual", block["residual"], RESIDUAL)
    return _BlockChoices(layer, residual, choices)


def _parse_layer_choice(key: str, name: str, default: Scalar | None, value: Any) -> Choice:
    if name == "kernel":
        return parse_kernel(key, value)
    if isinstance(default, bool):
        return parse_words(key, value, (True, False))
    if isinstance(default, int):
        return parse_integers(key, value, minimum=min(1, default))
    return parse_choice(key, value)


def _check_keys(key: str, values: Any, wanted: set[str], *, optional: Iterable[str] = ()) -> None:
    if not isinstance(values, Mapping) or not wanted <= set(values) <= wanted | set(optional):
        given = sorted(values) if isinstance(values, Mapping) else repr(values)
        beside = f", and at most {', '.join(sorted(optional))} beside them" if optional else ""
        raise InputError(f"{key}: {given} must be exactly the keys {', '.join(sorted(wanted))}{beside}.")
