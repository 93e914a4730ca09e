"""Search space: the cell of NAS-Bench-201 as a layer, and the block that shrinks between its stages."""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from nas_optuna.space.parts import Parts

if TYPE_CHECKING:
    from nas_optuna.space.architecture import Block

EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
OPERATIONS = ("none", "skip", "conv1x1", "conv3x3", "avgpool3x3")

# a value in a cell: how often each term is summed up. A term is the input, the output of a numbered
# convolution, or the pool of a value, which has no weights to tell two of them apart
_Term = tuple[str, object]
_Value = tuple[tuple[_Term, int], ...]


class Cell(nn.Module):
    """Four nodes, an operation on each of the six edges between them (Dong and Yang 2020, section 2.1).

    A node is the sum of what its edges bring. Convolutions come after an activation and before a norm.

    Args:
        operations: One of ``OPERATIONS`` for each of ``EDGES`` (0-1, 0-2, 1-2, 0-3, 1-3, 2-3),
            separated by commas.
    """

    activation_after = False

    def __init__(self, in_channels: int, out_channels: int, *, parts: Parts, operations: str) -> None:
        super().__init__()
        self._operations = split_operations(operations)
        self.edges = nn.ModuleDict(
            {
                f"{start}_{end}": _operation(name, in_channels, parts)
                for (start, end), name in zip(EDGES, self._operations, strict=True)
                if name not in ("none", "skip")
            }
        )

    def forward(self, features: Tensor) -> Tensor:
        nodes = [features]
        for node in (1, 2, 3):
            brought = [
                self._along(start, node, name, nodes[start])
                for (start, end), name in zip(EDGES, self._operations, strict=True)
                if end == node and name != "none"
            ]
            nodes.append(functools.reduce(torch.add, brought) if brought else features * 0)
        return nodes[-1]

    def _along(self, start: int, end: int, name: str, features: Tensor) -> Tensor:
        brought: Tensor = features if name == "skip" else self.edges[f"{start}_{end}"](features)
        return brought

    @staticmethod
    def check(in_channels: int, out_channels: int, *, operations: str) -> str | None:
        """Why these operations make no cell, if they don't."""
        names = split_operations(str(operations))
        if len(names) != len(EDGES) or set(names) - set(OPERATIONS):
            return f"operations {operations!r} must be {len(EDGES)} of {', '.join(OPERATIONS)}"
        if in_channels != out_channels:
            return f"a cell has as many channels out as in, not {in_channels} and {out_channels}"
        return None

    @staticmethod
    def canonical(block: Block, in_channels: int) -> Block | None:
        """The same cell without what cannot reach its output, in one fixed order; None for a mere skip."""
        simplest = simplest_operations(str(block["operations"]))
        if simplest == ("none", "none", "none", "skip", "none", "none") and not block.residual:
            return None
        return replace(block, choices=(("operations", ",".join(simplest)),))


class Reduction(nn.Module):
    """Residual block that halves the size, between two stages of cells (Dong and Yang 2020, section 2.1)."""

    activation_after = False

    def __init__(self, in_channels: int, out_channels: int, *, parts: Parts, stride: int = 2) -> None:
        super().__init__()
        self.layer = nn.Sequential(
            parts.nonlinearity(in_place=False),
            *parts.normed_convolution(in_channels, out_channels, 3, stride),
            parts.nonlinearity(),
            *parts.normed_convolution(out_channels, out_channels, 3),
        )
        self.shortcut = nn.Sequential(
            parts.downsampling("avgpool", stride), parts.convolution(in_channels, out_channels)
        )

    def forward(self, features: Tensor) -> Tensor:
        output: Tensor = self.layer(features) + self.shortcut(features)
        return output


def split_operations(operations: str) -> tuple[str, ...]:
    """The names in a cell's ``operations``."""
    return tuple(operations.split(","))


def ways_through(operations: str) -> list[tuple[str, ...]]:
    """The operations on each way from a cell's input to its output."""
    chosen = dict(zip(EDGES, split_operations(operations), strict=True))

    def onward(node: int) -> list[tuple[str, ...]]:
        if node == 3:
            return [()]
        return [
            (name, *rest)
            for (start, end), name in chosen.items()
            if start == node and name != "none"
            for rest in onward(end)
        ]

    return onward(0)


def simplest_operations(operations: str) -> tuple[str, ...]:
    """The fewest operations that make an equal cell: equal up to the numbering of its weights."""
    return _simplest_of_each()[_describe(split_operations(operations))]


