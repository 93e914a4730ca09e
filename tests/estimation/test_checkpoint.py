from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
import pytorch_lightning as pl
import torch
from conftest import make_training

from nas_optuna.data import Digits
from nas_optuna.estimation import (
    Checkpoint,
    Classifier,
    Fidelity,
    LearningCurve,
    PruningCallback,
    Training,
)
from nas_optuna.space import Architecture, Block, Stem

ARCHITECTURE = Architecture(Stem(8), (Block("conv", 16, 2, residual=True), Block("dwsep", 16)))
# neither a whole pass nor whole groups of batches
LENGTH = Fidelity(4, data_share=0.7)

Said = list[str]


def training(**changes: object) -> Training:
    return make_training(**{"optimizer": "muon", "small_share": 0.5, "small_scale": 0.5} | changes)


def fit(
    data: Digits,
    checkpoint: Checkpoint | None = None,
    *,
    architecture: Architecture = ARCHITECTURE,
    fidelity: Fidelity = LENGTH,
    seed: int = 0,
    stop: Callable[[], str | None] = lambda: None,
    callbacks: Sequence[pl.Callback] = (),
    with_validation: bool = False,
    test: bool = False,
    **settings: object,
) -> Classifier:
    return training(**settings).fit(
        architecture,
        data,
        fidelity=fidelity,
        seed=seed,
        stop=stop,
        callbacks=callbacks,
        with_validation=with_validation,
        test=test,
        checkpoint=checkpoint,
    )


def stop_after(steps: int) -> Callable[[], str | None]:
    reasons = iter([None] * steps)
    return lambda: next(reasons, "stopped")


@pytest.fixture
def said() -> Said:
    return []


@pytest.fixture
def checkpoint(tmp_path: Path, said: Said) -> Checkpoint:
    return Checkpoint(tmp_path / "checkpoint.pt", say=said.append)


def same_weights(one: Classifier, other: Classifier) -> bool:
    pairs = zip(one.network.state_dict().items(), other.network.state_dict().items(), strict=True)
    return all(first == second and torch.equal(mine, theirs) for (first, mine), (second, theirs) in pairs)


class Epochs(pl.Callback):
    """Remembers which epochs it heard of."""

    def __init__(self) -> None:
        self.heard: list[int] = []

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.heard.append(trainer.current_epoch + 1)


@pytest.mark.parametrize("optimizer", ["muon", "sgd"])
def test_stopped_training_goes_on_as_if_it_had_run_through(
    digits: Digits, checkpoint: Checkpoint, optimizer: str
) -> None:
    through = fit(digits, optimizer=optimizer)
    epochs = Epochs()
    # 12 steps an epoch: in the middle of the third
    stopped = fit(digits, checkpoint, optimizer=optimizer, stop=stop_after(30))
    resumed = fit(digits, checkpoint, optimizer=optimizer, callbacks=[epochs])
    assert stopped.stopped
    assert epochs.heard == [3, 4]
    assert resumed.curve == through.curve
    assert same_weights(resumed, through)


def test_training_that_is_stopped_again_and_again_arrives(digits: Digits, checkpoint: Checkpoint) -> None:
    for _ in range(3):
        fit(digits, checkpoint, stop=stop_after(14))
    resumed = fit(digits, checkpoint)
    assert same_weights(resumed, fit(digits))


def test_checkpoints_change_no_training(digits: Digits, checkpoint: Checkpoint) -> None:
    assert same_weights(fit(digits, checkpoint), fit(digits))


def test_pruned_training_goes_on_after_its_rung(digits: Digits, checkpoint: Checkpoint) -> None:
    class Rung(optuna.pruners.BasePruner):
        def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
            return trial.last_step == 2

    trial = optuna.create_study(direction="maximize", pruner=Rung()).ask()
    pruning = PruningCallback(trial)
    pruned = fit(digits, checkpoint, callbacks=[pruning])
    assert pruning.pruned
    assert len(pruned.curve) == 2
    epochs = Epochs()
    promoted, through = fit(digits, checkpoint, callbacks=[epochs]), fit(digits)
    assert epochs.heard == [3, 4]
    assert promoted.curve == through.curve
    assert promoted.losses == through.losses
    assert same_weights(promoted, through)


def test_state_of_a_version_without_losses_is_taken_up(digits: Digits) -> None:
    module = fit(digits, fidelity=Fidelity(2, data_share=0.1))
    state = module.state()
    del state["losses"]
    module.restore(state)
    assert len(module.losses) == len(module.curve) == 2
    assert all(map(math.isnan, module.losses))


