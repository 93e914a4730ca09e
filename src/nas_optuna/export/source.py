"""Export: a network as one file of plain ``torch.nn`` code that needs nothing of ours."""

from __future__ import annotations

import inspect
import json
import re
import textwrap
from typing import Any

from torch import nn

from nas_optuna.data import decode
from nas_optuna.errors import InputError
from nas_optuna.export.description import Description
from nas_optuna.export.tracing import Seen, Untraceable, trace_forward, watch
from nas_optuna.space import WEIGHTS, Network

WIDTH = 100  # characters of a line, where it can be broken
INDENT = "    "
VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)

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
        self._seen = watch(network, input_shape)
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


def _class(module: nn.Module, seen: dict[nn.Module, Seen]) -> str:
    """The code of a class, named NAME, whose constructor takes the module's children."""
    try:
        forward = trace_forward(module, seen)
    except Untraceable as error:
        raise _cannot(module, str(error)) from error
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


def _torch_module(module: nn.Module) -> str:
    """A module of torch, with the arguments that differ from their defaults."""
    arguments = []
    is_default_order = True
    for name, parameter in inspect.signature(type(module).__init__).parameters.items():
        if name in ("self", "device", "dtype") or parameter.kind in VARIADIC:
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
