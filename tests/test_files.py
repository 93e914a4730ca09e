from __future__ import annotations

import errno
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from nas_optuna.files import remove_temporaries, write_file, write_if_possible

KILLED = """
import os, sys
from pathlib import Path
from nas_optuna import files
os.fsync = lambda descriptor: os.kill(os.getpid(), 9)
files.write_file(Path(sys.argv[1]), b"new")
"""


def test_file_of_a_process_that_is_killed_is_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "below" / "file"
    write_file(path, b"old")
    subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert path.read_bytes() == b"old"
    assert len(list(path.parent.iterdir())) == 2
    remove_temporaries(tmp_path)
    assert list(path.parent.iterdir()) == [path]


def test_file_that_another_process_is_writing_is_left_alone(tmp_path: Path) -> None:
    ours = tmp_path / f".file.{platform.node()}.{os.getpid()}.tmp"
    elsewhere, stale = tmp_path / ".file.another.machine.1.tmp", tmp_path / ".file.other.1.tmp"
    for path in (ours, elsewhere, stale):
        path.touch()
    os.utime(stale, (time.time() - 7200,) * 2)
    remove_temporaries(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([ours, elsewhere])


def test_folder_that_another_worker_removes_meanwhile_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, stale = tmp_path / ".gone", tmp_path / "z" / ".file.other.1.tmp"
    gone.mkdir()
    stale.parent.mkdir()
    stale.touch()
    os.utime(stale, (time.time() - 7200,) * 2)
    scan = os.scandir

    def scandir(path: str | os.PathLike[str] = ".") -> Any:
        if Path(path) == gone:
            gone.rmdir()
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    remove_temporaries(tmp_path)
    assert not gone.exists()
    assert not stale.exists()


def test_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_file(tmp_path / "folder", b"content")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_file_that_can_be_done_without_is_left_out_on_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "file"
    write_if_possible(path, b"old")

    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    for _ in range(2):
        write_if_possible(path, b"new")
    assert capsys.readouterr().err == f"{path} can't be written (No space left on device): going on without\n"
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
