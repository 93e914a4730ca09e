"""Search space: the same network with other widths, for knowing it cheaply."""

from __future__ import annotations

import math
from dataclasses import replace

from nas_optuna.space.architecture import Architecture


def scale_widths(architecture: Architecture, factor: float) -> Architecture:
    """The network with all its widths multiplied (Howard et al. 2017, MobileNets, section 3.3).

    Equal widths stay equal. Each is rounded to the nearest multiple of what the groups of all blocks
    need, their least common multiple, and is at least that; a head without a convolution stays so.
    Expansions, reductions and groups stay as they are.

    Args:
        architecture: The network; stays as it is.
        factor: Above 0; 1 changes nothing.
    """
    if factor == 1:
        return architecture
    groups = [dict(block.choices).get("groups", 1) for block in architecture.blocks]
    unit = math.lcm(*(count for count in groups if isinstance(count, int)))

    def scaled(width: int) -> int:
        return max(unit, unit * round(width * factor / unit))

    head = architecture.head
    return replace(
        architecture,
        stem=replace(architecture.stem, width=scaled(architecture.stem.width)),
        blocks=tuple(replace(block, width=scaled(block.width)) for block in architecture.blocks),
        head=replace(head, width=scaled(head.width)) if head.width else head,
    )
