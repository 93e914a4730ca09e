"""Search spaces `nasbench_macro` and `nasbench201`: those of published benchmarks, to the parameter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nas_optuna.space.architecture import Architecture, Block, Head, Stem
from nas_optuna.space.base import Get, Space
from nas_optuna.space.cells import EDGES, OPERATIONS, ways_through
from nas_optuna.space.choice import Choice


class NasBenchMacro(Space):
    """NAS-Bench-Macro (Su et al. 2021, section 5): eight layers in stages of 2, 3 and 3, three choices each.

    A stage doubles the channels (64, 128, 256) and its first layer halves the size. Each layer is
    an identity (0), an inverted bottleneck of kernel 3 and expansion 3 (1), or of kernel 5 and
    expansion 6 (2), residual where the shapes agree. The choices are integers, small to large.
    """

    stages = (2, 3, 3)
    width = 32
    head = 1280

    def __init__(self, *, encoding: str = "flat", seeds: Sequence[Any] | str = ()) -> None:
        decisions = {f"layer{number}": Choice((0, 1, 2), step=1) for number in range(1, 1 + sum(self.stages))}
        super().__init__(decisions, encoding=encoding, seeds=seeds)

    def decode(self, get: Get) -> Architecture:
        blocks: list[Block] = []
        for stage, depth in enumerate(self.stages, start=1):
            for index in range(depth):
                choice = get(f"layer{len(blocks) + 1}")
                blocks.append(self._block(choice, self.width * 2**stage, first=index == 0))
        return Architecture(Stem(self.width), tuple(blocks), Head(self.head))

    def _block(self, choice: int, width: int, *, first: bool) -> Block:
        stride = 2 if first else 1
        if choice == 0:
            return Block("identity", width, stride)
        kernel, expansion = {1: (3, 3), 2: (5, 6)}[choice]
        choices = (("expansion", expansion), ("kernel", kernel), ("squeeze_excite", False))
        return Block("mbconv", width, stride, residual=not first, choices=choices)


class NasBench201(Space):
    """NAS-Bench-201 (Dong and Yang 2020, section 2): one cell, five times in each of three stages.

    Each of the six edges between the cell's four nodes chooses one of five operations. Stages have
    16, 32 and 64 channels; a residual block between two of them halves the size.
    """

    widths = (16, 32, 64)
    repeats = 5

    def __init__(self, *, encoding: str = "flat", seeds: Sequence[Any] | str = ()) -> None:
        decisions = {f"edge{start}-{end}": Choice(OPERATIONS) for start, end in EDGES}
        super().__init__(decisions, encoding=encoding, seeds=seeds)

    def decode(self, get: Get) -> Architecture:
        operations = ",".join(get(f"edge{start}-{end}") for start, end in EDGES)
        blocks: list[Block] = []
        for width in self.widths:
            if blocks:
                blocks.append(Block("reduction", width, stride=2))
            blocks += [Block("cell", width, choices=(("operations", operations),))] * self.repeats
        return Architecture(Stem(self.widths[0], activated=False), tuple(blocks), Head(norm=True))

    def features(self, network: Architecture) -> tuple[float, ...]:
        """Of its cell: the most convolutions on a way through it, the ways, those without an operation."""
        cells = [str(block["operations"]) for block in network.blocks if block.layer == "cell"]
        ways = ways_through(cells[0]) if cells else [("skip",)]
        convolutions = [sum(name.startswith("conv") for name in way) for way in ways]
        skips = sum(set(way) == {"skip"} for way in ways)
        return (float(max(convolutions, default=-1)), float(len(ways)), float(skips))
