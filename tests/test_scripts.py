"""The scripts that measure."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import command_environment

PROJECT = Path(__file__).parent.parent


@pytest.mark.slow
def test_check_spaces_compares_with_tables(tmp_path: Path) -> None:
    # two published rows of each, one of them changed, and one with the parameters of its twin
    macro = {
        "00000000": {"params": 387_882, "flops": 7_713_280},
        "11111221": {"params": 1, "flops": 65_012_224},
    }
    (tmp_path / "nas-bench-macro_cifar10.json").write_text(json.dumps(macro))
    (tmp_path / "nb201_acc.csv").write_text("idx,ops\n0,421211\n1,133300\n2,331010\n")
    (tmp_path / "nb201_hw.csv").write_text(
        "idx,params_M,flops_M\n0,0.129306,15.65\n1,0.559386,78.5\n2,0.559386,78.5\n"
    )
    script = [sys.executable, str(PROJECT / "scripts" / "check_spaces.py"), "--data", str(tmp_path)]
    result = subprocess.run(
        [*script, "--count", "20"], env=command_environment(), capture_output=True, text=True, check=True
    )
    figures = json.loads(result.stdout.splitlines()[-1])
    assert (figures["macro_entries"], figures["macro_params_equal"], figures["macro_macs_within_1pct"]) == (
        2,
        1,
        2,
    )
    assert (figures["nb201_entries"], figures["nb201_params_equal"]) == (3, 2)
    assert figures["nb201_params_of_a_twin"] == 1
    assert set(figures["seconds_by_space"]) >= {"resconv", "nasbench201"}
    assert figures["seconds_per_10000"] == max(figures["seconds_by_space"].values())
