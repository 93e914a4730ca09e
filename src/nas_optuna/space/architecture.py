"""Search space: a network as data, before any module is built."""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from nas_optuna.errors import check_number, check_one_of
from nas_optuna.space.layers import Scalar
from nas_optuna.space.parts import ACTIVATIONS, NORMS, Parts
from nas_optuna.space.registry import find_layer

SCHEMA_VERSION = 2
DOWNSAMPLING = ("stride", "maxpool", "avgpool")

_SHORT = {"expansion": "e", "groups": "g", "reduction": "r", "squeeze_excite": "se"}


@dataclass(frozen=True)
class Stem:
    """The first convolution, from the input's channels to the width of the trunk.

    Attributes:
        width: Output channels.
        kernel: Side of the square kernel in pixels, odd.
        stride: Factor by which the size shrinks.
        activated: Whether the activation follows; layers that begin with one need none here.
    """

    width: int
    kernel: int = 3
    stride: int = 1
    activated: bool = True

    def __str__(self) -> str:
        return f"stem{self.kernel}-{self.width}{f'/{self.stride}' if self.stride > 1 else ''}"


@dataclass(frozen=True)
class Block:
    """One layer of the trunk.

    Attributes:
        layer: Name of the layer, a key of ``LAYERS``.
        width: Output channels.
        stride: Factor by which the size shrinks.
        residual: Whether the input is added to the output, through a projection where the two
            differ in shape (He et al. 2016, section 3.3, option B).
        downsampling: How it shrinks: by the layer's own ``stride``, or by a ``maxpool`` or
            ``avgpool`` before the layer.
        choices: What the layer decides, such as its kernel: names and values in the order of the
            names. May be given as a mapping.
    """

    layer: str
    width: int
    stride: int = 1
    residual: bool = False
    downsampling: str = "stride"
    choices: tuple[tuple[str, Scalar], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "choices", tuple(sorted(dict(self.choices).items())))

    def __getitem__(self, choice: str) -> Any:
        return dict(self.choices)[choice]

    def __str__(self) -> str:
        choices = dict(self.choices)
        kernel = choices.pop("kernel", "")
        marks = "".join(
            _SHORT.get(name, f"({name}={value})")
            + (str(value) if name in _SHORT and value is not True else "")
            for name, value in choices.items()
            if value is not False
        )
        pooled = "" if self.downsampling == "stride" else self.downsampling[:3]
        shrinks = f"/{self.stride}{pooled}" if self.stride > 1 else ""
        return f"{self.layer}{kernel}{marks}-{self.width}{shrinks}{'+' if self.residual else ''}"


@dataclass(frozen=True)
class Head:
    """What comes between the trunk and the classifier, which averages over all places.

    Attributes:
        width: Channels of a pointwise convolution with norm and activation; 0 for none.
        norm: Norm and activation without a convolution, for trunks that end without them.
    """

    width: int = 0
    norm: bool = False

    def __str__(self) -> str:
        return f"head-{self.width}" if self.width else "head"


