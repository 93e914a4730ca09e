from __future__ import annotations

import itertools
from typing import Any

import optuna
import pytest
from conftest import make_space

from nas_optuna.errors import InputError
from nas_optuna.space import Architecture, Block, Head, Parts, Stages, Stem

STEM = {"width": 8, "kernel": 3, "stride": 1}
STAGES = {"only": {"depth": {"low": 1, "high": 3}, "width": 16, "stride": 2}}
BLOCK = {"layer": ["conv", "dwsep"], "kernel": 3, "residual": False}


def test_stage_decides_depth_width_and_where_to_shrink() -> None:
    space = Stages(stem=STEM, stages=STAGES, block=BLOCK)
    params = {
        "only.depth": 2,
        "only.block1.layer": "conv",
        "only.block2.layer": "dwsep",
        "only.block3.layer": "conv",
    }
    blocks = space(optuna.trial.FixedTrial(params)).blocks
    assert [(block.layer, block.width, block.stride) for block in blocks] == [
        ("conv", 16, 2),
        ("dwsep", 16, 1),
    ]


def test_flat_encoding_asks_the_same_decisions_every_time(space: Stages) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    asked = set()
    for _ in range(20):
        trial = study.ask()
        space(trial)
        asked.add(frozenset(trial.params))
    assert len(asked) == 1


def test_conditional_encoding_asks_only_what_is_used() -> None:
    space = Stages(stem=STEM, stages=STAGES, block=BLOCK, encoding="conditional")
    study = optuna.create_study()
    study.enqueue_trial({"only.depth": 1})
    trial = study.ask()
    space(trial)
    assert set(trial.params) == {"only.depth", "only.block1.layer"}


