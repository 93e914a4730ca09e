"""The command that shows a search space."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conftest import compose_config, run_command

from nas_optuna.errors import InputError
from nas_optuna.space import Size
from nas_optuna.survey import survey

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def look(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def run(*overrides: str) -> str:
        survey(compose_config("survey.networks=50", "survey.samples=1", *overrides, name="survey"))
        return capsys.readouterr().out

    return run


def test_command_shows_a_space_without_its_data(tmp_path: Path) -> None:
    options = ["+experiment=cifar", "data.root=nowhere", "survey.networks=100", "objective.limits.macs=5e6"]
    result = run_command("nas_optuna.space", *options, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    said = result.stdout
    assert "inputs of 3 x 32 x 32 and 10 classes (assumed" in said
    assert "14,938,252,800 distinct networks" in said
    assert "macs at most 5,000,000:" in said
    assert list(tmp_path.iterdir()) == []


def test_smallest_and_largest_are_what_they_say(look: Callable[..., str]) -> None:
    said = look("+experiment=digits", "space.block.kernel=3")
    assert "stem3-16 dwsep3-8 dwsep3-16/2 dwsep3-32/2" in line(said, "smallest")
    # a projection costs a little, a kept input nothing
    assert "stem3-16 conv3-24+ conv3-24 conv3-48/2+ conv3-48 conv3-64/2+ conv3-64" in line(said, "largest")


def line(said: str, name: str) -> str:
    return next(found for found in said.splitlines() if found.startswith(name))


def test_classes_of_a_folder_are_counted(look: Callable[..., str], image_folder: Path) -> None:
    said = look("+experiment=folder", f"data.root={image_folder}")
    assert "inputs of 3 x 64 x 64 and 2 classes\n" in said


def test_all_limits_together_are_counted(look: Callable[..., str]) -> None:
    said = look("+experiment=digits", "objective.limits.macs=1", "objective.limits.size=1e12")
    assert "macs at most 1: 0.0% fit (0.0% to 7.1%)" in said
    assert "size at most 1,000,000,000,000: 100.0% fit" in said
    assert "all limits: 0.0% fit" in said


def test_seeds_are_shown(look: Callable[..., str]) -> None:
    assert "conv3-24+ conv3-24+" in line(look("space.seeds=[resnet]"), "resnet").replace(
        "2*conv3-24+", "conv3-24+ conv3-24+"
    )


def test_shown_networks_are_drawn(look: Callable[..., str], tmp_path: Path) -> None:
    look("space=mobile", f"survey.svg={tmp_path / 'pictures'}")
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == {
        "mobilenet.svg",
        "smallest.svg",
        "random-1.svg",
        "largest.svg",
    }


@pytest.mark.slow
def test_latency_is_measured_in_both_forms(look: Callable[..., str]) -> None:
    said = look("survey.latency=true")
    for name in ("smallest", "largest"):
        for form in ("eager", "exported"):
            assert f"latency of the {name}, {form}: " in said


def test_size_that_was_not_counted_says_so() -> None:
    assert str(Size(10**20, exact=False)) == "at most 100,000,000,000,000,000,000 networks"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("space=conv1d", "space: its networks are for series, the data holds images: set space.dimensions=2"),
        ("survey.samples=-1", "survey.samples: -1"),
        ("survey.samples=11", "survey.networks: 10 must be a whole number, at least 11"),
        ("survey.latency=maybe", "survey.latency: 'maybe' must be true or false"),
        ("survey.svg=5", "survey.svg: 5 must be the name of a folder"),
        ("+survey.foo=1", "survey: .* must have exactly the keys samples, networks, latency, svg"),
        ("survey=null", "survey: None must have exactly"),
        ("seed=abc", "seed: 'abc' must be a whole number"),
        ("space.head=0", "space.head: 0 must be exactly the keys"),
        ("space.block=conv", "space.block: 'conv' must hold layer"),
        ("space.dimensions=true", "space.dimensions: True"),
        ("space.block.layer=[[conv]]", r"space.block.layer: \['conv'\] must be a number, a word"),
        ("space.layers=5", "space.layers: 5 must be names"),
        ("+space.layers.x={_target_:builtins.int,_partial_:true}", "space.layers.x: int must"),
        (
            "space.stages.stage1.width={low:16,high:33,step:8}",
            "space.stages.stage1.width: high 33 can't be reached",
        ),
        ("space.seeds=[x]", "space.seeds: 'x' can't be read"),
        ("survey.svg=/dev/null/x", "survey.svg: can't write"),
        ("space._target_=nas_optuna.space.Choice", "space"),
    ],
)
def test_wrong_request_is_refused(override: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        survey(compose_config("survey.networks=10", override, name="survey"))
