"""The workers of one machine: long-lived processes that share a study, its data and the cores."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

import torch

from nas_optuna.interrupt import SIGNALS
from nas_optuna.member import Job, work

RESTARTS = 3  # of each worker
POLL_SECONDS = 0.2
GRACE_SECONDS = 10.0  # for a training to stop where the user asks for it; one that compiles hears nothing


class Chief(Protocol):
    """Whom the workers report to."""

    def may_start(self, *, asking: int) -> bool | None:
        """Whether a worker may ask for a network, when ``asking`` others are just doing so.

        None for not now: it depends on what becomes of the running ones.
        """

    def stop_reason(self) -> str | None:
        """Why to stop, or None."""

    def is_interrupted(self) -> bool:
        """Whether the user waits for the end."""

    def running(self, what: str, *, worker: int) -> None:
        """A training begins."""

    def epoch(self, epoch: int, accuracy: float | None, epochs: int, *, worker: int) -> None:
        """An epoch of it ended."""

    def say(self, text: str) -> None:
        """A worker has something to say to the user."""

    def ended(self, number: int, seconds: dict[str, float], *, worker: int) -> None:
        """A trial ended, after the seconds of each span."""

    def died(self, exit_code: int | None, *, worker: int, starts_again: bool) -> None:
        """A worker's process ended unasked."""


@dataclass
class _Member:
    job: Job
    process: BaseProcess
    connection: Connection
    starts: int = 1
    state: str = "booting"  # ready, asking (for a network), training, stopping, ended
    asked_to_stop: float = 0.0


class Crew:
    """Starts workers, gives each its next trial, shows what they do, replaces those that die.

    Args:
        job: Of the first worker; the others' differ in their index.
        workers: How many.
        chief: Decides who may start, and hears what goes on.
    """

    def __init__(self, job: Job, *, workers: int, chief: Chief) -> None:
        self._chief = chief
        self._context = multiprocessing.get_context("spawn")
        self._members = [self._start(replace(job, index=index)) for index in range(workers)]

    def run(self) -> None:
        """Let them work until there is nothing more to start and all have ended."""
        try:
            while any(member.state != "ended" for member in self._members):
                self._listen()
                self._stop_if_asked()
                self._answer()
        finally:
            for member in self._members:
                member.connection.close()
            for member in self._members:
                member.process.join(timeout=10)
                if member.process.is_alive():
                    member.process.kill()

    def _start(self, job: Job) -> _Member:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=work, args=(job, theirs), daemon=True)
        with _environment(job):
            process.start()
        theirs.close()
        return _Member(job, process, ours)

    def _listen(self) -> None:
        """Hear everyone who has something to say."""
        alive = {member.connection: member for member in self._members if member.state != "ended"}
        for connection in wait(list(alive), timeout=POLL_SECONDS):
            member = next(member for known, member in alive.items() if known is connection)
            try:
                while member.connection.poll():
                    self._hear(member, *member.connection.recv())
            except (EOFError, ConnectionResetError):
                self._replace(member)

    def _hear(self, member: _Member, word: str, *details: Any) -> None:
        worker = member.job.index
        if word == "ready":
            member.state = "ready"
        elif word == "running":
            member.state = "training"
            self._chief.running(*details, worker=worker)
        elif word == "epoch":
            self._chief.epoch(*details, worker=worker)
        elif word == "say":
            self._chief.say(*details)
        else:
            self._chief.ended(*details, worker=worker)

    def _answer(self) -> None:
        """Let those who are ready start, end, or wait."""
        for member in self._members:
            if member.state != "ready":
                continue
            answer = self._chief.may_start(asking=self._count("asking"))
            if answer is None:
                return
            self._send(member, bool(answer))
            member.state = "asking" if answer else "ended"

    def _stop_if_asked(self) -> None:
        reason = self._chief.stop_reason()
        if reason is None:
            return
        now = time.monotonic()
        patience = GRACE_SECONDS if self._chief.is_interrupted() else math.inf
        for member in self._members:
            if member.state in ("asking", "training"):
                self._send(member, reason)
                member.state, member.asked_to_stop = "stopping", now
            elif member.state == "stopping" and now > member.asked_to_stop + patience:
                member.process.kill()

    def _send(self, member: _Member, answer: bool | str) -> None:
        # a worker that is gone is heard of when its end of the pipe is read
        with suppress(BrokenPipeError, ConnectionResetError):
            member.connection.send(answer)

    def _count(self, *states: str) -> int:
        return sum(member.state in states for member in self._members)

    def _replace(self, member: _Member) -> None:
        member.process.join()
        again = member.starts <= RESTARTS and not self._chief.stop_reason()
        self._chief.died(member.process.exitcode, worker=member.job.index, starts_again=again)
        member.state = "ended"
        if again:
            index = self._members.index(member)
            self._members[index] = replace(self._start(member.job), starts=member.starts + 1)


@contextmanager
def _environment(job: Job) -> Iterator[None]:
    """What a new process inherits before it can be told anything: its threads, its GPU, deaf to signals."""
    changes = {"OMP_NUM_THREADS": str(job.threads)}
    if torch.cuda.is_available():
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = visible.split(",") if visible else [str(index) for index in range(torch.cuda.device_count())]
        changes["CUDA_VISIBLE_DEVICES"] = names[job.index % len(names)]
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    # a Ctrl-C while it imports would end it with a traceback, and a cluster's SIGTERM to all processes its
    # training: this process stops it in order; ignored here, they are ignored there
    on_main_thread = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.signal(number, signal.SIG_IGN) for number in SIGNALS if on_main_thread}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
