"""Networks of a search that begin with the weights of earlier ones."""

from __future__ import annotations

import json
from pathlib import Path

import optuna
import pytest
from conftest import SHORT, compose_config, judge_next, make_space, make_training
from optuna.trial import FrozenTrial, TrialState

from nas_optuna.attributes import INHERITS, LIKENESS
from nas_optuna.data import Digits
from nas_optuna.estimation import Fidelity, Objectives
from nas_optuna.heirs import MOST, Heirs
from nas_optuna.kept import Kept
from nas_optuna.objective import INTERRUPTED, Objective
from nas_optuna.results import Display
from nas_optuna.search import search
from nas_optuna.study import Budget, requeue

EPOCHS = 4
ACCURACY = Objectives(directions={"accuracy": "maximize"})
SPACE = make_space(layer=["conv", "dwsep"], kernel=3, residual=True)
NARROW = {"stage1.width": 8, "stage2.width": 16}
WIDE = {"stage1.width": 16, "stage2.width": 24}


@pytest.fixture
def heirs(tmp_path: Path, digits: Digits) -> Heirs:
    training = make_training(inherit=True)
    return Heirs(
        tmp_path / "weights", space=SPACE, objectives=ACCURACY, training=training, channels=1, classes=10
    )


def make_objective(digits: Digits, heirs: Heirs | None, **options: object) -> Objective:
    return Objective(
        space=SPACE,
        data=digits,
        training=make_training(inherit=True),
        objectives=ACCURACY,
        fidelity=Fidelity(EPOCHS, data_share=0.2),
        seed=0,
        progress=Display(budget=Budget(5, None), objectives=ACCURACY, elapsed=0.0),
        stop_reason=lambda: None,
        heirs=heirs,
        **options,
    )


def make_study() -> optuna.Study:
    return optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))


def judge(study: optuna.Study, objective: Objective, *, layer: str, **values: int) -> FrozenTrial:
    """A trial of a network of one layer, two blocks deep."""
    layers = dict.fromkeys(layer_names(), layer)
    depths = {"stage1.depth": 1, "stage2.depth": 1}
    study.enqueue_trial(layers | depths | values)
    return judge_next(study, objective)


def layer_names() -> list[str]:
    trial = optuna.create_study().ask()
    SPACE(trial)
    return [name for name in trial.params if name.endswith("layer")]


def test_network_begins_with_the_weights_of_its_relative(digits: Digits, heirs: Heirs) -> None:
    study, objective = make_study(), make_objective(digits, heirs)
    first = judge(study, objective, layer="conv", **NARROW)
    second = judge(study, objective, layer="conv", **WIDE)
    assert INHERITS not in first.user_attrs
    assert second.user_attrs[INHERITS] == 0
    assert 0.5 <= second.user_attrs[LIKENESS] < 1.0


def test_it_skips_the_beginning_of_its_training(digits: Digits, heirs: Heirs) -> None:
    study, objective = make_study(), make_objective(digits, heirs)
    first = judge(study, objective, layer="conv", **NARROW)
    second = judge(study, objective, layer="conv", **WIDE)
    assert list(first.intermediate_values) == [1, 2, 3, 4]
    assert list(second.intermediate_values) == [3, 4]


def test_the_nearest_relative_is_chosen(digits: Digits, heirs: Heirs) -> None:
    study, objective = make_study(), make_objective(digits, heirs)
    judge(study, objective, layer="conv", **NARROW)
    judge(study, objective, layer="dwsep", **NARROW)
    third = judge(study, objective, layer="dwsep", **(NARROW | {"stage2.width": 24}))
    assert third.user_attrs[INHERITS] == 1


def test_a_network_with_no_near_relative_begins_anew(digits: Digits, heirs: Heirs) -> None:
    study, objective = make_study(), make_objective(digits, heirs)
    judge(study, objective, layer="conv", **WIDE)
    second = judge(study, objective, layer="dwsep", **WIDE)
    assert INHERITS not in second.user_attrs
    assert list(second.intermediate_values) == [1, 2, 3, 4]


