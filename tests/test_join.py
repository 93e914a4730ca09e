"""Workers that join a study with nothing but its address."""

from __future__ import annotations

import hashlib
import io
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
import torch
from conftest import PATIENCE, SHORT, command_environment, compose_config, wait_until
from optuna.trial import FrozenTrial, TrialState
from postgres import Postgres, needs_postgres, running_postgres

from nas_optuna.errors import InputError, NothingFound
from nas_optuna.estimation.checkpoint import DIGEST_BYTES, HEAD
from nas_optuna.interrupt import Interrupt
from nas_optuna.join import join
from nas_optuna.pace import Pace
from nas_optuna.search import Search, search
from nas_optuna.storages import open_storage
from nas_optuna.study import CONFIGURATION, count_trained, is_counted, keep_budget

ADDRESS = "sqlite:///runs/study/study.db"


def load(address: str = ADDRESS) -> optuna.Study:
    return optuna.load_study(study_name="study", storage=open_storage(address))


def join_here(*overrides: str, address: str = ADDRESS) -> float:
    return join(compose_config(f"storage={address}", "study_name=study", *overrides, name="worker"))


@pytest.fixture
def table_study(macro_table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> optuna.Study:
    """A search on a table that has found three networks.

    Workers of this process that join it draw the same networks each time, none of them twice: one that is
    known already is beyond the budget.
    """
    monkeypatch.setattr("secrets.randbits", lambda bits: 0)
    monkeypatch.chdir(tmp_path)
    table = f"estimation.table={macro_table}"
    search(compose_config("+experiment=nasbench_macro", table, "strategy=random", "n_trials=3"))
    return load()


def test_study_says_what_a_worker_has_to_know(table_study: optuna.Study, tmp_path: Path) -> None:
    keep_budget(table_study, n_trials=8, deadline=None)
    assert join_here() == 5
    trials = load().trials
    assert len(trials) == 8
    assert all(trial.state == TrialState.COMPLETE for trial in trials)
    assert len({json.dumps(trial.params) for trial in trials}) == 8
    # beside the study's own files, none
    names = {path.name for path in (tmp_path / "runs" / "study").iterdir()}
    assert not [name for name in names if name.endswith(".tmp")]


def test_worker_of_a_study_whose_budget_is_spent_does_nothing(table_study: optuna.Study) -> None:
    assert join_here() == 0
    assert len(load().trials) == 3


def test_worker_looks_after_each_of_its_trials_near_the_end_of_the_budget_only(
    table_study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[int] = []

    class Slow(Pace):
        """Of a storage whose looks take so long that none is due."""

        is_due = False

        def look(self, study: optuna.Study) -> list[FrozenTrial]:
            trials = super().look(study)
            found.append(len(trials))
            return trials

    monkeypatch.setattr("nas_optuna.join.Pace", Slow)
    keep_budget(table_study, n_trials=20, deadline=None)
    assert join_here() == 17
    assert len(load().trials) == 20
    assert found == [3, 18, 19, 20]


def test_worker_begins_nothing_after_the_time(table_study: optuna.Study) -> None:
    keep_budget(table_study, n_trials=8, deadline=time.time() - 1)
    assert join_here() == 0


def test_search_says_its_budget(macro_table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    table = f"estimation.table={macro_table}"
    Search(compose_config("+experiment=nasbench_macro", table, "n_trials=3", "timeout=100"), Interrupt())
    budget = load().user_attrs["budget"]
    assert budget["n_trials"] == 3
    # the search's share of the time
    assert 50 < budget["deadline"] - time.time() <= 65


@pytest.mark.parametrize(
    ("address", "said"),
    [("sqlite:///none.db", "the file is missing"), (ADDRESS, "it holds 'study'")],
)
def test_study_that_is_not_there_is_named(address: str, said: str, table_study: optuna.Study) -> None:
    with pytest.raises(InputError, match=f"no study to join .{said}.*Start its search first"):
        join(compose_config(f"storage={address}", "study_name=another", "wait=0", name="worker"))
    assert not Path("none.db").exists()


def test_worker_waits_for_the_study(table_study: optuna.Study, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError):
        join_here("wait=0.6", address="sqlite:///none.db")
    assert "waiting for the study: the file is missing" in capsys.readouterr().err


def test_study_that_names_foreign_code_is_refused(table_study: optuna.Study) -> None:
    config = json.loads(table_study.user_attrs[CONFIGURATION])
    config["strategy"] = {"_target_": "os.system", "command": "touch harm"}
    table_study.set_user_attr(CONFIGURATION, json.dumps(config))
    keep_budget(table_study, n_trials=8, deadline=None)
    with pytest.raises(InputError, match=r"os\.system.*no part of nas_optuna"):
        join_here()
    assert not Path("harm").exists()


def test_study_that_names_a_folder_writes_nothing_there(
    table_study: optuna.Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = json.loads(table_study.user_attrs[CONFIGURATION])
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    table_study.set_user_attr(CONFIGURATION, json.dumps(config | {"study_dir": str(elsewhere)}))
    keep_budget(table_study, n_trials=4, deadline=None)
    assert join_here() == 1
    assert list(elsewhere.iterdir()) == []
    assert "without study_dir=" in capsys.readouterr().err


def test_worker_whose_networks_fail_one_after_the_other_ends(
    table_study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_budget(table_study, n_trials=50, deadline=None)
    # an equal network between them, which needs no training, changes nothing
    table_study.enqueue_trial({})
    table_study.enqueue_trial(table_study.trials[0].params)

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("out of order")

    monkeypatch.setattr("nas_optuna.estimation.Table.fit", fail)
    with pytest.raises(NothingFound):
        join_here()
    failed = load().get_trials(states=(TrialState.FAIL,))
    assert [trial.user_attrs["error"] for trial in failed] == ["RuntimeError: out of order"] * 3


def start(folder: Path, *overrides: str, module: str = "nas_optuna.worker") -> subprocess.Popen[str]:
    environment = command_environment() | {"PYTHONWARNINGS": ""}
    command = [sys.executable, "-m", module, *overrides]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.fixture
def long_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> optuna.Study:
    """A search that was prepared, of one network that is trained for minutes."""
    monkeypatch.chdir(tmp_path)
    long = ("estimation=full", "estimation.epochs=3000", "n_trials=1", "lease=2")
    Search(compose_config(*SHORT, *long), Interrupt())
    return load()


@pytest.fixture
def worker(long_study: optuna.Study, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    with start(tmp_path, f"storage={ADDRESS}") as process:
        yield process
        process.kill()


@pytest.mark.slow
def test_worker_that_is_asked_to_end_hands_its_trial_back(
    worker: subprocess.Popen[str], long_study: optuna.Study, tmp_path: Path
) -> None:
    wait_until(lambda: any(trial.intermediate_values for trial in long_study.trials))
    worker.send_signal(signal.SIGTERM)
    output, errors = worker.communicate(timeout=PATIENCE)
    assert worker.returncode == 130
    assert "asked to end" in output
    assert "Traceback" not in errors
    ended, queued = long_study.trials
    assert (ended.state, queued.state) == (TrialState.FAIL, TrialState.WAITING)
    assert count_trained(long_study.trials) == 0


@pytest.mark.slow
def test_trial_of_a_killed_worker_is_taken_up_where_it_was_by_another(
    worker: subprocess.Popen[str], long_study: optuna.Study, tmp_path: Path
) -> None:
    kept = tmp_path / "runs" / "study" / "checkpoints" / "trial-0.pt"
    wait_until(kept.is_file)
    worker.kill()
    worker.communicate()
    content = torch.load(io.BytesIO(kept.read_bytes()[len(HEAD) + DIGEST_BYTES :]), weights_only=True)
    curve = content["state"]["module"]["curve"]
    reached = len(curve)
    # no training gives this: who says it has read it here
    curve[0] = -1.0
    file = io.BytesIO()
    torch.save(content, file)
    kept.write_bytes(HEAD + hashlib.sha256(file.getvalue()).digest() + file.getvalue())
    # another machine's, as far as the second one can tell: its lease has to end
    optuna.Trial(long_study, long_study.trials[0]._trial_id).set_user_attr("worker", "another-machine:1")
    with start(tmp_path, f"storage={ADDRESS}") as second:
        # it says once more what was said before, one value after the other
        wait_until(lambda: any(len(trial.intermediate_values) > reached for trial in long_study.trials[1:]))
        second.kill()
    killed, retry = long_study.trials
    assert killed.state == TrialState.FAIL
    assert retry.params == killed.params
    assert retry.user_attrs["seed"] == killed.user_attrs["seed"]
    common = sorted(killed.intermediate_values.keys() & retry.intermediate_values.keys())
    assert common[:reached] == list(range(1, reached + 1))
    assert retry.intermediate_values[1] == -1.0
    assert all(killed.intermediate_values[step] == retry.intermediate_values[step] for step in common[1:])


@pytest.mark.slow
@needs_postgres
def test_search_goes_on_where_its_server_is_restarted(macro_table: Path, tmp_path: Path) -> None:
    with running_postgres() as server:
        study = prepared(server, macro_table, tmp_path)
        with start(tmp_path, f"storage={server.address}", "study_name=study", "study_dir=runs") as worker:
            assert worker.stderr is not None
            giving_up = threading.Timer(PATIENCE, worker.kill)
            giving_up.start()
            wait_until(lambda: len(study.trials) > 5)
            server.stop("immediate")
            # what it says first, however long it takes; nothing where it ended
            said = worker.stderr.readline()
            server.start()
            output, errors = worker.communicate()
            giving_up.cancel()
        assert worker.returncode == 0, said + errors
        assert "does not answer" in said
        assert errors.splitlines() == [f"storage: {server.address!r} answers again"]
        assert "the budget is spent" in output
        trials = load(server.address).trials
        # equal networks come on top, at no cost
        assert sum(trial.state == TrialState.COMPLETE and is_counted(trial) for trial in trials) == 100
        assert not [trial for trial in trials if trial.state == TrialState.RUNNING]


def prepared(server: Postgres, table: Path, folder: Path) -> optuna.Study:
    """A study in PostgreSQL that a search has begun, and that has 100 networks to try: seconds."""
    overrides = (f"estimation.table={table}", "strategy=random", "n_trials=100", "lease=2")
    storage = (f"storage={server.address}", f"study_dir={folder / 'runs'}")
    Search(compose_config("+experiment=nasbench_macro", *overrides, *storage), Interrupt())
    return load(server.address)
