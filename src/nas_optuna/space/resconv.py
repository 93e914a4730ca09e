"""Search space `resconv`: stages of blocks, each standard or depthwise-separable, residual or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optuna.trial import BaseTrial

from nas_optuna.errors import InputError, check_one_of
from nas_optuna.space.architecture import Architecture, Block, Stem
from nas_optuna.space.choice import Choice, parse_choice, parse_integers
from nas_optuna.space.layers import LAYERS


@dataclass(frozen=True)
class _Stage:
    depth: Choice
    width: Choice
    stride: Choice


class ResConv:
    """Residual stages: the prior that most good image classifiers share (He et al. 2016).

    A stage is a run of blocks of one width; its first block may shrink the image. Every stage
    chooses its depth and width, every block its layer, its kernel and whether it is residual.
    Each decision is a scalar (fixed), a list of options or a range ``{low, high, step}``.

    Args:
        stem: ``width``, ``kernel``, ``stride`` of the first convolution.
        stages: Name of a stage to its ``depth``, ``width`` and ``stride``. The names become the
            prefix of the stage's parameters in the study.
        block: ``layer``, ``kernel``, ``residual`` of every block.
        encoding: ``flat`` asks for the deepest network's every decision and ignores what the
            chosen depth leaves over: joint samplers need it. ``conditional`` asks for used ones only.

    Raises:
        InputError: A range is empty or contradictory, or a layer is unknown.
    """

    def __init__(
        self,
        *,
        stem: Mapping[str, Any],
        stages: Mapping[str, Mapping[str, Any]],
        block: Mapping[str, Any],
        encoding: str = "flat",
    ) -> None:
        check_one_of("space.encoding", encoding, ("flat", "conditional"))
        _check_keys("space.stem", stem, {"width", "kernel", "stride"})
        _check_keys("space.block", block, {"layer", "kernel", "residual"})
        self._encoding = encoding
        self._stem_width = parse_integers("space.stem.width", stem["width"], minimum=1)
        self._stem_kernel = _parse_kernel("space.stem.kernel", stem["kernel"])
        self._stem_stride = parse_integers("space.stem.stride", stem["stride"], minimum=1)
        self._layer = _parse_layer("space.block.layer", block["layer"])
        self._kernel = _parse_kernel("space.block.kernel", block["kernel"])
        self._residual = _parse_flag("space.block.residual", block["residual"])
        self._stages = {name: _parse_stage(f"space.stages.{name}", stage) for name, stage in stages.items()}
        if not self._stages:
            raise InputError("space.stages is empty: give at least one stage with depth, width and stride.")

    def __call__(self, trial: BaseTrial) -> Architecture:
        """Ask the trial for one network."""
        stem = Stem(
            width=self._stem_width.suggest(trial, "stem.width"),
            kernel=self._stem_kernel.suggest(trial, "stem.kernel"),
            stride=self._stem_stride.suggest(trial, "stem.stride"),
        )
        blocks = [
            block for name, stage in self._stages.items() for block in self._suggest_stage(trial, name, stage)
        ]
        return Architecture(stem, tuple(blocks))

    def _suggest_stage(self, trial: BaseTrial, name: str, stage: _Stage) -> list[Block]:
        depth: int = stage.depth.suggest(trial, f"{name}.depth")
        width: int = stage.width.suggest(trial, f"{name}.width")
        stride: int = stage.stride.suggest(trial, f"{name}.stride")
        asked = max(stage.depth.options) if self._encoding == "flat" else depth
        blocks = [
            Block(
                layer=self._layer.suggest(trial, f"{name}.block{index}.layer"),
                kernel=self._kernel.suggest(trial, f"{name}.block{index}.kernel"),
                residual=self._residual.suggest(trial, f"{name}.block{index}.residual"),
                width=width,
                stride=stride if index == 1 else 1,
            )
            for index in range(1, asked + 1)
        ]
        return blocks[:depth]


def _check_keys(key: str, values: Any, wanted: set[str]) -> None:
    if not isinstance(values, Mapping) or set(values) != wanted:
        given = sorted(values) if isinstance(values, Mapping) else repr(values)
        raise InputError(f"{key}: {given} must be exactly the keys {', '.join(sorted(wanted))}.")


def _parse_stage(key: str, stage: Mapping[str, Any]) -> _Stage:
    _check_keys(key, stage, {"depth", "width", "stride"})
    return _Stage(**{name: parse_integers(f"{key}.{name}", stage[name], minimum=1) for name in stage})


def _parse_kernel(key: str, value: Any) -> Choice:
    choice = parse_integers(key, value, minimum=1)
    even = [option for option in choice.options if option % 2 == 0]
    if even:
        raise InputError(
            f"{key}: {even[0]} is even: kernels must be odd (1, 3, 5, ...) to keep the image's size."
        )
    return choice


def _parse_layer(key: str, value: Any) -> Choice:
    choice = parse_choice(key, value)
    unknown = [option for option in choice.options if option not in LAYERS]
    if unknown:
        raise InputError(f"{key}: unknown layer {unknown[0]!r}; known: {', '.join(sorted(LAYERS))}.")
    return choice


def _parse_flag(key: str, value: Any) -> Choice:
    choice = parse_choice(key, value)
    wrong = [option for option in choice.options if not isinstance(option, bool)]
    if wrong:
        raise InputError(f"{key}: {wrong[0]!r} must be true or false.")
    return choice
