"""Looks at all trials of a storage, which those share who ask at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from optuna.trial import FrozenTrial


@dataclass
class _Turn:
    """The looks at one study: one at a time."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    begun: int = 0
    done: int = 0
    answer: Sequence[FrozenTrial] = ()


class SharedLooks:
    """Reads a study once for all threads that wait for it, where each would read it after the other.

    Whoever asks gets the answer of a look that began after he had asked, so he sees whatever was written
    before. A server of hundreds of workers, each of which asks for all that runs, thus looks as often as it
    can, and no more.

    Args:
        read: All trials of a study, by its id.
    """

    def __init__(self, read: Callable[[int], Sequence[FrozenTrial]]) -> None:
        self._read = read
        self._guard = threading.Lock()
        self._turns: dict[int, _Turn] = {}

    def __call__(self, study_id: int) -> list[FrozenTrial]:
        """All trials of a study, which are not to be changed.

        Args:
            study_id: As the storage counts them.
        """
        with self._guard:
            turn = self._turns.setdefault(study_id, _Turn())
            needed = turn.begun + 1
        with turn.lock:
            if turn.done < needed:
                with self._guard:
                    turn.begun += 1
                    mine = turn.begun
                turn.answer = self._read(study_id)
                turn.done = mine
            return list(turn.answer)
