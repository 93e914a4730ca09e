"""Exported files say what the network says, and are known for what they are."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
import torch
from random_networks import SHAPES, SMALL, make_network, random_network
from test_contracts import names
from torch import Tensor, nn

from nas_optuna.errors import InputError
from nas_optuna.export import OnnxModel, ProgramModel, export, formats, open_model, to_onnx
from nas_optuna.export.description import describe
from nas_optuna.export.formats import TOLERANCE, compare
from nas_optuna.export.quantize import quantize
from nas_optuna.export.source import to_source
from nas_optuna.space import LAYERS, Architecture, Block, Network, Stem, register_layer

ATOL = 1e-4


@pytest.fixture
def network() -> Network:
    return make_network(SMALL, (3, 12, 12))


def run_onnx(path: Path, inputs: Tensor) -> Tensor:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"inputs": inputs.numpy()})[0])


def run_program(path: Path, inputs: Tensor) -> Tensor:
    logits: Tensor = torch.export.load(path).module()(inputs)
    return logits


def run_source(path: Path, inputs: Tensor) -> Tensor:
    specification = importlib.util.spec_from_file_location("exported", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    logits: Tensor = module.load()(inputs)
    return logits


RUN = {"onnx": run_onnx, "torch_export": run_program, "python": run_source}


def agree(network: Network, path: Path, kind: str) -> bool:
    """On batches of one and of several inputs that nobody has checked before."""
    for size in (1, 4):
        inputs = torch.rand(size, *network.input_shape)
        with torch.no_grad():
            if not torch.allclose(network(inputs), RUN[kind](path, inputs), atol=ATOL, rtol=0):
                return False
    return True


def test_every_space_has_a_shape_here() -> None:
    assert sorted(SHAPES) == names("space")


@pytest.mark.parametrize(
    ("space", "kind"),
    [
        *((space, "python") for space in sorted(SHAPES)),
        ("resconv_small", "torch_export"),
        # seconds for each
        *(pytest.param(space, "torch_export", marks=pytest.mark.slow) for space in sorted(SHAPES)),
    ],
)
def test_file_says_what_the_network_says(space: str, kind: str, tmp_path: Path) -> None:
    network = random_network(space)
    assert agree(network, export(network, tmp_path, kind=kind), kind)


@pytest.mark.parametrize(
    "space", ["resconv_small", *(pytest.param(name, marks=pytest.mark.slow) for name in sorted(SHAPES))]
)
def test_onnx_file_says_what_the_network_says(space: str, tmp_path: Path) -> None:
    network = random_network(space, seed=1)
    assert agree(network, export(network, tmp_path, kind="onnx"), "onnx")


# what makes a layer's channels, and its choices, legal
CHOICES = {"cell": {"operations": "none,skip,conv1x1,conv3x3,avgpool3x3,skip"}}


@pytest.mark.parametrize("layer", sorted(LAYERS))
def test_every_layer_can_be_written_as_plain_code(layer: str, tmp_path: Path) -> None:
    choices = tuple(CHOICES.get(layer, {}).items())
    stride = 1 if layer == "cell" else 2
    blocks = (Block(layer, 8, stride, residual=layer != "cell", choices=choices), Block("conv", 8))
    network = make_network(Architecture(Stem(8), blocks), (3, 12, 12))
    assert agree(network, export(network, tmp_path, kind="python"), "python")


def test_a_file_that_says_something_else_is_refused(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*arguments: Any, **options: Any) -> str:
        return to_source(*arguments, **options).replace("/ self.std", "* self.std")

    monkeypatch.setattr(formats, "to_source", wrong)
    with pytest.raises(InputError, match="differs from the network by"):
        export(network, tmp_path, kind="python")


def test_logits_that_are_no_numbers_differ_from_all_others(network: Network) -> None:
    nothing = compare(network, lambda inputs: network(inputs) * torch.nan, describe(network))
    assert not nothing <= TOLERANCE


class Gate(nn.Module):
    """Doubles what is positive on average."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(out_channels))
        self.layer = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        axes = tuple(range(1, features.ndim))
        gated: Tensor = self.layer(features) * torch.sigmoid(features.mean(dim=axes, keepdim=True))
        return gated * self.weight.view(1, -1, 1, 1)


class Fickle(nn.Module):
    """Takes another way for other inputs."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.layer = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        output: Tensor = self.layer(features)
        return output if features.sum() > 0 else -output


@pytest.fixture
def with_layer(monkeypatch: pytest.MonkeyPatch) -> type[nn.Module]:
    monkeypatch.setattr("nas_optuna.space.registry.LAYERS", dict(LAYERS))
    return nn.Module


def foreign(layer: type[nn.Module]) -> Network:
    register_layer(layer.__name__.lower(), layer)
    return make_network(Architecture(Stem(8), (Block(layer.__name__.lower(), 8),)), (3, 8, 8))


def test_layer_from_elsewhere_can_be_written_as_plain_code(tmp_path: Path, with_layer: type) -> None:
    network = foreign(Gate)
    path = export(network, tmp_path, kind="python")
    assert agree(network, path, "python")
    assert "class Gate(nn.Module)" in path.read_text()


def test_layer_that_no_one_can_follow_is_refused(tmp_path: Path, with_layer: type) -> None:
    with pytest.raises(InputError, match="Fickle can't be written as plain code"):
        export(foreign(Fickle), tmp_path, kind="python")


ALONE = """
import sys

