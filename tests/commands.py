"""Commands as processes of their own that need not import the large packages: forked from one that has.

As a script it is the process that they are forked from: it reads one request a line and answers with the
child's process id, then with its exit code. The child runs the module as ``python -m`` does, and imports
the project itself anew; what it leaves behind is an interpreter's usual end, its exit code included.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

# what takes seconds to import
LARGE = (
    "hydra",
    "optuna",
    "optuna_dashboard",
    "plotly.graph_objects",
    "pytorch_lightning",
    "scipy.stats",
    "sklearn.gaussian_process",
    "torch",
    "torchvision",
)


class Interpreter:
    """A process that has imported the large packages, and forks into the commands that it is asked for."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._server = subprocess.Popen(
            [sys.executable, __file__],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        atexit.register(self._close)

    def run(
        self, module: str, *words: str, folder: Path, environment: dict[str, str], timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """Run ``python -m module words`` in a folder.

        Raises:
            subprocess.TimeoutExpired: It took longer, and was killed.
        """
        arguments = [module, *words]
        with tempfile.TemporaryDirectory() as said:
            out, err = Path(said) / "stdout", Path(said) / "stderr"
            request = {
                "arguments": arguments,
                "folder": str(folder),
                "environment": environment,
                "out": str(out),
                "err": str(err),
            }
            assert self._server.stdin is not None
            self._server.stdin.write(json.dumps(request) + "\n")
            self._server.stdin.flush()
            process = self._answer()
            if not select.select([self._server.stdout], [], [], timeout)[0]:
                os.kill(process, signal.SIGKILL)
                self._answer()
                raise subprocess.TimeoutExpired(arguments, timeout, out.read_text(), err.read_text())
            return subprocess.CompletedProcess(
                arguments, self._answer(), stdout=out.read_text(), stderr=err.read_text()
            )

    def _answer(self) -> int:
        assert self._server.stdout is not None
        return int(self._server.stdout.readline())

    def _close(self) -> None:
        with self._server:  # no further request: it ends
            pass


def serve() -> list[str]:
    """Answer requests; returns in each child, with its arguments."""
    for name in LARGE:
        __import__(name)
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if not child:
            _become(request)
            return list(request["arguments"])
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()
    return []


def _become(request: dict[str, object]) -> None:
    """Take the request's folder, environment and streams."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(str(request[name]), os.O_WRONLY | os.O_CREAT), number)
    os.chdir(str(request["folder"]))
    environment = request["environment"]
    assert isinstance(environment, dict)
    os.environ.clear()
    os.environ.update(environment)
    # as where ``python -m`` is run
    sys.path[0] = str(Path.cwd())


if __name__ == "__main__":
    arguments = serve()
    if arguments:
        sys.argv = arguments
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
