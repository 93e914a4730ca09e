from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path

import pytest
from conftest import SHORT, compose_config, make_space

from nas_optuna.configuration import build_space
from nas_optuna.errors import InputError
from nas_optuna.estimation import Objectives
from nas_optuna.limits import Share, describe_limits, draw
from nas_optuna.prepare import prepare
from nas_optuna.space import Architecture, measure_costs


def measure(network: Architecture) -> Mapping[str, float]:
    return vars(measure_costs(network, input_shape=(3, 16, 16), classes=10))


def describe(**limits: float) -> str:
    return describe_limits(
        make_space(), Objectives(directions={"accuracy": "maximize"}, limits=limits), measure
    )


def test_share_that_fits_is_told() -> None:
    text = describe(macs=1e12)
    assert text.startswith("limits: of 300 random networks 100.0% fit")
    half = describe(params=4000)
    assert 0 < float(half.split("networks ")[1].split("%")[0]) < 100


def test_each_limit_has_its_own_share_where_there_are_several() -> None:
    text = describe(macs=1e12, params=4000)
    assert "macs alone 100.0%" in text
    assert "params alone" in text
    assert "params alone 100.0%" not in text


def test_limit_that_only_the_smallest_keep_to_is_no_error() -> None:
    space = build_space(compose_config("space=resconv"))
    limits = {"params": 7000}

    def small(network: Architecture) -> Mapping[str, float]:
        return vars(measure_costs(network, input_shape=(3, 32, 32), classes=10))

    text = describe_limits(space, Objectives(directions={"accuracy": "maximize"}, limits=limits), small)
    assert "0.0% fit" in text
    assert "but smaller ones do" in text


@pytest.mark.parametrize("limits", [{"macs": 10.0}, {"macs": 1e12, "params": 10.0}])
def test_limit_that_none_keeps_to_is_the_culprit(limits: dict[str, float]) -> None:
    culprit = "params" if "params" in limits else "macs"
    with pytest.raises(InputError, match=rf"objective\.limits\.{culprit}: 10 is below what any network"):
        describe(**limits)


def test_limits_that_exclude_one_another_are_told() -> None:
    def trade(network: Architecture) -> Mapping[str, float]:
        macs = float(measure(network)["macs"])
        return {"macs": macs, "params": 1e9 / macs}

    space = make_space()
    draws = random.Random(0)
    found = [trade(space.at(draw(space, draws)).canonical())["macs"] for _ in range(200)]
    limits = {"macs": min(found) * 1.5, "params": 1e9 / max(found) * 1.5}
    objectives = Objectives(directions={"accuracy": "maximize"}, limits=limits)
    with pytest.raises(InputError, match="no network of this space keeps to all limits at once"):
        describe_limits(space, objectives, trade)


def test_search_refuses_a_limit_that_none_keeps_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"objective\.limits\.params: 5 is below"):
        prepare(compose_config(*SHORT, "objective.limits.params=5"))
    assert not (tmp_path / "runs").exists()


def test_interval_of_a_share_holds_it() -> None:
    assert str(Share(30, 300)) == "10.0% fit (7.1% to 13.9%)"
