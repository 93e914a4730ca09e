"""A study's note in optuna-dashboard: what is searched, what was found, how it goes on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import optuna
from optuna_dashboard import get_note, save_note

from nas_optuna.report.facts import Facts, Row
from nas_optuna.report.files import HTML

SHOWN = 10  # networks
# the note of a study can be edited in the dashboard, where nobody wants to see a text of his own gone
MARK = "\n---\n*What stands above is written anew as the search runs; what you write below stays.*\n"


def write_note(study: optuna.Study, facts: Facts, pictures: Mapping[str, str]) -> None:
    """Save the note, unless it says the same already; what the user wrote below it is kept.

    Args:
        study: The study.
        facts: What it found.
        pictures: Addresses, as the dashboard has them, of pictures of the winner by what they show.
    """
    before = get_note(study)
    ours, mark, theirs = before.partition(MARK)
    # without the line the user has made the note his own
    body = describe(facts, pictures) + MARK + (theirs if mark else ours)
    if body != before:
        save_note(study, body)


def describe(facts: Facts, pictures: Mapping[str, str]) -> str:
    """The note in Markdown; see ``write_note``."""
    parts = [f"# {_code(facts.study_name)}", _asked(facts), _found(facts)]
    if facts.winner is not None:
        parts += [f"## Best networks\n\n{_table(facts)}", *_tested(facts)]
    parts += [f"![{what} of the winner]({address})" for what, address in pictures.items()]
    if (facts.folder / HTML).is_file():
        parts.append(f"All of it in one file: {_code(str(facts.folder / HTML))}")
    parts.append(_go_on(facts))
    return "\n\n".join(parts) + "\n"


def _asked(facts: Facts) -> str:
    """What is searched, in a list."""
    config, plan = facts.config, facts.plan
    shape = " × ".join(map(str, facts.input_shape))
    images = ", ".join(f"{count:,} for {name}" for name, count in facts.images.items())
    goals = " and ".join(f"{name} ({word})" for name, word in facts.objectives.directions.items())
    limits = ", ".join(f"{name} at most {limit:,.10g}" for name, limit in facts.objectives.limits.items())
    share = "" if plan.get("data_share", 1) == 1 else f" of {plan['data_share']:.1%} of the examples"
    pruner = _word(config.get("estimation", {}).get("pruner"))
    lines = {
        "asked": goals + (f"; {limits}" if limits else ""),
        "data": f"{_word(config.get('data'))}, {facts.classes} classes, inputs of {shape}"
        + (f"; {images}" if images else ""),
        "space": f"{_word(config.get('space'))}, {len(facts.distributions)} decisions",
        "strategy": f"{_word(config.get('strategy'))}, seed {facts.seed}",
        "estimation": f"{plan.get('epochs', '?')} epochs{share} a network, {pruner}",
    }
    return "\n".join(f"- **{name}**: {text}" for name, text in lines.items())


def _found(facts: Facts) -> str:
    counts = ", ".join(f"{count:,} {name}" for name, count in facts.counts.items() if count)
    return f"{counts or 'No trial has ended yet'} in {_clock(facts.seconds)}."


def _table(facts: Facts) -> str:
    shown = [facts.rows[number] for number in facts.ranking[:SHOWN]]
    has_latency = any("latency" in row.costs for row in shown)
    heads = ["", "trial", "accuracy", "fresh seeds"] + ["latency"] * has_latency
    heads += ["MACs", "parameters", "network"]
    rows = [heads, ["---"] * len(heads), *(list(_cells(facts, row, has_latency)) for row in shown)]
    left = len(facts.ranking) - len(shown)
    more = f"\n\n... and {left:,} more{' on the front' if facts.has_front else ''}." if left else ""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows) + more


def _cells(facts: Facts, row: Row, has_latency: bool) -> Iterator[str]:
    fresh = facts.fresh.get(row.number, [])
    yield "★" if row is facts.winner else ""
    # relative to the note's own page: the dashboard may stand below a prefix
    yield f"[{row.number}](trials?numbers={row.number})"
    yield f"{row.accuracy:.4f}" if row.accuracy is not None else "?"
    yield f"{sum(fresh) / len(fresh):.4f} ({len(fresh)})" if fresh else ""
    if has_latency:
        yield f"{row.costs['latency']:.4g} ms" if "latency" in row.costs else "?"
    for name in ("macs", "params"):
        yield f"{row.costs[name]:,}" if name in row.costs else "?"
    yield _code(row.network)


def _tested(facts: Facts) -> list[str]:
    if facts.test is None:
        return []
    return [
        f"**Test accuracy {facts.test['accuracy']:.4f}**: trial {facts.test['number']}, trained again on "
        f"training and validation examples, then tested. The test split was used {facts.tests} time(s) by "
        "this study."
    ]


def _go_on(facts: Facts) -> str:
    """The commands that lead on from here, as far as the study knows them."""
    command = facts.runs[-1].get("command") if facts.runs else None
    lines = [f"{command}    # goes on; raise n_trials or timeout"] if command else []
    if facts.test is not None:
        lines.append(f"python -m nas_optuna.export study_dir={facts.folder}")
    block = "\n".join(f"    {line}" for line in lines)
    return f"## Go on\n\n{block}" if lines else ""


def _word(settings: Any) -> str:
    """The class that settings name, without its module."""
    target = settings.get("_target_") if isinstance(settings, Mapping) else None
    name = str(target or "?").rpartition(".")[2]
    return {"choose_sampler": "PredictorSampler"}.get(name, name)


def _code(text: str) -> str:
    """Text that Markdown shall leave as it is, in a table too."""
    return "`" + text.replace("`", "'").replace("|", "/") + "`"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
