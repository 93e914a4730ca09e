"""Export: a network as one file of plain ``torch.nn`` code that needs nothing of ours."""

from __future__ import annotations

import ast
import builtins
import inspect
import json
import re
import textwrap
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from nas_optuna.data import decode
from nas_optuna.errors import InputError
from nas_optuna.export.description import Description
from nas_optuna.space import WEIGHTS, Network

WIDTH = 100  # characters of a line, where it can be broken
INDENT = "    "
_MODULES = {"torch"}  # that traced code may name

_LOAD = f'''
def load(weights: str | Path = Path(__file__).with_name("{WEIGHTS}")) -> Network:
    """The trained network, ready to use."""
    network = build_network()
    network.load_state_dict(safetensors.torch.load_file(weights))
    return network.eval()
'''

_CLASSIFY = '''
def classify(paths: list[str]) -> None:
    """Print the class of each image file, and its probability."""
    network = load()
    _, height, width = INPUT_SHAPE
    for path in paths:
        pixels = torch.from_numpy(read_image(path, height=height, width=width, mode="{mode}").copy())
        with torch.no_grad():
            probability, index = network(pixels[None].float() / 255).softmax(dim=1)[0].max(dim=0)
        print(f"{{path}}: {{CLASSES[index]}} {{probability:.4f}}")


if __name__ == "__main__":
    classify(sys.argv[1:])
'''

_PILLOW = """
try:
    import numpy as np
    from PIL import Image, ImageOps
except ImportError:  # only image files need them
    pass
"""


def to_source(network: Network, description: Description, *, name: str = "network") -> str:
    """Python code that builds the network, loads its weights and, where it sees images, classifies files.

    What only wraps a ``torch.nn.Sequential`` becomes a plain one. Any other module becomes a class with
    the ``forward`` that ``torch.fx`` traces, so a layer of your own is written as well, as long as it goes
    the same way for every input.

    Args:
        network: Trained, on the CPU. Its weights keep their names.
        description: What is said about it.
        name: Of the file, without ``.py``.

    Raises:
        InputError: A module can't be written as plain code.
    """
    blocks = zip(network.blocks, network.architecture.blocks, strict=True)
    writer = _Writer(network, description.input_shape, {module: str(block) for module, block in blocks})
    network_code = writer.write(network, 1)
    sees_images = description.mode is not None
    imports = ["from pathlib import Path", "", "import safetensors.torch", "import torch"]
    sections = [
        _docstring(description, name),
        "from __future__ import annotations\n",
        "\n".join((["import sys"] if sees_images else []) + imports + ["from torch import Tensor, nn"]),
        _PILLOW if sees_images else "",
        f"INPUT_SHAPE = {description.input_shape!r}  # {_axes(description)}",
        f"CLASSES = {_call('(', [json.dumps(name) for name in description.classes], 0)}\n",
        *writer.definitions,
        f'\ndef build_network() -> Network:\n    """With random weights."""\n    return {network_code}\n',
        _LOAD,
    ]
    if sees_images:
        sections += [f"\n{inspect.getsource(function)}" for function in (decode.read_image, decode.flatten)]
        sections.append(_CLASSIFY.format(mode=description.mode))
    code = "\n".join(section for section in sections if section)
    return re.sub(r"NDArray\[np\.uint8\]", "np.ndarray", code)


def _axes(description: Description) -> str:
    return "channels, height, width" if len(description.input_shape) == 3 else "channels, length"


def _docstring(description: Description, name: str) -> str:
    images = len(description.input_shape) == 3
    takes = "(N, C, H, W) with values in [0, 1]" if images else "(N, C, L)"
    lines = [
        description.summary,
        "",
        *textwrap.wrap(
            "A classifier that was found and trained by nas-optuna. It needs torch and safetensors"
            + (", and Pillow for image files" if description.mode else "")
            + f". Input: {description.preprocessing}.",
            WIDTH,
        ),
        "",
        f"    from {name} import load",
        "    network = load()",
        f"    logits = network({'images' if images else 'series'})     # {takes}",
        *([f"\n    python {name}.py photo.jpg ..."] if description.mode else []),
    ]
    # names in it may come from a study that someone else made
    return '"""' + "\n".join(lines).replace("\\", "/").replace('"', "'") + '\n"""\n'


class _Writer:
    """Turns modules into expressions, and collects the classes that these need.

    Args:
        network: What is written.
        input_shape: Of its input, without the batch axis.
        comments: What is said of some modules.
    """

    def __init__(
        self, network: nn.Module, input_shape: tuple[int, ...], comments: dict[nn.Module, str]
    ) -> None:
        self._comments = comments
        self._seen = _watch(network, input_shape)
        self._names: dict[str, str] = {}  # of classes, by their code

    @property
    def definitions(self) -> list[str]:
        """The classes, each after those that it needs."""
        return [f"\n{code.replace('NAME', name, 1)}\n" for code, name in self._names.items()]

    def write(self, module: nn.Module, depth: int) -> str:
        """The expression that builds a module, its lines after the first indented ``depth`` times."""
        children = list(module.named_children())
        if _is_sequential(module):
            inner = [self._comment(child, depth + 1) + self.write(child, depth + 1) for _, child in children]
            return _call("nn.Sequential(", inner, depth) if inner else "nn.Identity()"
        if isinstance(module, nn.ModuleList):
            return _call("nn.ModuleList([", [self.write(c, depth + 1) for _, c in children], depth, "])")
        if isinstance(module, nn.ModuleDict):
            entries = [f'"{name}": {self.write(child, depth + 1)}' for name, child in children]
            return _call("nn.ModuleDict({", entries, depth, "})")
        if type(module).__module__.startswith("torch.nn."):
            return _torch_module(module)
        arguments = [f"{name}={self.write(child, depth + 1)}" for name, child in children]
        return _call(f"{self._define(module)}(", arguments, depth)

    def _comment(self, module: nn.Module, depth: int) -> str:
        if module not in self._comments:
            return ""
        # what it says may come from a study that someone else made: it stays a comment
        return f"# {' '.join(self._comments[module].split())}\n{INDENT * depth}"

    def _define(self, module: nn.Module) -> str:
        """The name of the class of a module that is none of torch's."""
        if module not in self._seen:
            raise _cannot(module, "it is never called, or called with more than one input")
        code = _class(module, self._seen)
        if code not in self._names:
            name = type(module).__name__.strip("_")
            same = sum(re.fullmatch(rf"{name}\d*", known) is not None for known in self._names.values())
            self._names[code] = f"{name}{same + 1}" if same else name
        return self._names[code]


