"""Classes of image files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import command_environment
from PIL import Image
from random_networks import SMALL, make_network

from nas_optuna.errors import InputError
from nas_optuna.export import FORMATS, export, open_model, predict
from nas_optuna.predict import main
from nas_optuna.space import Network, save


@pytest.fixture
def network() -> Network:
    return make_network(SMALL, (3, 12, 12))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """Wider than high, larger than the network's input."""
    shades = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(shades).resize((200, 150)).save(tmp_path / "photo.jpg")
    return tmp_path / "photo.jpg"


@pytest.fixture
def saved(network: Network, tmp_path: Path) -> Path:
    folder = tmp_path / "study" / "final"
    save(folder, network, input_shape=network.input_shape, classes=network.classes)
    return folder


def own_class(network: Network, photo: Path) -> str:
    """From pixels that are made here: cut to a square, scaled."""
    with Image.open(photo) as image:
        square = image.crop((25, 0, 175, 150)).resize((12, 12), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.array(square)).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        return network.classes[int(network(pixels).argmax())]


@pytest.mark.parametrize("kind", [*FORMATS, "saved"])
def test_image_file_gets_the_networks_own_class(kind: str, tmp_path: Path) -> None:
    seed = 1
    network = make_network(SMALL, (3, 12, 12), seed=seed)
    shades = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    photo = tmp_path / "photo.png"
    Image.fromarray(shades).resize((200, 150)).save(photo)
    if kind == "python":
        path = export(network, tmp_path, kind=kind)
        run = subprocess.run([sys.executable, str(path), str(photo)], capture_output=True, text=True)
        said = run.stdout.rpartition(": ")[2].rpartition(" ")[0]
    else:
        if kind == "saved":
            path = tmp_path / "final"
            save(path, network, input_shape=network.input_shape, classes=network.classes)
        else:
            path = export(network, tmp_path, kind=kind)
        (prediction,) = predict(open_model(path), [photo])
        assert not isinstance(prediction, InputError)
        said = prediction.classes[0]
    assert said == own_class(network, photo)


def test_command_prints_a_line_for_each_image(
    saved: Path, photo: Path, network: Network, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([f"model={saved.parent}", "top=2", str(photo), str(photo.parent)]) == 0
    lines = capsys.readouterr().out.splitlines()
    # the file, and the only image in its folder
    assert len(lines) == 2
    assert lines[0] == lines[1]
    first, second = (pair.rpartition(" ") for pair in lines[0].removeprefix(f"{photo}: ").split(", "))
    assert first[0] == own_class(network, photo)
    assert float(first[2]) >= float(second[2])


def test_unreadable_image_does_not_keep_the_others_waiting(
    saved: Path, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    assert main([f"model={saved}", str(tmp_path / "broken.jpg"), str(photo)]) == 2
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 1
    assert said.err.startswith(f"error: can't read the image '{tmp_path / 'broken.jpg'}'")
    assert len(said.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["photo.jpg"], "model is missing"),
        (["model=nowhere", "photo.jpg"], "no file or folder 'nowhere'"),
        (["model=SAVED"], "no images"),
        (["model=SAVED", "top=0", "photo.jpg"], "top: '0' must be"),
        (["model=SAVED", "EMPTY"], "no image files in the folder"),
        (["model=network.py", "photo.jpg"], "run it: python"),
        (["model=photo.jpg", "photo.jpg"], "none of the files that can be opened"),
    ],
)
def test_wrong_request_is_one_line(
    saved: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    reason: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "network.py").touch()
    (tmp_path / "photo.jpg").touch()
    given = [text.replace("SAVED", str(saved)).replace("EMPTY", "empty") for text in arguments]
    assert main(given) == 2
    said = capsys.readouterr()
    assert len(said.err.splitlines()) == 1
    assert reason in said.err
    assert not said.out


def test_network_of_series_has_no_images(photo: Path, tmp_path: Path) -> None:
    architecture = type(SMALL)(SMALL.stem, SMALL.blocks, parts=type(SMALL.parts)(dimensions=1))
    network = make_network(architecture, (2, 32))
    save(tmp_path / "final", network, input_shape=(2, 32), classes=network.classes)
    with pytest.raises(InputError, match="not grey or RGB images"):
        list(predict(open_model(tmp_path / "final"), [photo]))


def test_saved_weights_that_were_changed_are_refused(saved: Path) -> None:
    weights = saved / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(InputError, match="was changed after it was saved"):
        open_model(saved)


def test_reader_that_has_seen_enough_ends_it_without_a_word(
    saved: Path, photo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert main([f"model={saved}", str(photo)]) == 141
    assert capsys.readouterr().err == ""


def test_help_needs_no_torch() -> None:
    code = "import sys, nas_optuna.predict as p; p.main(['--help']); sys.exit('torch' in sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", code], env=command_environment(), capture_output=True, text=True
    )
    assert run.returncode == 0
    assert run.stdout.startswith("usage:")
