"""Report: how the search went on, what foretold the end, what made networks good, where the time went."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from nas_optuna.report.document import Figure, Part, Section, Table, Text
from nas_optuna.report.facts import Facts, Row
from nas_optuna.report.figures_of_time import CUT_OFF, MANY
from nas_optuna.report.statistics import (
    Agreement,
    agreement_of_epochs,
    agreement_of_measures,
    chance,
    importances,
    random_rows,
)
from nas_optuna.report.words import COSTS, seconds, share

Figures = Mapping[str, go.Figure]

MEANINGS = {
    "complete": "trained to the end",
    "pruned": "stopped early, by the pruner or the end of the time",
    "failed": "an error, an interruption or a killed process",
    "infeasible": "beyond a limit, diverged or out of memory",
    "reused": "equal to an earlier network, whose value it got",
}
MOST_DECISIONS = 15


def progress(facts: Facts, drawn: Figures) -> Section:
    """What came of the trials, and the best so far over time and over trainings."""
    title = "How the search went on"
    if not facts.rows:
        return Section(title, [])
    total = sum(facts.counts.values())
    rows = [
        (name, f"{count}", share(count, total), seconds(_seconds(facts, name)), MEANINGS[name])
        for name, count in facts.counts.items()
    ]
    parts: list[Part] = [
        Table(("trials", "count", "share", "time", "which"), rows, left=(0, 4), caption=_further(facts))
    ]
    if "seconds" in drawn:
        caption = "Each network when it was done."
        if sum(row.accuracy is not None for row in facts.rows) > MANY:
            caption += f" The lowest {CUT_OFF:.0%} are below what is shown; a double click shows all."
        parts.append(Figure("seconds", drawn["seconds"], caption))
    if "evaluations" in drawn:
        parts.append(Figure("evaluations", drawn["evaluations"], _luck(facts)))
    return Section(title, parts)


def _seconds(facts: Facts, group: str) -> float:
    return sum(row.seconds or 0.0 for row in facts.rows if row.group == group)


def _further(facts: Facts) -> str:
    """What the groups do not say."""
    taken_up = sum(row.promotes is not None for row in facts.rows)
    repeated = sum(row.retry_of is not None for row in facts.rows)
    words = [f"{taken_up} took up a stopped training"] if taken_up else []
    words += [f"{repeated} repeated one that was cut off"] if repeated else []
    return "Of all trials: " + ", ".join(words) if words else ""


def _luck(facts: Facts) -> str:
    words = "Networks as n_trials counts them: not the reused, the infeasible from the start, the failed. "
    if not chance(facts):
        return words + "This study has too few random networks to say what luck would have found."
    return words + (
        "Dashed: what the best of as many random networks is worth on average, over draws from the "
        f"{len(random_rows(facts)):,} that this study itself drew at random, so it ends there. A stopped one "
        "counts as the worst that was not. To know whether a strategy beats luck, search with "
        "strategy=random as well, and with several seeds."
    )


def foretelling(facts: Facts, drawn: Figures) -> Section:
    """Learning curves, and how well what is known early orders networks as the end does."""
    parts: list[Part] = []
    if "curves" in drawn:
        caption = (
            "Validation accuracy by epoch: the best networks by name, some others, and what was stopped."
        )
        parts.append(Figure("curves", drawn["curves"], caption))
    epochs, measures = agreement_of_epochs(facts), agreement_of_measures(facts)
    if epochs:
        parts.append(_agreements("epoch", epochs, "How each epoch orders the networks that reached the end"))
    if measures:
        caption = "How costs and proxies, known before any training, order them"
        named = [
            Agreement(COSTS.get(found.name, found.name), found.kendall, found.spearman, found.networks)
            for found in measures
        ]
        parts.append(_agreements("measure", named, caption))
    if epochs or measures:
        parts.append(
            Text(
                "Rank correlations with the accuracy at the end: 1 for the same order, 0 for none, -1 for "
                "the opposite one. Only networks that were trained to the end count. Where pruning left out "
                "the worst, and the strategy chose what it took for good, ranks agree less than among random "
                "networks.",
                is_quiet=True,
            )
        )
    return Section("Learning curves, and what foretells the end", parts)


def _agreements(what: str, found: Sequence[Agreement], caption: str) -> Table:
    rows = [(one.name, f"{one.kendall:.3f}", f"{one.spearman:.3f}", str(one.networks)) for one in found]
    return Table((what, "Kendall's tau", "Spearman's rho", "networks"), rows, caption=caption)


def inheritance(facts: Facts) -> Section:
    """What beginning with the weights of others saved, and whether it lifted networks above their worth."""
    title = "Weights that were inherited"
    heirs = [row for row in facts.rows if row.inherits is not None]
    if not heirs:
        return Section(title, [])
    others = [row for row in facts.rows if row.inherits is None and row.curve and row.reused is None]
    kinds = {"a relative's weights": heirs, "new weights": others}
    rows = [_trainings(name, group) for name, group in kinds.items() if group]
    head = ("began with", "networks", "epochs skipped", "epochs trained", "time each")
    caption = (
        f"Likeness to the relative: {statistics.mean(row.likeness or 0.0 for row in heirs):.2f} on average."
    )
    return Section(title, [Table(head, rows, caption=caption), Text(_bonus(facts), is_quiet=True)])


def _trainings(name: str, rows: Sequence[Row]) -> tuple[str, ...]:
    curves = [row.curve for row in rows if row.curve]
    skipped = sum(min(curve) - 1 for curve in curves)
    trained = sum(max(curve) for curve in curves) - skipped
    each = statistics.mean(row.seconds or 0.0 for row in rows)
    return name, f"{len(rows)}", f"{skipped}", f"{trained}", seconds(each)


def _bonus(facts: Facts) -> str:
    """How far above a training with fresh seeds the search judged heirs, and how far others."""
    above: dict[bool, list[float]] = {True: [], False: []}
    for number, values in facts.fresh.items():
        row = facts.rows[number]
        if row.accuracy is not None and values:
            above[row.inherits is not None].append(row.accuracy - statistics.mean(values))
    words = "Trainings with fresh seeds inherit nothing, and decide among the best few. "
    if not above[True] or not above[False]:
        return words + "Only one kind was compared, so this study does not say whether heirs were favoured."
    heirs, others = (statistics.mean(above[kind]) for kind in (True, False))
    return words + (
        f"The search had judged heirs among them ({len(above[True])}) {100 * heirs:+.2f} points above what "
        f"they then reached, and the others ({len(above[False])}) {100 * others:+.2f}: as far as these lie "
        "apart, heirs rank too high or too low among the others."
    )


def decisions(facts: Facts, drawn: Figures) -> Section:
    """What made networks good."""
    parts: list[Part] = []
    if "importance" in drawn:
        rows = [(name, f"{value:.1%}") for name, value in list(importances(facts).items())[:MOST_DECISIONS]]
        caption = (
            "How much each decision matters for being among the most accurate tenth of the networks that "
            "were trained to the end (PED-ANOVA, Watanabe et al. 2023). A decision that the strategy soon "
            "settled varies little, so it seems to matter little."
        )
        parts.append(Figure("importance", drawn["importance"], caption, Table(("decision", "share"), rows)))
    if "kinds" in drawn:
        caption = (
            "How many networks have which layer at which depth: above those of the best quarter, below all "
            "that were trained to the end. Bars get lower where fewer networks are so deep."
        )
        parts.append(Figure("kinds", drawn["kinds"], caption))
    return Section("What made networks good", parts)


def time(facts: Facts, drawn: Figures) -> Section:
    """Where the time went."""
    title = "Where the time went"
    if not facts.rows:
        return Section(title, [])
    total = sum(facts.spans.values())
    rows = [
        (name, seconds(value), share(value, total))
        for name, value in sorted(facts.spans.items(), key=lambda item: -item[1])
    ]
    parts: list[Part] = [
        Text(
            f"{seconds(facts.seconds)} in all, {seconds(facts.search_seconds)} of them for the search; the "
            "rest compared the best and trained the winner. Trials that run side by side count with the time "
            "of each."
        )
    ]
    if "time" in drawn:
        table = Table(("part of a trial", "time", "share"), rows) if rows else None
        parts.append(Figure("time", drawn["time"], "Shares of all of it, top to bottom.", table))
    return Section(title, parts)