class OnlyTorch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("nas_optuna", "numpy", "PIL", "optuna", "pytorch_lightning"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, OnlyTorch())
sys.path.insert(0, sys.argv[1])
import torch
from network import CLASSES, INPUT_SHAPE, load
assert load()(torch.rand(2, *INPUT_SHAPE)).shape == (2, len(CLASSES))
"""


def test_plain_code_needs_torch_and_safetensors_alone(network: Network, tmp_path: Path) -> None:
    export(network, tmp_path, kind="python")
    subprocess.run([sys.executable, "-c", ALONE, str(tmp_path)], check=True)


def test_plain_code_says_nothing_that_its_names_could_run(tmp_path: Path) -> None:
    network = make_network(SMALL, (3, 12, 12))
    network.classes = ('"""\nraise SystemExit', "\\", "'''")
    path = export(network, tmp_path, kind="python")
    assert agree(network, path, "python")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("exported")
    network = make_network(SMALL, (3, 12, 12))
    return {kind: export(network, folder, kind=kind) for kind in ("onnx", "torch_export")}


@pytest.mark.parametrize("kind", ["onnx", "torch_export"])
def test_what_a_user_needs_travels_with_the_file(files: dict[str, Path], kind: str) -> None:
    description = open_model(files[kind]).description
    assert description.classes == ("cat", "dog", 'the "third"')
    assert description.input_shape == (3, 12, 12)
    assert description.mode == "RGB"


def test_onnx_file_with_another_weight_is_refused(files: dict[str, Path], tmp_path: Path) -> None:
    model = onnx.load_model(str(files["onnx"]))
    weights = onnx.numpy_helper.to_array(model.graph.initializer[0]).copy()
    weights.flat[0] += 1
    changed = onnx.numpy_helper.from_array(weights, model.graph.initializer[0].name)
    model.graph.initializer[0].CopyFrom(changed)
    onnx.save_model(model, str(tmp_path / "changed.onnx"))
    with pytest.raises(InputError, match="was changed after it was exported"):
        OnnxModel(tmp_path / "changed.onnx")


def test_onnx_file_of_someone_else_is_refused(network: Network, tmp_path: Path) -> None:
    (tmp_path / "other.onnx").write_bytes(to_onnx(network, input_shape=(3, 12, 12)))
    with pytest.raises(InputError, match="was not exported by nas-optuna"):
        OnnxModel(tmp_path / "other.onnx")


def rewrite(source: Path, target: Path, change: dict[str, bytes]) -> Path:
    """An archive with other contents in some members, or more members."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            new.writestr(name, change.pop(name.partition("/")[2], old.read(name)))
        for inner, content in change.items():
            new.writestr(f"{old.namelist()[0].partition('/')[0]}/{inner}", content)
    return target


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"data/weights/weight_0": b"\0" * 64}, "was changed after it was exported"),
        ({"data/constants/custom_obj_0": b"cos\nsystem\n"}, "no part of a network"),
        ({"data/aotinductor/model/x.so": b"\x7fELF"}, "no part of a network"),
        (
            {"data/weights/model_weights_config.json": b'{"config": {"w": {"use_pickle":  true}}}'},
            "holds pickled objects",
        ),
        ({"extra/nas_optuna.json": b"{}"}, "can't be used"),
    ],
)
def test_archive_that_is_not_as_it_was_written_is_refused(
    files: dict[str, Path], tmp_path: Path, change: dict[str, bytes], reason: str
) -> None:
    path = rewrite(files["torch_export"], tmp_path / "changed.pt2", change)
    with pytest.raises(InputError, match=reason):
        ProgramModel(path)


@pytest.mark.parametrize("name", ["broken.onnx", "broken.pt2"])
def test_file_that_is_no_model_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"not a model")
    with pytest.raises(InputError, match=name):
        open_model(tmp_path / name)


def test_missing_extra_is_named(network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(InputError, match=r"onnxscript is missing.*nas-optuna\[onnx\]"):
        export(network, tmp_path, kind="onnx")


@pytest.mark.parametrize("shape", [(3, 12, 12), pytest.param((2, 32), marks=pytest.mark.slow)])
def test_eight_bits_say_nearly_the_same_in_less_than_half_of_the_size(
    shape: tuple[int, ...], tmp_path: Path
) -> None:
    blocks = (Block("conv", 64, residual=True), Block("dwsep", 128, 2), Block("conv", 128))
    dimensions = len(shape) - 1
    parts = Architecture(Stem(16), blocks).parts
    architecture = Architecture(Stem(16), blocks, parts=type(parts)(dimensions=dimensions))
    network = make_network(architecture, shape)
    content = to_onnx(network, input_shape=shape)
    small = quantize(content, describe(network), torch.rand(256, *shape).split(64))
    assert len(small) < len(content) / 2
    (tmp_path / "int8.onnx").write_bytes(small)
    inputs = torch.rand(64, *shape)
    with torch.no_grad():
        expected = network(inputs)
    found = OnnxModel(tmp_path / "int8.onnx")(inputs)
    # of logits with a deviation of 3
    assert 0 < float((found - expected).abs().mean()) < 0.3
