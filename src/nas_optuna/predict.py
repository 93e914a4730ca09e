"""``python -m nas_optuna.predict model=... images...``: what a trained network says of image files."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from nas_optuna.errors import InputError

USAGE = """usage: python -m nas_optuna.predict model=PATH [top=K] IMAGE...

  model=PATH  a study's folder, its final/ folder, or an exported .onnx or .pt2 file
  top=K       how many classes to tell of each image; 1 if it is left out
  IMAGE       image files, or folders of them
"""
INPUT_ERROR_CODE = 2
UNREAD_CODE = 141  # 128 + SIGPIPE, as shells have it


def main(arguments: Sequence[str]) -> int:
    """Print a line for each image.

    Returns:
        0, or 2 where the request was wrong or an image could not be read; 141 where whoever read the
        lines, such as ``head``, has seen enough.
    """
    if not arguments or set(arguments) & {"-h", "--help"}:
        sys.stdout.write(USAGE)
        return 0 if arguments else INPUT_ERROR_CODE
    try:
        return _predict(arguments)
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        return INPUT_ERROR_CODE
    except BrokenPipeError:
        # or else the interpreter tries to write the rest when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNREAD_CODE


def _predict(arguments: Sequence[str]) -> int:
    options, names = _parse(arguments)
    files = [file for name in names for file in _files(Path(name))]
    # imports torch, which takes seconds: a typing mistake need not wait for it
    from nas_optuna.export.model import open_model, predict

    code = 0
    for said in predict(open_model(options["model"]), files, top=int(options.get("top", "1"))):
        if isinstance(said, InputError):
            sys.stderr.write(f"error: {said}\n")
            code = INPUT_ERROR_CODE
            continue
        pairs = zip(said.classes, said.probabilities, strict=True)
        sys.stdout.write(f"{said.path}: {', '.join(f'{name} {share:.4f}' for name, share in pairs)}\n")
        sys.stdout.flush()
    return code


def _parse(arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    options: dict[str, str] = {}
    names = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if equals and key in ("model", "top"):
            options[key] = value
        else:
            names.append(argument)
    if not options.get("model"):
        raise InputError("model is missing: give a study's folder or an exported file, model=PATH.")
    if not options.get("top", "1").isdigit() or options.get("top") == "0":
        raise InputError(f"top: {options['top']!r} must be a whole number, at least 1.")
    if not names:
        raise InputError("no images: name image files, or folders of them, behind model=PATH.")
    return options, names


def _files(path: Path) -> list[Path]:
    """The file itself, or the image files in a folder."""
    if not path.is_dir():
        return [path]
    from PIL import Image

    suffixes = set(Image.registered_extensions())
    found = sorted(file for file in path.rglob("*") if file.suffix.lower() in suffixes)
    if not found:
        raise InputError(f"no image files in the folder {str(path)!r}. Name another one.")
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