def _is_sequential(module: nn.Module) -> bool:
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward


@dataclass
class _Seen:
    """What a module was given and what it gave, for a batch of two."""

    given: Tensor
    gave: Any = None


def _watch(network: nn.Module, input_shape: tuple[int, ...]) -> dict[nn.Module, _Seen]:
    """Run a network once and look at each module that takes one tensor."""
    seen: dict[nn.Module, _Seen] = {}

    # copies, because what comes next may work in place
    def before(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        if len(arguments) == 1 and isinstance(arguments[0], Tensor):
            seen[module] = _Seen(arguments[0].clone())

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

    def __init__(self, seen: dict[nn.Module, _Seen], module: nn.Module) -> None:
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


def _class(module: nn.Module, seen: dict[nn.Module, _Seen]) -> str:
    """The code of a class, named NAME, whose constructor takes the module's children."""
    try:
        graph = _Tracer(seen, module).trace(module)
    except Exception as error:  # whatever a forward raises that fx can't follow
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise _cannot(module, f"torch.fx can't follow its forward: {reason}") from error
    forward = _forward(graph.python_code("self").src)
    if foreign := _foreign(forward):
        raise _cannot(module, f"its forward uses {', '.join(sorted(foreign))}")
    names = [name for name, _ in module.named_children()]
    if not all(map(str.isidentifier, names)):
        raise _cannot(module, "its parts have no names")
    lines = ["class NAME(nn.Module):"]
    summary = (inspect.getdoc(type(module)) or "").split("\n")[0]
    if summary and type(module).__doc__:
        lines.append(f'{INDENT}"""{summary}"""\n')
    arguments = "".join(f", {name}: nn.Module" for name in names)
    lines += [f"{INDENT}def __init__(self{arguments}) -> None:", f"{INDENT * 2}super().__init__()"]
    lines += [f"{INDENT * 2}self.{name} = {name}" for name in names]
    lines += [f"{INDENT * 2}{line}" for line in _own_tensors(module)]
    return "\n".join([*lines, "", textwrap.indent(forward, INDENT)])


def _own_tensors(module: nn.Module) -> list[str]:
    """Lines that make a module's own parameters and buffers, to be filled when weights are loaded."""
    lines = []
    for name, parameter in module.named_parameters(recurse=False):
        lines.append(f"self.{name} = nn.Parameter(torch.zeros({tuple(parameter.shape)}))")
    saved = module.state_dict().keys()
    for name, buffer in module.named_buffers(recurse=False):
        if name not in saved:
            raise _cannot(module, f"its buffer {name!r} is not saved with the weights")
        lines.append(
            f'self.register_buffer("{name}", torch.zeros({tuple(buffer.shape)}, dtype={buffer.dtype}))'
        )
    return [line.replace(", dtype=torch.float32", "") for line in lines]


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


def _torch_module(module: nn.Module) -> str:
    """A module of torch, with the arguments that differ from their defaults."""
    arguments = []
    is_default_order = True
    for name, parameter in inspect.signature(type(module).__init__).parameters.items():
        if name in ("self", "device", "dtype") or parameter.kind in (2, 4):  # *args, **kwargs
            continue
        if not hasattr(module, name):
            raise _cannot(module, f"its argument {name!r} is not known any more")
        value = _plain(getattr(module, name), name)
        if parameter.default is not parameter.empty and value == _plain(parameter.default, name):
            is_default_order = False
            continue
        needed = parameter.default is parameter.empty and is_default_order
        arguments.append(repr(value) if needed else f"{name}={value!r}")
    return f"nn.{type(module).__name__}({', '.join(arguments)})"


def _plain(value: Any, name: str) -> Any:
    """An attribute as the constructor takes it: whether there is a bias, one number for a square."""
    if name == "bias":
        return value is not None and value is not False
    if isinstance(value, tuple) and len(set(value)) == 1:
        return value[0]
    return value


def _call(start: str, arguments: list[str], depth: int, end: str = ")") -> str:
    """On one line where it fits, else with an argument a line."""
    flat = start + ", ".join(arguments) + end
    if len(flat) + len(INDENT) * depth < WIDTH and "\n" not in flat:
        return flat
    inner = INDENT * (depth + 1)
    return start + "\n" + "".join(f"{inner}{argument},\n" for argument in arguments) + INDENT * depth + end


def _cannot(module: nn.Module, reason: str) -> InputError:
    return InputError(
        f"format: {type(module).__name__} can't be written as plain code ({reason}); take format=onnx or "
        "torch_export."
    )
