#!/usr/bin/env python3
"""Exports random networks of every space in every format and compares what the files say with the network.

    .venv/bin/python scripts/check_exports.py [--networks 30]

Each network has random weights and the norms' statistics of a random batch. Its ONNX file is run by
onnxruntime, its torch.export archive by torch, its plain code in a process that can import torch and
safetensors only, each on batches of one and of five; reported is the largest difference of a logit. Then an
image file goes through `python -m nas_optuna.predict`'s functions and through the plain code, and the
class must be the network's own. A random network's classes are ever so close, so this asks for
more than a trained one's.

The last line is one JSON object: by space and format the largest difference of a logit, whether all
classes agree, how many networks, and the hardware.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import shared
import torch
from PIL import Image

from nas_optuna.export import FORMATS, Prediction, export, open_model, predict
from nas_optuna.limits import draw
from nas_optuna.space import Architecture, Network

SPACES = {
    "resconv": (3, 32, 32),
    "resconv_small": (1, 8, 8),
    "resconv_photo": (3, 64, 64),
    "mobile": (3, 32, 32),
    "plain": (3, 32, 32),
    "conv1d": (2, 64),
    "nasbench_macro": (3, 32, 32),
    "nasbench201": (3, 32, 32),
}
CLASSES = tuple(f"class {index}" for index in range(10))

# run with the folders of exported files: the logits of saved inputs, with torch and safetensors alone
LOGITS = """
import sys
from pathlib import Path

class OnlyTorch:
    def find_spec(self, name, path=None, target=None):
        first = name.partition(".")[0]
        if first in ("nas_optuna", "numpy", "PIL", "optuna", "pytorch_lightning", "onnx", "onnxruntime"):
            raise ModuleNotFoundError(f"{first} is not here")

sys.meta_path.insert(0, OnlyTorch())
import torch
for folder in map(Path, sys.argv[1:]):
    sys.path.insert(0, str(folder))
    from network import load
    with torch.no_grad():
        network = load()
        torch.save([network(inputs) for inputs in torch.load(folder / "inputs.pt")], folder / "logits.pt")
    sys.path.pop(0)
    del sys.modules["network"]
"""

# the same for the class of an image file
CLASSIFY = """
import sys

for folder in sys.argv[1:]:
    sys.path.insert(0, folder)
    from network import classify
    classify([f"{folder}/photo.png"])
    sys.path.pop(0)
    del sys.modules["network"]
"""


def main() -> None:
    """Read the command line, export, compare, print."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--networks", type=int, default=30, help="of each space")
    options.add_argument("--spaces", type=lambda text: text.split(","), default=list(SPACES))
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    figures: dict[str, Any] = {}
    for name in given.spaces:
        figures[name] = check(name, given.networks, given.seed)
        print(f"{name:16}" + "  ".join(f"{key} {value}" for key, value in figures[name].items()), flush=True)
    print(json.dumps({"spaces": figures, "networks": given.networks, "seed": given.seed, **shared.machine()}))


def check(name: str, count: int, seed: int) -> dict[str, Any]:
    """Export networks of a space, each in every format."""
    space, shape = shared.space(name), SPACES[name]
    source = random.Random(seed)
    architectures: dict[str, Architecture] = {}
    while len(architectures) < count:
        architecture = space.at(draw(space, source)).canonical()
        architectures[architecture.hash] = architecture
    worst = dict.fromkeys(FORMATS, 0.0)
    with tempfile.TemporaryDirectory() as name_of_folder:
        folders = [Path(name_of_folder) / str(index) for index in range(count)]
        networks = [
            write(architecture, shape, folder, seed + index)
            for index, (architecture, folder) in enumerate(zip(architectures.values(), folders, strict=True))
        ]
        run(LOGITS, folders)
        for network, folder in zip(networks, folders, strict=True):
            for kind, difference in compare(network, folder).items():
                worst[kind] = max(worst[kind], difference)
        agree = len(shape) != 3 or same_classes(networks, folders)
    return {key: float(f"{value:.1e}") for key, value in worst.items()} | {"same_classes": agree}


def run(code: str, folders: list[Path]) -> str:
    """What a process of its own prints."""
    command = [sys.executable, "-c", code, *map(str, folders)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def write(architecture: Architecture, shape: tuple[int, ...], folder: Path, seed: int) -> Network:
    """Make a network, and export it in every format; inputs and an image beside it."""
    network = make_network(architecture, shape, seed)
    for kind in FORMATS:
        export(network, folder, kind=kind)
    generator = torch.Generator().manual_seed(seed)
    torch.save([torch.rand(size, *shape, generator=generator) for size in (1, 5)], folder / "inputs.pt")
    # larger than the network's input, and wider than high
    shades = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(shades).resize((200, 150)).save(folder / "photo.png")
    return network


def make_network(architecture: Architecture, shape: tuple[int, ...], seed: int) -> Network:
    """A network with random weights, and statistics of random inputs."""
    torch.manual_seed(seed)
    network = Network(
        architecture, classes=len(CLASSES), mean=[0.5] * shape[0], std=[0.25] * shape[0]
    ).train()
    with torch.no_grad():
        for _ in range(5):
            network(torch.rand(16, *shape))
        # logits as far apart as a trained network's
        network.head.linear.weight *= 3 / network.eval()(torch.rand(64, *shape)).std()
    network.input_shape, network.classes = shape, CLASSES
    return network.eval()


def compare(network: Network, folder: Path) -> dict[str, float]:
    """The largest difference of a logit, for each format."""
    batches = torch.load(folder / "inputs.pt")
    found = {"python": torch.load(folder / "logits.pt")}
    for kind, file in (("onnx", "network.onnx"), ("torch_export", "network.pt2")):
        model = open_model(folder / file)
        found[kind] = [model(batch) for batch in batches]
    with torch.no_grad():
        expected = [network(batch) for batch in batches]
    return {
        kind: max(float((one - other).abs().max()) for one, other in zip(expected, logits, strict=True))
        for kind, logits in found.items()
    }


def same_classes(networks: list[Network], folders: list[Path]) -> bool:
    """Whether an image file has the same class by every way."""
    plain = [line.rpartition(": ")[2].rpartition(" ")[0] for line in run(CLASSIFY, folders).splitlines()]
    for network, folder, printed in zip(networks, folders, plain, strict=True):
        said = {printed, own_class(network, folder / "photo.png")}
        for file in ("network.onnx", "network.pt2"):
            (prediction,) = predict(open_model(folder / file), [folder / "photo.png"])
            assert isinstance(prediction, Prediction)
            said.add(prediction.classes[0])
        if len(said) > 1:
            return False
    return True


def own_class(network: Network, photo: Path) -> str:
    """The network's own, from pixels that none of the exported code has made."""
    channels, side, _ = network.input_shape
    with Image.open(photo) as image:
        cut = image.crop((25, 0, 175, 150)).resize((side, side), Image.Resampling.BICUBIC)
        pixels = np.array(cut.convert("RGB" if channels == 3 else "L")).reshape(side, side, channels)
    with torch.no_grad():
        logits = network(torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255)
    return CLASSES[int(logits.argmax())]


if __name__ == "__main__":
    main()
