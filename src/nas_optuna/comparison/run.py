"""Comparison: one search as it is compared, read from its folder. Its data is not needed."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas_optuna.estimation import Objectives
from nas_optuna.reopen import recall
from nas_optuna.report import Facts, Row, gather

TABLE = "nas_optuna.estimation.Table"


@dataclass(frozen=True)
class Judged:
    """A trial that ended.

    Attributes:
        networks: Trained so far, this one included.
        seconds: Of search so far.
        values: The study's, by name; None where it was stopped early, failed or is beyond a limit.
    """

    networks: int
    seconds: float
    values: Mapping[str, float] | None


@dataclass(frozen=True)
class Run:
    """One search.

    Attributes:
        folder: Of the study.
        seed: The search's.
        config: How it was made, as plain containers.
        fingerprint: What its results depend on; see ``study.check_same``.
        plan: Length of its trainings.
        directions: ``maximize`` or ``minimize`` by objective.
        judged: Its trials in the order in which they ended.
        tested: Accuracy of its winner on the test split; None where none was trained to the end.
        tests: How often networks of the study were tested.
        side_by_side: Most trials that ran at a time.
    """

    folder: Path
    seed: int
    config: Mapping[str, Any]
    fingerprint: Mapping[str, Any]
    plan: Mapping[str, Any]
    directions: Mapping[str, str]
    judged: Sequence[Judged]
    tested: float | None
    tests: int
    side_by_side: int

    @property
    def networks(self) -> int:
        """Trained in all."""
        return self.judged[-1].networks

    @property
    def seconds(self) -> float:
        """Of search in all: without the final training, and without the time between its runs."""
        return self.judged[-1].seconds

    @property
    def is_looked_up(self) -> bool:
        """Whether its networks were looked up in a table, so that its seconds say nothing of trainings."""
        return bool(self.config["estimation"].get("_target_") == TABLE)

    @property
    def chance(self) -> float:
        """Accuracy of guessing."""
        return 1 / float(self.fingerprint["data"]["classes"])


def read_run(folder: Path, *, allow: Sequence[str] = ()) -> Run:
    """Read a search from its folder.

    Args:
        folder: Where everything of the study lies.
        allow: Modules of the user's own that its configuration may name; see ``recall``.

    Raises:
        InputError: There is no study in it, it found nothing, or it names what is not allowed.
    """
    recalled = recall(folder, allow=allow)
    facts = gather(
        recalled.study, objectives=recalled.objectives, space=recalled.space, folder=recalled.folder
    )
    return _describe(facts, recalled.study.user_attrs["fingerprint"])


def _describe(facts: Facts, fingerprint: Mapping[str, Any]) -> Run:
    ended = [(row.end, row) for row in facts.rows if row.end is not None]
    ended.sort(key=lambda pair: (pair[0], pair[1].number))
    counts = itertools.accumulate(int(row.counted and row.group != "failed") for _, row in ended)
    judged = [
        Judged(networks, seconds, _values(row, facts.objectives))
        for networks, (seconds, row) in zip(counts, ended, strict=True)
    ]
    return Run(
        folder=facts.folder,
        seed=facts.seed,
        config=facts.config,
        fingerprint=fingerprint,
        plan=facts.plan,
        directions=facts.objectives.directions,
        judged=judged,
        tested=float(facts.test["accuracy"]) if facts.test else None,
        tests=facts.tests,
        side_by_side=_most_at_once(facts.rows),
    )


def _values(row: Row, objectives: Objectives) -> dict[str, float] | None:
    # limits may have become tighter since the trial ran
    if row.accuracy is None or row.values is None or not objectives.fits(row.costs):
        return None
    return dict(zip(objectives.names, row.values, strict=True))


def _most_at_once(rows: Sequence[Row]) -> int:
    changes = [(row.begin, 1) for row in rows if row.begin is not None and row.end is not None]
    changes += [(row.end, -1) for row in rows if row.begin is not None and row.end is not None]
    # at one moment an end, -1, comes before a start
    return max(itertools.accumulate(change for _, change in sorted(changes)), default=0)
