from __future__ import annotations

import os
import signal
import subprocess
import sys

from conftest import PATIENCE, make_training

from nas_optuna.data import Digits
from nas_optuna.estimation import Fidelity
from nas_optuna.interrupt import Interrupt
from nas_optuna.space import Architecture, Block, Stem

SLOW_TO_END = """
import time
from nas_optuna.interrupt import Interrupt
with Interrupt() as interrupt:
    print("started", flush=True)
    while not interrupt.requested:
        time.sleep(0.01)
    print("requested", flush=True)
    time.sleep(60)
"""


def test_second_ctrl_c_ends_at_once_what_would_take_long_to_end_in_order() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_TO_END], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for said in ("started", "requested"):
        assert process.stdout.readline().strip() == said
        process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "press Ctrl-C again to end at once" in err
    assert "Traceback" not in err


def test_ctrl_c_is_python_s_own_again_after_an_undisturbed_search() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Interrupt() as interrupt:
        assert signal.getsignal(signal.SIGINT) != before
    assert not interrupt.requested
    assert signal.getsignal(signal.SIGINT) == before


def test_sigterm_stops_a_training_in_order(digits: Digits) -> None:
    # Lightning would end the process
    left = iter([None] * 30)
    with Interrupt() as interrupt:

        def stop() -> str | None:
            if next(left, "over") == "over" and not interrupt.requested:
                os.kill(os.getpid(), signal.SIGTERM)
            return "stopped" if interrupt.requested else None

        network = Architecture(Stem(8), (Block("conv", 8, 2),))
        module = make_training().fit(network, digits, fidelity=Fidelity(50), seed=0, stop=stop)
    assert module.stopped == "stopped"
