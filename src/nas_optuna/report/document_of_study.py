"""Report: a study as a document: what was asked, what was found, why to believe it, how to repeat it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from nas_optuna.report.document import Document, Figure, Part, Section, Table, Text
from nas_optuna.report.facts import Facts
from nas_optuna.report.figures_of_study import figures
from nas_optuna.report.repeat import repeat
from nas_optuna.report.sections_of_networks import confusion, network
from nas_optuna.report.sections_of_search import Figures, decisions, foretelling, inheritance, progress, time
from nas_optuna.report.words import (
    COSTS,
    NOTHING,
    accuracy,
    cost,
    costs_of,
    group_of_settings,
    lead,
    mean_of,
    name_of,
    tested,
)

MOST_NETWORKS = 20  # in a table
MOST_REASONS = 5


def describe_study(facts: Facts) -> Document:
    """The report of a study. Sections for which it has nothing are left out."""
    drawn = figures(facts)
    sections = [
        _asked(facts),
        _found(facts),
        _networks(facts, drawn),
        network(facts),
        confusion(facts),
        progress(facts, drawn),
        foretelling(facts, drawn),
        inheritance(facts),
        decisions(facts, drawn),
        time(facts, drawn),
        repeat(facts),
    ]
    return Document(
        title=f"Search {facts.study_name}",
        lead=lead(facts),
        sections=[section for section in sections if section.parts],
    )


def _asked(facts: Facts) -> Section:
    config, plan, objectives = facts.config, facts.plan, facts.objectives
    shape = " × ".join(map(str, facts.input_shape)) or NOTHING
    images = "".join(f", {count:,} for {name}" for name, count in facts.images.items())
    limits = [f"{COSTS[name]} at most {cost(name, limit)}" for name, limit in objectives.limits.items()]
    asked = [f"{way} {COSTS.get(name, name)}" for name, way in objectives.directions.items()]
    rows = [
        ("data", group_of_settings(config.get("data"))),
        ("inputs", f"{shape}, {facts.classes} classes{images}"),
        ("space", _space(facts)),
        ("strategy", group_of_settings(config.get("strategy"))),
        ("estimation", _estimation(config.get("estimation") or {})),
        ("objective", ", ".join([*asked, *limits])),
        ("budget", _budget(facts)),
        ("plan", _plan(plan)),
        ("seed", str(facts.seed)),
    ]
    return Section("What was asked", [Table(("", ""), rows, left=(0, 1))])


def _space(facts: Facts) -> str:
    settings = facts.config.get("space") or {}
    layers = (settings.get("block") or {}).get("layer")
    words = [name_of(settings), f"{len(facts.distributions)} open decisions"]
    words += [f"layers {', '.join(map(str, layers))}"] if isinstance(layers, list) else []
    return ", ".join(words)


def _estimation(settings: Mapping[str, Any]) -> str:
    shown = ("table", "dataset", "loss", "optimizer", "execution")
    values = [f"{name}={settings[name]}" for name in shown if settings.get(name) is not None]
    return ", ".join([name_of(settings), f"pruner {name_of(settings.get('pruner') or {})}", *values])


def _budget(facts: Facts) -> str:
    if not facts.runs:
        return NOTHING
    run = facts.runs[-1]
    words = [f"{run['n_trials']} networks"] if run.get("n_trials") else []
    words += [f"{run['timeout']:g} s for everything"] if run.get("timeout") else []
    runs = f", {len(facts.runs)} runs" if len(facts.runs) > 1 else ""
    return f"{' or '.join(words)}, {run.get('workers', 1)} worker(s){runs}"


def _plan(plan: Mapping[str, object]) -> str:
    if not plan:
        return NOTHING
    rungs = f", {plan['rung_images']} where pruners decide" if plan.get("rung_images") else ""
    judges = f"{plan['validation_images']} validation images{rungs}, at the end all"
    words = [
        f"{plan['epochs']} epochs of {float(str(plan['data_share'])):.1%} of the images",
        f"judged on {judges if plan.get('validation_images') else 'all validation images'}",
    ]
    if plan.get("trial_seconds"):
        words.append(f"about {float(str(plan['trial_seconds'])):.1f} s a full training")
    return ", ".join(words)


def _found(facts: Facts) -> Section:
    winner = facts.winner
    parts: list[Part] = []
    if winner is None:
        parts.append(Text("No network was trained to the end within the limits, so there is no winner."))
        reasons = Counter(row.why or row.group for row in facts.rows)
        rows = [(reason, str(count)) for reason, count in reasons.most_common(MOST_REASONS)]
        parts += [Table(("why", "trials"), rows)] if rows else []
        return Section("What was found", parts)
    rows = [("winner", f"trial {winner.number}"), ("network", winner.network)]
    rows += [(COSTS[name], cost(name, winner.costs.get(name))) for name in costs_of(facts)]
    rows.append(("validation accuracy in the search", accuracy(winner.accuracy)))
    if fresh := facts.fresh.get(winner.number):
        rows.append(("validation accuracy, fresh seeds", f"{mean_of(fresh)} ({len(fresh)} seed(s))"))
    if facts.test is not None:
        which = "" if facts.test["number"] == winner.number else f" of trial {facts.test['number']}"
        rows.append((f"test accuracy{which}", tested(facts)))
        rows.append(("final training", f"{facts.test['epochs']} epochs, seed {facts.test['seed']}"))
        rows.append(("networks of this study tested so far", f"{facts.tests}"))
    parts.append(Table(("", ""), rows, left=(0, 1)))
    parts.append(Text(_luck(facts), is_quiet=True))
    if len(facts.fresh) > 1:
        parts.append(_finalists(facts))
    return Section("What was found", parts)


def _luck(facts: Facts) -> str:
    words = "The accuracy that a search chose a network by owes part to luck."
    if facts.fresh:
        words += " Trainings with fresh seeds do not share it, and decide among the best few."
    if facts.test is not None:
        words += " The test images were used for nothing but the test."
    return words


def _finalists(facts: Facts) -> Table:
    finalists = [number for number in facts.ranking if number in facts.fresh]
    finalists += [number for number in facts.fresh if number not in finalists]
    rows = [
        (
            str(number),
            accuracy(facts.rows[number].accuracy),
            mean_of(facts.fresh[number]),
            ", ".join(map(accuracy, facts.fresh[number])),
        )
        for number in finalists
    ]
    return Table(
        ("trial", "in the search", "mean, fresh seeds", "each"),
        rows,
        left=(3,),
        caption="The best few, trained again with fresh seeds (± standard error of the mean)",
        marked=[0] if facts.winner and finalists[0] == facts.winner.number else [],
    )


def _networks(facts: Facts, drawn: Figures) -> Section:
    title = "The Pareto front" if facts.has_front else "The best networks"
    captions = (
        "Each network once it was judged: to the right it costs more, above it is more accurate. "
        + ("No network of the front is beaten in every objective. " if facts.has_front else "")
        + "The winner is the star."
    )
    parts: list[Part] = [
        Figure(name, figure, captions) for name, figure in drawn.items() if name.startswith("front")
    ]
    numbers = facts.ranking[:MOST_NETWORKS]
    if not numbers:
        return Section(title, [])
    names = costs_of(facts)
    rows = [_network_row(facts, number, names) for number in numbers]
    head = ("trial", "accuracy", "fresh seeds", *(COSTS[name] for name in names), "network")
    kind = "networks of the front" if facts.has_front else "distinct networks trained to the end"
    caption = f"{len(numbers)} of {len(facts.ranking)} {kind}" if len(numbers) < len(facts.ranking) else ""
    parts.append(Table(head, rows, left=(len(head) - 1,), caption=caption, marked=[0]))
    return Section(title, parts)


def _network_row(facts: Facts, number: int, names: list[str]) -> tuple[str, ...]:
    row = facts.rows[number]
    costs = [cost(name, row.costs.get(name)) for name in names]
    fresh = mean_of(facts.fresh.get(number, []))
    return str(number), accuracy(row.accuracy), fresh, *costs, row.network
