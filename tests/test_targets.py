"""A study that comes from a stranger runs no code of theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nas_optuna.conf
import pytest
from conftest import compose_config

from nas_optuna.configuration import plain
from nas_optuna.errors import InputError
from nas_optuna.targets import check_targets, foreign_modules

CONF = Path(nas_optuna.conf.__file__).parent


@pytest.mark.parametrize("strategy", sorted(path.stem for path in (CONF / "strategy").glob("*.yaml")))
def test_our_strategies_pass(strategy: str) -> None:
    check_targets({"": plain(compose_config(f"strategy={strategy}"), "strategy")})


@pytest.mark.parametrize("experiment", sorted(path.stem for path in (CONF / "experiment").glob("*.yaml")))
def test_our_experiments_pass(experiment: str) -> None:
    config = compose_config(f"+experiment={experiment}")
    for group in ("data", "space", "objective"):
        check_targets({group: plain(config, group)})


@pytest.mark.parametrize("estimation", sorted(path.stem for path in (CONF / "estimation").glob("*.yaml")))
def test_our_estimations_pass(estimation: str) -> None:
    config = compose_config(f"estimation={estimation}", "estimation.epochs=1")
    check_targets({"": plain(config, "estimation")})


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "nas_optuna.cli.os.system",
        "nas_optuna.estimation.execution.platform.os.system",
        "nas_optuna.estimation.execution.Path",
        "nas_optuna.data.loader.deque",
        "nas_optuna.files.write_file",
        "nas_optuna.space.save",
        "nas_optuna.space.register_layer",
        "nas_optuna.crew.Crew",
        "nas_optuna.data.nowhere.Data",
        "nas_optuna.data",
        "nas_optuna.database.Evil",
        "optuna.samplers._base.subprocess.run",
        "optuna.storages.RDBStorage",
        "optuna.samplers",
        ".os.system",
        "nas_optuna.data..os",
        "",
        5,
        ["nas_optuna.data.Digits"],
        None,
    ],
)
def test_other_code_is_refused(target: object) -> None:
    with pytest.raises(InputError, match=r"configuration.space.layers.0._target_: the study names"):
        check_targets({"space": {"layers": [{"_target_": target, "_partial_": True}]}})


def test_module_that_the_user_trusts_may_be_named() -> None:
    config = {"space": {"_target_": "json.decoder.JSONDecoder"}}
    with pytest.raises(InputError, match=r"allow=\[json\]"):
        check_targets(config)
    check_targets(config, allow=["json"])


def test_trust_in_a_module_is_none_in_what_it_imports() -> None:
    with pytest.raises(InputError, match="no class of the module"):
        check_targets({"space": {"_target_": "json.decoder.scanner"}}, allow=["json"])
    with pytest.raises(InputError, match="can't be imported"):
        check_targets({"space": {"_target_": "json.decoder.re.compile"}}, allow=["json"])


def test_trust_in_a_module_is_none_in_one_whose_name_begins_so() -> None:
    with pytest.raises(InputError, match="no part of nas_optuna"):
        check_targets({"space": {"_target_": "jsonlines.Reader"}}, allow=["json"])


def test_interpolation_is_not_worked_out() -> None:
    with pytest.raises(InputError, match=r"configuration.data.root: .* is an interpolation"):
        check_targets({"data": {"root": "${oc.env:HOME}"}})


@pytest.mark.parametrize("module", ["", "os system", "my-layers", 5])
def test_allowed_module_is_a_name(module: Any) -> None:
    with pytest.raises(InputError, match="allow: "):
        check_targets({}, allow=[module])


def test_modules_beyond_ours_are_found() -> None:
    config = {
        "space": {
            "_target_": "nas_optuna.space.Stages",
            "layers": {"ghost": {"_target_": "my_layers.Ghost"}},
        },
        "strategy": {"_target_": "optuna.samplers.RandomSampler"},
        "data": {"_target_": "my.data.Photos"},
    }
    assert foreign_modules(config) == ["my.data", "my_layers"]