@pytest.mark.parametrize("values", [(None,), (None, 100.0)], ids=len)
def test_losses_are_kept_where_pruners_of_curves_decide(
    digits: Digits, values: tuple[float | None, ...]
) -> None:
    study = optuna.create_study(directions=["maximize", "minimize"][: len(values)])
    trial = study.ask()
    module = fit(
        digits,
        fidelity=Fidelity(6, data_share=0.1),
        callbacks=[PruningCallback(LearningCurve(trial, values=values))],
    )
    expected = {str(epoch): module.losses[epoch - 1] for epoch in (1, 2, 4)}
    assert trial.user_attrs["losses"] == expected


def test_trained_network_is_tested_without_another_epoch(digits: Digits, checkpoint: Checkpoint) -> None:
    first = fit(digits, checkpoint, with_validation=True, test=True)
    epochs = Epochs()
    again = fit(digits, checkpoint, with_validation=True, test=True, callbacks=[epochs])
    assert epochs.heard == []
    assert again.test_accuracy == first.test_accuracy
    assert same_weights(first, again)


def test_execution_of_the_beginning_is_kept(
    digits: Digits, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    # as if worth the timing
    monkeypatch.setattr("nas_optuna.estimation.training.SHORT", 0.0)
    begun = fit(digits, checkpoint, execution="auto", stop=stop_after(14))

    def measured_anew(self: Training, *args: object, **kwargs: object) -> None:
        raise AssertionError

    monkeypatch.setattr(Training, "execution_of", measured_anew)
    assert fit(digits, checkpoint, execution="auto").execution == begun.execution


def test_training_in_parts_goes_on_as_if_never_stopped(digits: Digits, checkpoint: Checkpoint) -> None:
    fit(digits, checkpoint, execution={"parts": 2}, stop=stop_after(14))
    resumed, through = (fit(digits, kept, execution={"parts": 2}) for kept in (checkpoint, None))
    assert resumed.curve == through.curve
    assert same_weights(resumed, through)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"seed": 1}, "seed"),
        ({"architecture": Architecture(Stem(8), (Block("conv", 16, 2),))}, "architecture"),
        ({"fidelity": Fidelity(5, data_share=0.7)}, "fidelity"),
        ({"execution": {"memory_format": "contiguous"}}, "execution"),
        ({"execution": {"parts": 2}}, "execution"),
        ({"learning_rate": 0.2}, "recipe"),
        ({"label_smoothing": 0.1}, "loss"),
        ({"with_validation": True}, "with_validation"),
    ],
)
def test_checkpoint_of_another_training_is_not_used(
    digits: Digits, checkpoint: Checkpoint, said: Said, change: dict[str, Any], name: str
) -> None:
    fit(digits, checkpoint, stop=stop_after(14))
    epochs = Epochs()
    fit(digits, checkpoint, callbacks=[epochs], **change)
    assert epochs.heard[:2] == [1, 2]
    assert len(said) == 1
    assert "not used: it is of a training with other" in said[0]
    assert name in said[0]


@pytest.mark.parametrize("damage", ["cut", "changed", "foreign", "empty"])
def test_damaged_checkpoint_is_not_used(
    digits: Digits, checkpoint: Checkpoint, said: Said, damage: str
) -> None:
    fit(digits, checkpoint, stop=stop_after(14))
    content = bytearray(checkpoint.path.read_bytes())
    content[len(content) // 2] ^= 1
    damaged = {"cut": content[:-100], "changed": content, "foreign": b"PK" + content, "empty": b""}[damage]
    checkpoint.path.write_bytes(damaged)
    resumed = fit(digits, checkpoint)
    assert said == [f"{checkpoint.path} is not used: it is damaged. The training begins anew."]
    assert same_weights(resumed, fit(digits))


def test_diverged_training_leaves_no_checkpoint(digits: Digits, checkpoint: Checkpoint) -> None:
    module = fit(digits, checkpoint, optimizer="sgd", learning_rate=1e12, fidelity=Fidelity(20))
    assert module.diverged
    assert not checkpoint.path.exists()


def test_checkpoint_runs_no_code(
    checkpoint: Checkpoint, said: Said, capsys: pytest.CaptureFixture[str]
) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return print, ("it ran",)

    checkpoint.write({}, {"state": Evil()})
    assert checkpoint.read({}) is None
    assert capsys.readouterr().out == ""
    assert "more than tensors and plain values" in said[0]


def test_training_whose_state_can_not_be_written_goes_on(digits: Digits, tmp_path: Path, said: Said) -> None:
    (tmp_path / "file").touch()
    checkpoint = Checkpoint(tmp_path / "file" / "trial.pt", say=said.append)
    assert fit(digits, checkpoint).curve == fit(digits).curve
    assert "the training is not kept for now" in said[0]