@functools.cache
def _simplest_of_each() -> dict[object, tuple[str, ...]]:
    """For each of the distinct cells, its simplest operations. Takes about a second, once."""
    simplest: dict[object, tuple[str, ...]] = {}
    for names in sorted(itertools.product(OPERATIONS, repeat=len(EDGES)), key=_complexity):
        simplest.setdefault(_describe(names), names)
    return simplest


def _complexity(names: Sequence[str]) -> tuple[int, int, tuple[int, ...]]:
    convolutions = sum(name.startswith("conv") for name in names)
    return convolutions, sum(name != "none" for name in names), tuple(map(OPERATIONS.index, names))


@functools.cache
def _describe(names: tuple[str, ...]) -> object:
    """What a cell computes, with its convolutions numbered in an order that depends on nothing else.

    Skips are followed; whatever works on nothing is nothing; what does not reach the output is left
    out. Convolutions are ordered by what they compute when their weights are not told apart, and
    where that is the same, by the order that gives the smallest description.
    """
    convolutions, output = _evaluate(names)
    live = _reachable(output, convolutions)
    # two convolutions of the same text have different weights, but are alike otherwise
    texts = {number: _text(*convolutions[number], convolutions) for number in live}
    alike = [
        list(group) for _, group in itertools.groupby(sorted(live, key=texts.__getitem__), texts.__getitem__)
    ]
    return min(
        _numbered(list(itertools.chain(*order)), convolutions, output)
        for order in itertools.product(*map(itertools.permutations, alike))
    )


def _evaluate(names: Sequence[str]) -> tuple[list[tuple[str, _Value]], _Value]:
    """The convolutions of a cell with their inputs, numbered as they come, and its output."""
    convolutions: list[tuple[str, _Value]] = []
    nodes: list[_Value] = [((("input", 0), 1),)]
    for node in (1, 2, 3):
        total: Counter[_Term] = Counter()
        for (start, end), name in zip(EDGES, names, strict=True):
            if end != node or name == "none" or not nodes[start]:
                continue
            value = nodes[start]
            if name == "skip":
                total.update(dict(value))
            elif name == "avgpool3x3":
                total[("pool", value)] += 1
            else:
                total[("convolution", len(convolutions))] += 1
                convolutions.append((name, value))
        nodes.append(tuple(sorted(total.items(), key=repr)))
    return convolutions, nodes[-1]


def _reachable(value: _Value, convolutions: Sequence[tuple[str, _Value]]) -> set[int]:
    found: set[int] = set()
    for (kind, of), _ in value:
        if kind == "pool":
            assert isinstance(of, tuple)
            found |= _reachable(of, convolutions)
        elif kind == "convolution":
            assert isinstance(of, int)
            found |= {of} | _reachable(convolutions[of][1], convolutions)
    return found


def _text(name: str, value: _Value, convolutions: Sequence[tuple[str, _Value]]) -> str:
    """A convolution with all that leads to it, its weights not told apart from others'."""
    return f"{name}({_write(value, lambda of: _text(*convolutions[of], convolutions))})"


def _numbered(order: Iterable[int], convolutions: Sequence[tuple[str, _Value]], output: _Value) -> str:
    """A cell as its convolutions in an order, each named by its place in it."""
    places = {old: new for new, old in enumerate(order)}

    def name(of: int) -> str:
        return f"#{places[of]}"

    inputs = [f"{convolutions[old][0]}({_write(convolutions[old][1], name)})" for old in places]
    return f"{';'.join(inputs)}>{_write(output, name)}"


def _write(value: _Value, name: Callable[[int], str]) -> str:
    """A sum in one order, its convolutions named by a function."""
    terms = []
    for (kind, of), count in value:
        if kind == "pool":
            assert isinstance(of, tuple)
            terms.append(f"{count}pool({_write(of, name)})")
        elif kind == "convolution":
            assert isinstance(of, int)
            terms.append(f"{count}{name(of)}")
        else:
            terms.append(f"{count}x")
    return "+".join(sorted(terms))


def _operation(name: str, channels: int, parts: Parts) -> nn.Module:
    if name == "avgpool3x3":
        return parts.average_pool(3, 1)
    kernel = int(name[-1])
    return nn.Sequential(
        parts.nonlinearity(in_place=False), *parts.normed_convolution(channels, channels, kernel)
    )