def test_both_encodings_give_the_same_network() -> None:
    params = {
        "only.depth": 2,
        "only.block1.layer": "conv",
        "only.block2.layer": "dwsep",
        "only.block3.layer": "conv",
    }
    trial = optuna.trial.FixedTrial(params)
    flat, conditional = (
        Stages(stem=STEM, stages=STAGES, block=BLOCK, encoding=encoding)
        for encoding in ("flat", "conditional")
    )
    assert flat(trial) == conditional(trial)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"layer": ["conv", "convv"]}, "space.block.layer: unknown layer 'convv'; known: avgpool"),
        ({"kernel": [3, 4]}, "space.block.kernel: 4 is even"),
        ({"residual": ["maybe"]}, "space.block.residual: 'maybe' is unknown; known: true, false, same"),
        ({"kernel": []}, "space.block.kernel is an empty list"),
        ({"expansion": [0, 3]}, "space.block.expansion: 0 must be a whole number, at least 1"),
        ({"squeeze_excite": [1]}, "space.block.squeeze_excite: 1 is unknown; known: true, false"),
        ({"colour": 3}, "space.block.colour: no layer has this choice; known: layer, residual, expansion"),
        ({"layer": "cell"}, "space.block.operations is missing: layer 'cell' needs it"),
        ({"layer": "groupconv", "groups": 5}, "stages.stage1: layer 'groupconv' can't be built.*8 channels"),
    ],
)
def test_wrong_block_names_key_value_and_rule(block: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_space(**block)


def test_missing_key_is_named() -> None:
    with pytest.raises(InputError, match=r"space.stages.only: \['depth'\] must be exactly the keys"):
        Stages(stem=STEM, stages={"only": {"depth": 1}}, block=BLOCK)


def test_space_without_stages_is_refused() -> None:
    with pytest.raises(InputError, match=r"space\.stages is empty"):
        Stages(stem=STEM, stages={}, block=BLOCK)


def test_stage_may_have_blocks_of_its_own() -> None:
    stages = {
        "first": {"depth": 1, "width": 8, "stride": 1},
        "second": {"depth": 1, "width": 8, "stride": 2, "block": {"layer": "mbconv", "expansion": [2, 4]}},
    }
    space = Stages(stem=STEM, stages=stages, block=BLOCK)
    blocks = space.at({"first.block1.layer": "dwsep", "second.block1.expansion": 4}).blocks
    assert [str(block) for block in blocks] == ["dwsep3-8", "mbconv3e4-8/2"]
    assert set(space.distributions()) == {"first.block1.layer", "second.block1.expansion"}


def test_choice_of_a_layer_is_asked_only_where_the_layer_may_be_chosen() -> None:
    space = make_space(expansion=[2, 4])
    assert not [name for name in space.decisions if name.endswith("expansion")]


def test_conditional_encoding_asks_the_choices_of_the_chosen_layer_only() -> None:
    block = {"layer": ["conv", "mbconv"], "expansion": [2, 4], "residual": False}
    space = Stages(stem=STEM, stages=STAGES, block=block, encoding="conditional")
    study = optuna.create_study()
    study.enqueue_trial({"only.depth": 1, "only.block1.layer": "conv"})
    trial = study.ask()
    space(trial)
    assert set(trial.params) == {"only.depth", "only.block1.layer"}


def test_residual_only_where_shapes_are_the_same() -> None:
    space = Stages(stem=STEM, stages=STAGES, block=BLOCK | {"residual": "same"})
    blocks = space.at({"only.depth": 3}).blocks
    assert [block.residual for block in blocks] == [False, True, True]


def test_way_of_shrinking_is_asked_where_something_may_shrink() -> None:
    stages = {
        "first": {"depth": 1, "width": 8, "stride": 1},
        "second": {"depth": 1, "width": 8, "stride": [1, 2]},
    }
    space = Stages(stem=STEM, stages=stages, block=BLOCK, downsampling=["stride", "avgpool"])
    assert "first.downsampling" not in space.decisions
    shrunk = space.at({"second.stride": 2, "second.downsampling": "avgpool"})
    assert str(shrunk.blocks[1]) == "conv3-8/2avg"
    unshrunk = space.at({"second.stride": 1, "second.downsampling": "avgpool"})
    assert str(unshrunk.blocks[1]) == "conv3-8"


@pytest.mark.parametrize(
    ("stages", "block"),
    [
        # stages that may be taken for one another, layers that do nothing, inactive choices
        (
            {
                "first": {"depth": 1, "width": [8, 16], "stride": 1},
                "second": {"depth": {"low": 1, "high": 2}, "width": [8, 16], "stride": [1, 2]},
            },
            {"layer": ["conv", "identity"], "kernel": 3, "residual": [False, "same"]},
        ),
        (
            {"only": {"depth": 2, "width": 8, "stride": [1, 2]}},
            {
                "layer": ["groupconv", "conv", "maxpool"],
                "groups": [1, 2],
                "kernel": [1, 3],
                "residual": False,
            },
        ),
    ],
)
def test_size_is_what_going_through_all_points_finds(stages: Any, block: Any) -> None:
    space = Stages(
        stem=STEM, stages=stages, block=block, downsampling=["stride", "maxpool"], norm=["batch", "layer"]
    )
    names = list(space.decisions)
    points = itertools.product(*(choice.options for choice in space.decisions.values()))
    hashes = {space.at(dict(zip(names, values, strict=True))).hash for values in points}
    assert space.size().networks == len(hashes)
    assert space.size().exact


def test_network_that_the_space_cannot_say_has_no_point() -> None:
    space = make_space()
    outside = [
        Architecture(Stem(8), (Block("conv", 8),)),
        Architecture(Stem(8), (Block("mbconv", 8), Block("conv", 16, 2))),
        Architecture(Stem(9), (Block("conv", 8), Block("conv", 16, 2))),
        Architecture(Stem(8), (Block("conv", 8), Block("conv", 16, 2)), Head(64)),
        Architecture(Stem(8), (Block("conv", 8), Block("conv", 16, 2)), parts=Parts(1)),
    ]
    inside = (Block("conv", 8), Block("conv", 16, 2))
    outside += [
        Architecture(Stem(8, activated=False), inside),
        Architecture(Stem(8), inside, Head(norm=True)),
    ]
    assert [space.encode(architecture) for architecture in outside] == [None] * 7
    assert space.encode(Architecture(Stem(8), (Block("conv", 8), Block("conv", 16, 2)))) is not None
