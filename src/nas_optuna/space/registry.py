"""Search space: modules by their names, with the choices that their parameters are."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from torch import nn

from nas_optuna.errors import InputError, check_number
from nas_optuna.space.layers import BUILT_IN, Scalar
from nas_optuna.space.parts import Parts

if TYPE_CHECKING:
    from nas_optuna.space.architecture import Block

_GIVEN = ("in_channels", "out_channels", "stride", "parts")


@dataclass(frozen=True)
class Layer:
    """A module as a choice of a search space.

    Attributes:
        name: The word for it in configurations and architectures.
        factory: Makes the module.
        choices: Names of its choices and their defaults; None where a space must give one.
        fixed: Choices that are settled: a space does not ask for them.
        takes_stride, takes_parts: Whether the factory does.
    """

    name: str
    factory: Callable[..., nn.Module]
    choices: tuple[tuple[str, Scalar | None], ...]
    fixed: tuple[tuple[str, Scalar], ...]
    takes_stride: bool
    takes_parts: bool

    @property
    def module(self) -> Any:
        """The class or function behind the factory."""
        return self.factory.func if isinstance(self.factory, functools.partial) else self.factory

    @property
    def activation_after(self) -> bool:
        """Whether the network's activation follows the layer."""
        return bool(getattr(self.module, "activation_after", True))

    @property
    def takes_residual(self) -> bool:
        """Whether a residual connection around the layer says anything."""
        return bool(getattr(self.module, "takes_residual", True))

    def complete(self, choices: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """Every choice with its value, the defaults filled in.

        Raises:
            ValueError: The layer has no such choice, or misses one.
        """
        known = dict(self.choices) | dict(self.fixed)
        unknown = sorted(set(choices) - set(known))
        if unknown:
            raise ValueError(f"layer {self.name!r} has no choice {unknown[0]!r}; it has {sorted(known)}.")
        values = known | dict(choices)
        missing = sorted(name for name, value in values.items() if value is None)
        if missing:
            raise ValueError(f"layer {self.name!r} needs a value for {missing[0]!r}.")
        return {name: value for name, value in values.items() if value is not None}

    def build(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: int = 1,
        choices: Mapping[str, Scalar] | None = None,
        parts: Parts | None = None,
    ) -> nn.Module:
        """Make the module."""
        given: dict[str, Any] = {"stride": stride} if self.takes_stride else {}
        if self.takes_parts:
            given["parts"] = parts or Parts()
        return self.factory(
            in_channels=in_channels, out_channels=out_channels, **given, **self.complete(choices or {})
        )

    def check(self, in_channels: int, out_channels: int, choices: Mapping[str, Scalar]) -> str | None:
        """Why the module can't be made, as far as it says so itself.

        Raises:
            ValueError: The layer has no such choice, misses one, or one has an impossible value.
        """
        values = self.complete(choices)
        for name, default in self.choices:
            _check_value(name, default, values[name])
        check = getattr(self.module, "check", None)
        reason: str | None = check(in_channels, out_channels, **values) if check else None
        return reason

    def canonical(self, block: Block, in_channels: int) -> Block | None:
        """The simplest block that does the same; None where it does nothing."""
        block = replace(block, choices=tuple(sorted(self.complete(dict(block.choices)).items())))
        if not self.takes_stride and block.stride > 1 and block.downsampling == "stride":
            block = replace(block, downsampling="maxpool")
        simplify = getattr(self.module, "canonical", None)
        simplest: Block | None = simplify(block, in_channels) if simplify else block
        return simplest


def register_layer(name: str, factory: Callable[..., nn.Module]) -> Layer:
    """Make a module known as a layer, under a name that spaces and architectures use.

    Args:
        name: The word for it. A later call with the same name replaces it, unless it is one of ours.
        factory: A module class, or a ``functools.partial`` of one that settles some choices. Called
            with ``in_channels``, ``out_channels``, and ``stride`` and ``parts`` if it takes them; its
            further parameters are its choices.

    Raises:
        InputError: The factory does not take these, or the name is one of ours.
    """
    if name in BUILT_IN:
        raise InputError(f"space.layers.{name}: {name!r} is a layer of nas_optuna. Choose another word.")
    if not name.isidentifier():
        raise InputError(f"space.layers: {name!r} must be a word of letters, digits and underscores.")
    LAYERS[name] = _describe(name, factory)
    return LAYERS[name]


def find_layer(name: str) -> Layer:
    """The layer of a name.

    Raises:
        InputError: There is none.
    """
    if name not in LAYERS:
        raise InputError(
            f"unknown layer {name!r}; known: {', '.join(sorted(LAYERS))}. A layer of your own needs "
            f"space.layers.{name}, or register_layer({name!r}, ...) in Python."
        )
    return LAYERS[name]


def _describe(name: str, factory: Callable[..., nn.Module]) -> Layer:
    if isinstance(factory, nn.Module) or not callable(factory):
        kind = type(factory).__name__
        raise InputError(
            f"space.layers.{name}: {kind} must be a module class, not a module: give _partial_: true "
            "beside its _target_."
        )
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError) as error:
        raise InputError(f"space.layers.{name}: {_name(factory)} must be a module class.") from error
    missing = [given for given in _GIVEN[:2] if given not in parameters]
    if missing:
        raise InputError(f"space.layers.{name}: {_name(factory)} must take {' and '.join(missing)}.")
    settled = factory.keywords if isinstance(factory, functools.partial) else {}
    for choice, value in settled.items():
        if choice not in _GIVEN and not isinstance(value, bool | int | float | str):
            raise InputError(
                f"space.layers.{name}.{choice}: {value!r} must be a number, a word, true or false, "
                "so that the architecture can be saved."
            )
    free = {
        choice: None if parameter.default is parameter.empty else parameter.default
        for choice, parameter in parameters.items()
        if choice not in _GIVEN and choice not in settled and _is_choice(parameter)
    }
    return Layer(
        name=name,
        factory=factory,
        choices=tuple(sorted(free.items())),
        fixed=tuple((choice, value) for choice, value in sorted(settled.items()) if choice not in _GIVEN),
        takes_stride="stride" in parameters and "stride" not in settled,
        takes_parts="parts" in parameters,
    )


def _check_value(name: str, default: Scalar | None, value: Scalar) -> None:
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise ValueError(f"{name}: {value!r} must be true or false.")
    elif isinstance(default, int) or name == "kernel":
        check_number(name, value, whole=True, at_least=min(1, default) if isinstance(default, int) else 1)
        if name == "kernel" and value % 2 == 0:
            raise ValueError(f"kernel: {value} is even: kernels must be odd (1, 3, 5, ...).")
    elif isinstance(default, str) and not isinstance(value, str):
        raise ValueError(f"{name}: {value!r} must be a word.")


def _is_choice(parameter: inspect.Parameter) -> bool:
    named = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    return named and (
        parameter.default is parameter.empty or isinstance(parameter.default, bool | int | float | str)
    )


def _name(factory: Any) -> str:
    return str(getattr(getattr(factory, "func", factory), "__name__", repr(factory)))


LAYERS: dict[str, Layer] = {name: _describe(name, factory) for name, factory in BUILT_IN.items()}
