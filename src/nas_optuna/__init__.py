"""Neural architecture search on Optuna studies: space, strategy and performance estimation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas_optuna.space import load as load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    # importing torch takes seconds, which a command with a typing mistake need not wait for
    if name == "load":
        from nas_optuna.space import load

        return load
    raise AttributeError(f"module 'nas_optuna' has no attribute {name!r}")
