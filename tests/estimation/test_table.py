from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import optuna
import pytest
from conftest import compose_config

from nas_optuna.data import NoData
from nas_optuna.errors import InputError
from nas_optuna.estimation import Fidelity, Table
from nas_optuna.estimation.table import LookedUp
from nas_optuna.search import search
from nas_optuna.space import Architecture, NasBench201, NasBenchMacro

NOTHING = NoData(input_shape=[3, 32, 32], classes=10)


def make_table(path: Path, **settings: Any) -> Table:
    return Table(table=str(path), pruner=optuna.pruners.NopPruner(), **settings)


def macro(digits: str) -> Architecture:
    return NasBenchMacro().at({f"layer{index}": int(digit) for index, digit in enumerate(digits, start=1)})


def cell(digits: str) -> Architecture:
    space = NasBench201()
    choices = zip(space.decisions.items(), digits, strict=True)
    return space.at({name: choice.options[int(digit)] for (name, choice), digit in choices})


def look_up(table: Table, architecture: Architecture, **settings: Any) -> LookedUp:
    return table.fit(architecture, NOTHING, fidelity=Fidelity(table.epochs), **{"seed": 0, **settings})


@pytest.mark.parametrize("digits", ["00000000", "21010212", "11122000", "22222222"])
def test_row_of_a_network_is_found(digits: str, macro_table: Path) -> None:
    rows = json.loads(macro_table.read_text())
    table = make_table(macro_table)
    assert look_up(table, macro(digits), test=True).test_accuracy == pytest.approx(
        rows[digits]["mean_acc"] / 100
    )


def test_networks_that_are_equal_have_one_row(macro_table: Path) -> None:
    table = make_table(macro_table)
    assert table.key(macro("11102111")) == table.key(macro("11120111"))
    assert table.key(macro("11012111")) != table.key(macro("11102111"))


@pytest.mark.parametrize("digits", ["333333", "000100", "131204"])
def test_row_of_a_cell_is_found(digits: str, cell_tables: tuple[Path, Path]) -> None:
    table = make_table(cell_tables[0])
    row = table.rows[table.key(cell(digits))]
    simplest = table.key(cell(digits))
    convolutions = simplest.count("2") + 2 * simplest.count("3")
    assert row.test == pytest.approx((50 + convolutions) / 100)


def test_cell_that_does_nothing_has_the_row_of_a_skip(cell_tables: tuple[Path, Path]) -> None:
    assert make_table(cell_tables[0]).key(cell("000100")) == "000100"


def test_another_data_set_has_other_values(cell_tables: tuple[Path, Path]) -> None:
    tested = [
        look_up(make_table(cell_tables[0], dataset=name), cell("333333"), test=True).test_accuracy
        for name in ("cifar10", "cifar100")
    ]
    assert tested == [pytest.approx(0.62), pytest.approx(0.52)]


def test_seed_decides_which_training_is_seen(cell_tables: tuple[Path, Path]) -> None:
    table = make_table(cell_tables[0])
    seen = [look_up(table, cell("333333"), seed=seed).curve[-1] for seed in range(20)]
    # 50 + 12, one point less or more; the second of three was not trained
    assert {round(accuracy, 4) for accuracy in seen} == {0.61, 0.63}
    assert seen == [look_up(table, cell("333333"), seed=seed).curve[-1] for seed in range(20)]


def test_pruner_stops_after_the_fewer_epochs_that_the_table_knows(cell_tables: tuple[Path, Path]) -> None:
    heard = []

    class Stop:
        def judged(self, epoch: int, accuracy: float, *, is_last: bool) -> bool:
            heard.append((epoch, accuracy, is_last))
            return True

    curve = look_up(make_table(cell_tables[0]), cell("333333"), callbacks=[Stop()]).curve
    assert heard == [(12, 0.31, False)]
    assert curve == [0.31]


def test_latency_is_that_of_the_network(cell_tables: tuple[Path, Path]) -> None:
    table = make_table(cell_tables[0], latencies=str(cell_tables[1]))
    assert table.measure(cell("333333")) == {"latency": 13.0}
    assert make_table(cell_tables[0]).measure(cell("333333")) == {}


def test_unknown_device_is_named_with_the_known_ones(cell_tables: tuple[Path, Path]) -> None:
    with pytest.raises(InputError, match="'watch' is unknown; known: raspi4"):
        make_table(cell_tables[0], latencies=str(cell_tables[1]), latency_device="watch")


@pytest.mark.parametrize(
    ("name", "text"), [("a.json", "[1]"), ("b.json", "{"), ("c.csv", "x,y\n1,2"), ("d.json", '{"0": {}}')]
)
def test_file_of_another_kind_is_refused(name: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(InputError, match=r"estimation.table: .* must be the JSON file of NAS-Bench-Macro"):
        make_table(path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"estimation.table: '.*nowhere.json' can't be read"):
        make_table(tmp_path / "nowhere.json")


def test_network_of_another_space_is_refused(macro_table: Path) -> None:
    with pytest.raises(InputError, match="take the space that it was made for"):
        make_table(macro_table).key(cell("333333"))


def test_search_on_a_table_ends_with_a_tested_network(
    macro_table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    search(compose_config("+experiment=nasbench_macro", f"estimation.table={macro_table}", "n_trials=40"))
    summary = json.loads((tmp_path / "runs/study/summary.json").read_text())
    assert summary["trials"]["complete"] == 40
    # of at most 93.6; three of four random ones are below 89.9
    assert summary["test"]["accuracy"] > 0.91
    assert summary["test"]["number"] == summary["best"]["number"]


def test_search_goes_on_where_an_earlier_version_wrote_its_plan(
    macro_table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ("+experiment=nasbench_macro", f"estimation.table={macro_table}", "strategy=random")
    search(compose_config(*command, "n_trials=5"))
    study = optuna.load_study(study_name="study", storage="sqlite:///runs/study/study.db")
    plan = study.user_attrs["plan"]
    study.set_user_attr("plan", {name: plan[name] for name in plan if name != "rung_images"})
    search(compose_config(*command, "n_trials=10"))
    summary = json.loads((tmp_path / "runs/study/summary.json").read_text())
    assert summary["trials"]["complete"] == 10
