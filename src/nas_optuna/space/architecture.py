"""Search space: a network as data, before any module is built."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Stem:
    """The first convolution, from the image's channels to the width of the trunk."""

    width: int
    kernel: int = 3
    stride: int = 1


@dataclass(frozen=True)
class Block:
    """One layer of the trunk.

    Attributes:
        layer: Name of the layer, a key of ``LAYERS``.
        width: Output channels.
        kernel: Side of the square kernel in pixels, odd.
        stride: Factor by which height and width shrink.
        residual: Whether the input is added to the output, through a projection where the two
            differ in shape (He et al. 2016, section 3.3, option B).
    """

    layer: str
    width: int
    kernel: int
    stride: int = 1
    residual: bool = False

    def __str__(self) -> str:
        downsampling = f"/{self.stride}" if self.stride > 1 else ""
        return f"{self.layer}{self.kernel}-{self.width}{downsampling}{'+' if self.residual else ''}"


@dataclass(frozen=True)
class Architecture:
    """A chain of blocks between a stem and a classifier head (global average pooling, linear).

    ``str()`` gives a line such as ``stem3-16 conv3-16+ dwsep5-32/2+``: layer, kernel, width,
    ``/2`` for a stride of 2, ``+`` for a residual connection.
    """

    stem: Stem
    blocks: tuple[Block, ...]

    def __str__(self) -> str:
        stride = f"/{self.stem.stride}" if self.stem.stride > 1 else ""
        return " ".join([f"stem{self.stem.kernel}-{self.stem.width}{stride}", *map(str, self.blocks)])

    def to_dict(self) -> dict[str, Any]:
        """Plain containers that JSON can hold, with the version of their layout."""
        return {
            "schema": SCHEMA_VERSION,
            "stem": asdict(self.stem),
            "blocks": [asdict(block) for block in self.blocks],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Architecture:
        """The inverse of ``to_dict``.

        Raises:
            ValueError: The layout is of another version.
        """
        if values.get("schema") != SCHEMA_VERSION:
            raise ValueError(
                f"architecture schema {values.get('schema')!r} is unknown: "
                f"this version reads {SCHEMA_VERSION}."
            )
        return cls(Stem(**values["stem"]), tuple(Block(**block) for block in values["blocks"]))

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits, equal for equal networks."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]
