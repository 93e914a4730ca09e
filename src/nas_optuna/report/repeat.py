"""Report: how to repeat a search: its commands, versions, seeds, configuration."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from nas_optuna.report.document import Code, Folded, Part, Section, Table, Text
from nas_optuna.report.facts import Facts

PINNED = ("epochs", "data_share", "validation_images")


def repeat(facts: Facts) -> Section:
    """The command, what it depends on, and the configuration in full."""
    parts: list[Part] = []
    run = _last_command(facts)
    if run is None:
        parts.append(Text("The study does not hold the command that made it; its configuration is below."))
    else:
        parts += [Text("The command that made it, which also goes on with it:"), Code(run["command"])]
        parts += [Text("The same search again, under another name:"), Code(again(facts, run["command"]))]
        parts.append(Text(_exactness(facts, run), is_quiet=True))
    rows = [("seed", str(facts.seed))]
    if facts.test is not None:
        rows.append(("seed of the final training", str(facts.test["seed"])))
    if facts.runs:
        rows.append(("device", str(facts.runs[-1].get("device", ""))))
        rows += [(name, str(value)) for name, value in facts.runs[-1].get("versions", {}).items()]
    rows += [(f"computed as {how}", f"{count} network(s)") for how, count in facts.executions.items()]
    rows.append(("study", facts.study_name))
    rows.append(("storage", facts.storage))
    parts.append(Table(("", ""), rows, left=(0, 1)))
    if facts.config:
        text = json.dumps(facts.config, indent=1, ensure_ascii=False)
        parts.append(Folded("The whole configuration", [Code(text)]))
    return Section("To repeat it", parts)


def again(facts: Facts, command: str) -> str:
    """A command that repeats a study's under another name, with the trainings as long as they were.

    Args:
        facts: Of the study.
        command: That made it.
    """
    name = f"{facts.study_name}-again"
    own = ("study_name", "study_dir", "storage")
    words = [word for word in shlex.split(command) if word.partition("=")[0].lstrip("+") not in own]
    given = {word.partition("=")[0] for word in words}
    if facts.plan.get("trial_seconds"):
        # a plan follows the speed of the moment
        pins = {f"estimation.{key}": facts.plan.get(key) for key in PINNED}
        words += [f"{key}={_said(value)}" for key, value in pins.items() if key not in given]
    return shlex.join([*words, f"study_name={name}"])


def _last_command(facts: Facts) -> Mapping[str, Any] | None:
    return next((run for run in reversed(facts.runs) if run.get("command")), None)


def _said(value: object) -> str:
    return "null" if value is None else str(value)


def _exactness(facts: Facts, run: Mapping[str, Any]) -> str:
    """What a repetition may differ in, and why."""
    reasons = []
    if run.get("timeout"):
        reasons.append("the time decides how many networks are tried")
    if int(run.get("workers") or 1) > 1:
        reasons.append("of several workers, the one that ends first is first heard")
    if len(facts.runs) > 1:
        reasons.append("it was made in several runs, and a strategy that goes on draws other numbers")
    estimation = facts.config.get("estimation") or {}
    if estimation.get("execution") == "auto":
        reasons.append("how a network is computed is measured (estimation.execution=32-true settles it)")
    if not reasons:
        return "On the same machine with the same versions it finds the same networks and values."
    return f"It need not find the same networks: {'; '.join(reasons)}."
