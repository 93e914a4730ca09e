"""Files that are whole after a crash."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def write_file(path: Path, content: bytes) -> None:
    """Write a file so that after a crash it is whole: the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def to_json(values: Any) -> bytes:
    """Readable JSON, as bytes of a text file."""
    return (json.dumps(values, indent=2, ensure_ascii=False) + "\n").encode()
