from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir, initialize_config_module
from hydra.core.hydra_config import HydraConfig

from nas_optuna.record import command


@pytest.fixture(autouse=True)
def _forget_hydra() -> Iterator[None]:
    yield
    HydraConfig.instance().cfg = None


def run_hydra(*overrides: str, name: str = "config") -> None:
    """What Hydra does before it calls our function."""
    with initialize_config_module("nas_optuna.conf", version_base="1.3"):
        # of a real run alone it knows the name of the job
        words = ["hydra.job.num=0", "hydra.job.id=0", f"hydra.job.config_name={name}"]
        HydraConfig.instance().set_config(
            compose(name, overrides=[*overrides, *words], return_hydra_config=True)
        )


def test_command_is_what_was_typed_as_a_shell_takes_it() -> None:
    run_hydra("+experiment=digits", "space.block.layer=[conv,dwsep]", "seed=1")
    assert command() == "python -m nas_optuna +experiment=digits 'space.block.layer=[conv,dwsep]' seed=1"


def test_command_keeps_no_password() -> None:
    run_hydra("+experiment=digits", "storage=postgresql://me:secret@host/name")
    said = command()
    assert said is not None
    assert "secret" not in said
    assert said.endswith("'storage=postgresql://me:***@host/name'")


def test_program_of_the_users_own_has_no_command_of_ours(tmp_path: Path) -> None:
    assert command() is None
    (tmp_path / "mine.yaml").write_text("lr: 1\n")
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        mine = compose("mine", overrides=["hydra.job.name=mine"], return_hydra_config=True)
        HydraConfig.instance().set_config(mine)
    assert command() is None