def test_weights_of_a_study_that_is_gone_are_not_taken(digits: Digits, heirs: Heirs, tmp_path: Path) -> None:
    judge(make_study(), make_objective(digits, heirs), layer="conv", **WIDE)
    study, objective = make_study(), make_objective(digits, None)
    judge(study, objective, layer="conv", **NARROW)
    second = judge(study, make_objective(digits, heirs), layer="conv", **WIDE)
    assert (tmp_path / "weights" / "0.safetensors").is_file()
    assert INHERITS not in second.user_attrs


def test_interrupted_heir_goes_on_as_if_it_had_not_been(
    digits: Digits, heirs: Heirs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas_optuna.kept.SECONDS", 0.0)
    kept = Kept(tmp_path / "checkpoints", most=3)
    through = make_study()
    for widths in (NARROW, WIDE):
        judge(through, make_objective(digits, heirs), layer="conv", **widths)
    study, objective = make_study(), make_objective(digits, heirs, kept=kept)
    judge(study, objective, layer="conv", **NARROW)

    def within_the_last_epoch() -> str | None:
        return INTERRUPTED if len(study.trials[1].intermediate_values) == 1 else None

    objective.stop_reason = within_the_last_epoch
    interrupted = judge(study, objective, layer="conv", **WIDE)
    assert interrupted.state == TrialState.FAIL
    requeue(study, interrupted)
    objective.stop_reason = lambda: None
    resumed = judge_next(study, objective)
    assert resumed.value == through.trials[1].value
    assert resumed.intermediate_values == through.trials[1].intermediate_values
    assert resumed.user_attrs[INHERITS] == 0


def told(study: optuna.Study, folder: Path, values: list[float]) -> None:
    """A finished trial for each value, its weights kept."""
    folder.mkdir(exist_ok=True)
    for value in values:
        trial = study.ask()
        SPACE(trial)
        study.tell(trial, value)
        (folder / f"{trial.number}.safetensors").write_bytes(b"weights")


def test_the_weights_of_the_best_are_kept(heirs: Heirs, tmp_path: Path) -> None:
    study, folder = make_study(), tmp_path / "weights"
    told(study, folder, [index / 100 for index in range(MOST + 3)])
    heirs.tidy(study, study.trials)
    assert {int(path.stem) for path in folder.iterdir()} == set(range(3, MOST + 3))


def test_the_weights_of_what_failed_go(heirs: Heirs, tmp_path: Path) -> None:
    study, folder = make_study(), tmp_path / "weights"
    told(study, folder, [0.5])
    trial = study.ask()
    (folder / "1.safetensors").write_bytes(b"weights")
    heirs.tidy(study, study.trials)
    assert len(list(folder.iterdir())) == 2  # of a running trial they stay
    study.tell(trial, state=TrialState.FAIL)
    heirs.tidy(study, study.trials)
    assert [path.stem for path in folder.iterdir()] == ["0"]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.slow
def test_search_with_inheritance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int) -> None:
    monkeypatch.chdir(tmp_path)
    config = compose_config(
        *SHORT,
        "estimation.inherit=true",
        "estimation.epochs=2",
        "space.block.layer=conv",
        "space.block.kernel=3",
        "n_trials=6",
        "study_dir=study",
        f"workers={workers}",
    )
    search(config)
    study = optuna.load_study(study_name=None, storage="sqlite:///study/study.db")
    heirs = [trial for trial in study.trials if INHERITS in trial.user_attrs]
    assert heirs
    assert all(min(trial.intermediate_values) == 2 for trial in heirs if trial.intermediate_values)
    summary = json.loads((tmp_path / "study" / "summary.json").read_text())
    reported = sum(1 for trial in heirs if trial.intermediate_values)
    assert summary["inherited"] == {"networks": len(heirs), "epochs_skipped": reported}
    assert study.user_attrs["final"]["test"]["accuracy"] > 0.1
    # all weights but the winner's are gone
    assert not (tmp_path / "study" / "weights").exists()
