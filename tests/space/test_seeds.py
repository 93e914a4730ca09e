from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import make_space

from nas_optuna.errors import InputError
from nas_optuna.space import Architecture, Block, NasBenchMacro, Stages, Stem, resolve_seeds


def seeded(*seeds: Any, **block: Any) -> Stages:
    space = make_space(**block)
    space.seeds = list(seeds)
    return space


def resolve(*seeds: Any, **block: Any) -> list[Architecture]:
    space = seeded(*seeds, **block)
    return [space.at(values) for values in resolve_seeds(space).values()]


def test_resnet_is_made_of_residual_standard_convolutions() -> None:
    (resnet,) = resolve("resnet")
    assert {(block.layer, block["kernel"], block.residual) for block in resnet.blocks} == {("conv", 3, True)}


def test_mobilenet_takes_the_best_layer_that_the_space_has() -> None:
    (separable,) = resolve("mobilenet")
    assert {block.layer for block in separable.blocks} == {"dwsep"}
    (inverted,) = resolve("mobilenet", layer=["conv", "mbconv"], expansion=[3, 6], residual="same")
    assert {(block.layer, block["expansion"]) for block in inverted.blocks} == {("mbconv", 6)}


@pytest.mark.parametrize(
    ("layers", "first"), [(["conv", "dwsep"], "resnet"), (["dwsep"], "mobilenet"), (["identity"], None)]
)
def test_auto_is_the_first_well_known_network_that_the_space_can_say(
    layers: list[str], first: str | None
) -> None:
    space = make_space(layer=layers)
    space.seeds = "auto"
    assert list(resolve_seeds(space)) == ([first] if first else [])


def test_values_decide_everything_of_their_name_and_one_thing_by_its_full_name() -> None:
    (network,) = resolve({"depth": 2, "layer": "dwsep", "stage2.block1.layer": "conv"})
    assert [block.layer for block in network.blocks] == ["dwsep", "dwsep", "conv", "dwsep"]


def test_architecture_is_found_in_the_space(tmp_path: Path) -> None:
    blocks = (Block("dwsep", 16, residual=True), Block("conv", 24, 2, choices={"kernel": 5}))
    wanted = Architecture(Stem(8), blocks)
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(wanted.to_dict()))
    assert [found.hash for found in resolve(str(file), wanted.to_dict())] == [wanted.hash]


def test_seed_of_a_study_is_its_best_and_its_front_as_far_as_the_space_has_them(tmp_path: Path) -> None:
    inside, also, outside = (
        Architecture(Stem(8), (Block("conv", w), Block("conv", 16, 2))) for w in (8, 16, 99)
    )
    entries = [{"architecture": found.to_dict()} for found in (inside, also, outside)]
    summary = {"trials": {}, "best": entries[0], "front": entries}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    assert [found.hash for found in resolve(str(tmp_path))] == [inside.hash, also.hash]


@pytest.mark.parametrize(
    ("seed", "message"),
    [
        ({}, "an empty mapping"),
        ("resnett", r"'resnett' can't be read.*resnet, mobilenet"),
        (3, "3 must be one of resnet, mobilenet"),
        ({"layer": "mbconv"}, r"wants layer='mbconv', but stage1\.block1\.layer has only conv, dwsep"),
        ({"colour": 3}, "decides 'colour', which this space does not"),
        (Architecture(Stem(99), ()).to_dict(), "this space can't say stem3-99"),
        ({"schema": 99}, "holds no architecture.*schema 99"),
    ],
)
def test_wrong_seed_is_named(seed: Any, message: str) -> None:
    with pytest.raises(InputError, match=rf"space\.seeds: .*{message}"):
        resolve(seed)


@pytest.mark.parametrize(
    "text",
    [
        "[1]",
        "3",
        '{"trials": {}, "best": 3}',
        '{"trials": {}, "best": {"x": 1}}',
        '{"trials": {}, "best": null, "front": [1]}',
        '{"architecture": 5}',
    ],
)
def test_file_that_is_no_architecture_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "odd.json").write_text(text)
    with pytest.raises(InputError, match=r"odd\.json' holds no architecture"):
        resolve(str(tmp_path / "odd.json"))


def test_study_that_found_nothing_is_named(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text('{"trials": {}, "best": null, "front": null}')
    with pytest.raises(InputError, match="found no network"):
        resolve(str(tmp_path))


def test_what_a_seed_leaves_open_is_taken_from_the_middle() -> None:
    (network,) = resolve({"layer": "dwsep"}, kernel=[3, 5, 7])
    assert {block["kernel"] for block in network.blocks} == {5}


def test_seeds_must_be_a_list() -> None:
    with pytest.raises(InputError, match=r"space\.seeds: 'resnet' must be auto or a list"):
        NasBenchMacro(seeds="resnet")
