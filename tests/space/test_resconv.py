from __future__ import annotations

from typing import Any

import optuna
import pytest
from conftest import make_space

from nas_optuna.errors import InputError
from nas_optuna.space import ResConv

STEM = {"width": 8, "kernel": 3, "stride": 1}
STAGES = {"only": {"depth": {"low": 1, "high": 3}, "width": 16, "stride": 2}}
BLOCK = {"layer": ["conv", "dwsep"], "kernel": 3, "residual": False}


def test_stage_decides_depth_width_and_where_to_shrink() -> None:
    space = ResConv(stem=STEM, stages=STAGES, block=BLOCK)
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


def test_flat_encoding_asks_the_same_decisions_every_time(space: ResConv) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    asked = set()
    for _ in range(20):
        trial = study.ask()
        space(trial)
        asked.add(frozenset(trial.params))
    assert len(asked) == 1


def test_conditional_encoding_asks_only_what_is_used() -> None:
    space = ResConv(stem=STEM, stages=STAGES, block=BLOCK, encoding="conditional")
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
        ResConv(stem=STEM, stages=STAGES, block=BLOCK, encoding=encoding)
        for encoding in ("flat", "conditional")
    )
    assert flat(trial) == conditional(trial)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"layer": ["conv", "convv"]}, "space.block.layer: unknown layer 'convv'; known: conv, dwsep"),
        ({"kernel": [3, 4]}, "space.block.kernel: 4 is even"),
        ({"residual": ["maybe"]}, "space.block.residual: 'maybe' must be true or false"),
        ({"kernel": []}, "space.block.kernel is an empty list"),
    ],
)
def test_wrong_block_names_key_value_and_rule(block: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_space(**block)


def test_missing_key_is_named() -> None:
    with pytest.raises(InputError, match=r"space.stages.only: \['depth'\] must be exactly the keys"):
        ResConv(stem=STEM, stages={"only": {"depth": 1}}, block=BLOCK)


def test_space_without_stages_is_refused() -> None:
    with pytest.raises(InputError, match=r"space\.stages is empty"):
        ResConv(stem=STEM, stages={}, block=BLOCK)
