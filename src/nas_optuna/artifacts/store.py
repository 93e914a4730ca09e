"""Optuna's artifacts in a study's folder, each of them whole or not there."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import BinaryIO

import optuna
from optuna.artifacts import FileSystemArtifactStore, upload_artifact

ARTIFACTS = "artifacts"  # a folder in a study's own


class Store:
    """An ``optuna.artifacts`` store of one folder, which any other store of that folder reads.

    Optuna names an artifact in the study before it writes the file. So the bytes are on this disk before
    that, and what is left to do takes no room: a full disk leaves no name without a file.

    Args:
        folder: Of the files; made when one is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files = FileSystemArtifactStore(folder)

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """The file of an artifact."""
        return self._files.open_reader(artifact_id)

    def remove(self, artifact_id: str) -> None:
        """Remove the file of an artifact."""
        self._files.remove(artifact_id)

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Take a file that ``attach`` wrote, or that a dashboard uploads."""
        path = self.folder / artifact_id
        if path.parent != self.folder or path.name in ("", ".", ".."):
            raise ValueError(f"artifact_id: {artifact_id!r} must be a name without slashes.")
        written = Path(str(getattr(content_body, "name", "")))
        try:
            if written.parent.parent != self.folder:
                raise OSError("not a file of ours")
            os.link(written, path)
        except OSError:  # or a file system without links
            _copy(content_body, path)


def attach(store: Store, files: dict[str, str], to: optuna.Trial | optuna.Study) -> dict[str, str]:
    """Add text files to a running trial or to a study.

    Args:
        store: Takes them.
        files: Content by file name, a name without slashes.
        to: Whom they belong to.

    Returns:
        Ids of the artifacts by name.

    Raises:
        OSError: There is no room, or no right to write.
    """
    store.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=store.folder, prefix=".") as folder:
        paths = {name: _inside(Path(folder), name) for name in files}
        for name, path in paths.items():
            path.write_text(files[name], encoding="utf-8")
        return {
            name: upload_artifact(artifact_store=store, file_path=str(path), study_or_trial=to)
            for name, path in paths.items()
        }


def _inside(folder: Path, name: str) -> Path:
    if Path(name).name != name or name in ("", ".", ".."):
        raise ValueError(f"artifact: {name!r} must be a file name without slashes.")
    return folder / name


def _copy(content: BinaryIO, path: Path) -> None:
    part = path.with_name(f".{path.name}")
    try:
        with part.open("wb") as file:
            shutil.copyfileobj(content, file)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
