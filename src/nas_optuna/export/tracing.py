"""Export: what a module's ``forward`` does, as code that needs nothing but the module's parts."""

from __future__ import annotations

import ast
import builtins
import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

_MODULES = {"torch"}  # that traced code may name


class Untraceable(Exception):
    """A ``forward`` that can't be written down, and why."""


def trace_forward(module: nn.Module, seen: dict[nn.Module, Seen]) -> str:
    """The code of a module's ``forward`` as ``torch.fx`` traces it, its parts called by their names.

    Args:
        module: Takes one tensor, and goes the same way for every input.
        seen: From ``watch``, of a network that the module is a part of.

    Raises:
        Untraceable: torch.fx can't follow it, or it names what plain code does not have.
    """
    try:
        graph = _Tracer(seen, module).trace(module)
    except Exception as error:  # whatever a forward raises that fx can't follow
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise Untraceable(f"torch.fx can't follow its forward: {reason}") from error
    forward = _forward(graph.python_code("self").src)
    if foreign := _foreign(forward):
        raise Untraceable(f"its forward uses {', '.join(sorted(foreign))}")
    return forward


@dataclass
class Seen:
    """What a module was given and what it gave, for a batch of two."""

    given: Tensor
    gave: Any = None


def watch(network: nn.Module, input_shape: tuple[int, ...]) -> dict[nn.Module, Seen]:
    """Run a network once and look at each module that takes one tensor."""
    seen: dict[nn.Module, Seen] = {}

    # copies, because what comes next may work in place
    def before(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        if len(arguments) == 1 and isinstance(arguments[0], Tensor):
            seen[module] = Seen(arguments[0].clone())

    def after(module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        if module in seen:
            seen[module].gave = output.clone() if isinstance(output, Tensor) else output

    hooks = [module.register_forward_pre_hook(before) for module in network.modules()]
    hooks += [module.register_forward_hook(after) for module in network.modules()]
    try:
        with torch.no_grad():
            network(torch.rand(2, *input_shape))
    finally:
        for hook in hooks:
            hook.remove()
    return seen


class _Tracer(fx.Tracer):
    """Follows one module's own ``forward``, and knows how many axes every tensor in it has.

    Layers that are for images and series ask for that.

    Args:
        seen: The values of the module, and of its parts.
        module: What is followed.
    """

    def __init__(self, seen: dict[nn.Module, Seen], module: nn.Module) -> None:
        super().__init__()
        self._seen = seen
        self._module = module
        # read before: while it is followed, a module's parameters are proxies
        self._tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def create_node(self, kind: str, *arguments: Any, **options: Any) -> fx.Node:
        node = super().create_node(kind, *arguments, **options)
        if kind != "output":
            with torch.no_grad():
                node.meta["value"] = self._value(node)
        return node

    def _value(self, node: fx.Node) -> Any:
        if node.op == "placeholder":
            return self._seen[self._module].given.clone()
        if node.op == "call_module":
            return self._seen[self._module.get_submodule(str(node.target))].gave
        if node.op == "get_attr":
            return self._tensors[str(node.target)]
        positional, named = fx.node.map_arg((node.args, node.kwargs), lambda other: other.meta["value"])
        if node.op == "call_method":
            return getattr(positional[0], str(node.target))(*positional[1:], **named)
        assert callable(node.target)
        return node.target(*positional, **named)


class _Proxy(fx.Proxy):
    @property
    def ndim(self) -> int:
        return int(self.node.meta["value"].ndim)


def _forward(source: str) -> str:
    """The traced code without what only frees memory, and attributes where they are used."""
    source = re.sub(r";  (\w+ = )+None", "", source)
    source = re.sub(r"^\s*(\w+ = )+None\n", "", source, flags=re.MULTILINE)
    function = ast.parse(source.strip()).body[0]
    assert isinstance(function, ast.FunctionDef)
    function.args.args[1].annotation = function.returns = ast.Name("Tensor")
    inlined: dict[str, ast.expr] = {}
    lines: list[ast.stmt] = []
    for line in function.body:
        line = _Inline(inlined).visit(line)
        if isinstance(line, ast.Assign) and isinstance(line.value, ast.Attribute):
            inlined[ast.unparse(line.targets[0])] = line.value
        else:
            lines.append(line)
    last, result = lines[-2:] if len(lines) > 1 else (None, lines[-1])
    if (
        isinstance(last, ast.Assign)
        and isinstance(result, ast.Return)
        and result.value is not None
        and ast.unparse(last.targets[0]) == ast.unparse(result.value)
    ):
        lines[-2:] = [ast.Return(last.value)]
    function.body = lines
    return ast.unparse(ast.fix_missing_locations(function))


class _Inline(ast.NodeTransformer):
    def __init__(self, known: dict[str, ast.expr]) -> None:
        self._known = known

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self._known.get(node.id, node) if isinstance(node.ctx, ast.Load) else node


def _foreign(forward: str) -> set[str]:
    """Names in a traced forward that are neither its own nor those of a module that is imported."""
    names = [node for node in ast.walk(ast.parse(forward)) if isinstance(node, ast.Name)]
    own = {node.arg for node in ast.walk(ast.parse(forward)) if isinstance(node, ast.arg)}
    own |= {node.id for node in names if isinstance(node.ctx, ast.Store)}
    return {node.id for node in names} - own - _MODULES - {"Tensor", *dir(builtins)}
