from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from nas_optuna import load
from nas_optuna.errors import InputError
from nas_optuna.space import Architecture, Block, Network, Stem, save

ARCHITECTURE = Architecture(
    Stem(8), (Block("conv", 16, 2, residual=True), Block("dwsep", 16, choices={"kernel": 5}))
)


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    built = Network(ARCHITECTURE, classes=3, mean=[0.4, 0.5, 0.6], std=[0.2, 0.3, 0.4])
    built(torch.rand(16, 3, 9, 9))  # moves the norms' statistics
    return built.eval()


def saved(network: Network, folder: Path) -> Path:
    save(folder, network, input_shape=(3, 9, 9), classes=("cat", "dog", "fish"))
    return folder


def test_loaded_network_gives_the_same_logits(network: Network, tmp_path: Path) -> None:
    loaded = load(saved(network, tmp_path / "final"))
    images = torch.rand(4, 3, 9, 9)
    torch.testing.assert_close(loaded(images), network(images))
    assert not loaded.training
    assert loaded.classes == ("cat", "dog", "fish")
    assert loaded.input_shape == (3, 9, 9)


def test_study_folder_leads_to_its_network(network: Network, tmp_path: Path) -> None:
    saved(network, tmp_path / "final")
    assert load(str(tmp_path)).architecture == ARCHITECTURE


def test_nothing_half_written_is_left(network: Network, tmp_path: Path) -> None:
    folder = saved(network, tmp_path / "final")
    assert sorted(path.name for path in folder.iterdir()) == ["architecture.json", "weights.safetensors"]


def test_missing_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no network can be loaded"):
        load(tmp_path)


def test_damaged_weights_are_refused(network: Network, tmp_path: Path) -> None:
    folder = saved(network, tmp_path)
    (folder / "weights.safetensors").write_bytes(b"\x80\x04pickle")
    with pytest.raises(InputError, match="no network can be loaded"):
        load(folder)


def test_unknown_layer_is_refused(network: Network, tmp_path: Path) -> None:
    folder = saved(network, tmp_path)
    description = json.loads((folder / "architecture.json").read_text())
    description["architecture"]["blocks"][0]["layer"] = "unknown"
    (folder / "architecture.json").write_text(json.dumps(description))
    with pytest.raises(InputError, match="unknown"):
        load(folder)