@dataclass(frozen=True)
class Architecture:
    """A chain of blocks between a stem and a head.

    ``str()`` gives a line such as ``stem3-16 2*conv3-16+ dwsep5-32/2+``: how often (if not once),
    layer, kernel, width, ``/2`` for a stride of 2 (``/2max`` by pooling), ``+`` for a residual
    connection, and before the width the layer's further choices: ``e6`` expansion, ``se``
    squeeze-excite, ``g4`` groups, ``r4`` reduction.

    Attributes:
        stem, blocks, head: In the order of the data's way.
        parts: Decisions for the whole network.
    """

    stem: Stem
    blocks: tuple[Block, ...]
    head: Head = field(default_factory=Head)
    parts: Parts = field(default_factory=Parts)

    def __str__(self) -> str:
        unusual = [str(value) for name, value in asdict(self.parts).items() if value != getattr(Parts, name)]
        words = ["1d" if word == "1" else word for word in unusual]
        head = [str(self.head)] if self.head.width else []
        runs = [(text, len(list(run))) for text, run in itertools.groupby(map(str, self.blocks))]
        blocks = [text if length == 1 else f"{length}*{text}" for text, length in runs]
        return " ".join([*words, str(self.stem), *blocks, *head])

    def to_dict(self) -> dict[str, Any]:
        """Plain containers that JSON can hold, with the version of their layout."""
        return {
            "schema": SCHEMA_VERSION,
            "stem": asdict(self.stem),
            "blocks": [asdict(block) | {"choices": dict(block.choices)} for block in self.blocks],
            "head": asdict(self.head),
            "parts": asdict(self.parts),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Architecture:
        """The inverse of ``to_dict``.

        Raises:
            ValueError: The layout is of another version, or a value is impossible.
        """
        if not isinstance(values, Mapping):
            raise ValueError(f"an architecture must be a mapping, not {type(values).__name__}.")
        if values.get("schema") != SCHEMA_VERSION:
            raise ValueError(
                f"architecture schema {values.get('schema')!r} is unknown: "
                f"this version reads {SCHEMA_VERSION}."
            )
        architecture = cls(
            stem=Stem(**values["stem"]),
            blocks=tuple(Block(**block) for block in values["blocks"]),
            head=Head(**values["head"]),
            parts=Parts(**values["parts"]),
        )
        architecture.check()
        return architecture

    def check(self) -> None:
        """Raise a ``ValueError`` that names the first value that no network can have."""
        check_number("parts.dimensions", self.parts.dimensions, whole=True, at_least=1, at_most=2)
        check_one_of("parts.activation", self.parts.activation, ACTIVATIONS)
        check_one_of("parts.norm", self.parts.norm, NORMS)
        check_number("stem.kernel", self.stem.kernel, whole=True, at_least=1)
        check_number("stem.stride", self.stem.stride, whole=True, at_least=1)
        check_number("stem.width", self.stem.width, whole=True, at_least=1)
        check_number("head.width", self.head.width, whole=True, at_least=0)
        flags = {"stem.activated": self.stem.activated, "head.norm": self.head.norm}
        flags |= {f"block {number}.residual": block.residual for number, block in enumerate(self.blocks, 1)}
        for key, flag in flags.items():
            if not isinstance(flag, bool):
                raise ValueError(f"{key}: {flag!r} must be true or false.")
        if self.stem.kernel % 2 == 0:
            raise ValueError(f"stem.kernel: {self.stem.kernel} is even: kernels must be odd (1, 3, 5, ...).")
        width = self.stem.width
        for number, block in enumerate(self.blocks, start=1):
            check_number(f"block {number}.width", block.width, whole=True, at_least=1)
            check_number(f"block {number}.stride", block.stride, whole=True, at_least=1)
            check_one_of(f"block {number}.downsampling", block.downsampling, DOWNSAMPLING)
            if not isinstance(block.layer, str):
                raise ValueError(f"block {number}.layer: {block.layer!r} must be a word.")
            reason = find_layer(block.layer).check(width, block.width, dict(block.choices))
            if reason:
                raise ValueError(f"block {number}: {reason}.")
            width = block.width

    def canonical(self) -> Architecture:
        """The simplest architecture that says the same network.

        Every choice has its value, what is inactive is gone, what does nothing is left out.
        """
        blocks: list[Block] = []
        width = self.stem.width
        previous: tuple[Block, int] | None = None
        for block in self.blocks:
            # a block that is repeated, as cells are, is simplified once
            if previous != (block, width):
                simplest = find_layer(block.layer).canonical(block, width)
                if simplest is not None and simplest.stride == 1 and simplest.downsampling != "stride":
                    simplest = replace(simplest, downsampling="stride")
            if simplest is not None:
                blocks.append(simplest)
            previous = block, width
            width = block.width
        head = replace(self.head, norm=False) if self.head.width else self.head
        return replace(self, blocks=tuple(blocks), head=head)

    @functools.cached_property
    def hash(self) -> str:
        """Twelve hexadecimal digits of the canonical form, equal for equal networks: the network's id."""
        text = json.dumps(self.canonical().to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]
