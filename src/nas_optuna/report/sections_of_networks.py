"""Report: the winner, block by block, and which classes it takes for which."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from nas_optuna.report.document import Figure, Folded, Part, Picture, Section, Table, Text
from nas_optuna.report.facts import Facts
from nas_optuna.report.style import TEXT, make_figure, plain
from nas_optuna.report.words import share
from nas_optuna.space import measure_costs
from nas_optuna.space.diagram import draw

NUMBERED = 12  # classes up to which a confusion matrix has its numbers in it
MOST_PAIRS = 10
SCALE = ((0.0, "rgba(76, 141, 214, 0)"), (1.0, "rgba(76, 141, 214, 0.75)"))


def network(facts: Facts) -> Section:
    """The winner as a picture and as a table."""
    title = "The winner's network"
    winner = facts.winner
    if winner is None or not facts.input_shape or not facts.classes:
        return Section(title, [])
    architecture = facts.architecture(winner)
    picture = draw(architecture, input_shape=facts.input_shape, classes=facts.classes)
    costs = measure_costs(architecture, input_shape=facts.input_shape, classes=facts.classes)
    rows = [
        (
            layer.name,
            layer.summary,
            " × ".join(map(str, layer.output_shape)),
            f"{layer.params:,}",
            f"{layer.macs:,}",
            share(layer.macs, costs.macs),
        )
        for layer in costs.layers
    ]
    head = ("part", "layer", "shape after it", "parameters", "MACs", "share of the MACs")
    return Section(
        title,
        [
            Picture(picture, f"diagram of {architecture}"),
            Folded("Block by block", [Table(head, rows, left=(0, 1))]),
        ],
    )


def confusion(facts: Facts) -> Section:
    """What the one test of the winner showed, class by class."""
    title = "The test, class by class"
    counts = facts.confusion
    if not counts or facts.test is None:
        return Section(title, [])
    names = _names(facts, len(counts))
    right = sum(row[index] for index, row in enumerate(counts))
    total = sum(map(sum, counts))
    parts: list[Part] = [
        Text(
            f"Trial {facts.test['number']} took {right:,} of {total:,} test images for what they are, "
            f"{share(right, total)}."
        )
    ]
    caption = "A row for each true class; across, the class it was taken for. Colours are shares of the row."
    parts.append(Figure("confusion", _draw(counts, names), caption, _matrix(counts, names)))
    parts.append(_by_class(counts, names))
    if pairs := _pairs(counts, names):
        parts.append(pairs)
    return Section(title, parts)


def _names(facts: Facts, count: int) -> list[str]:
    known = list(facts.class_names)
    return known if len(known) == count else [str(index) for index in range(count)]


def _draw(counts: Sequence[Sequence[int]], names: Sequence[str]) -> go.Figure:
    labels = [plain(name) for name in names]
    is_small = len(names) <= NUMBERED
    shares = [[round(cell / max(1, sum(row)), 4) for cell in row] for row in counts]
    heat = go.Heatmap(
        z=shares,
        x=labels,
        y=labels,
        colorscale=SCALE,
        zmin=0,
        zmax=1,
        showscale=False,
        xgap=1,
        ygap=1,
        text=[[str(cell) if cell else "" for cell in row] for row in counts],
        texttemplate="%{text}" if is_small else None,
        textfont={"color": TEXT},
        hovertemplate="%{y} taken for %{x}: %{text} (%{z:.1%} of the class)<extra></extra>",
    )
    figure = make_figure([heat], x="taken for", y="true class", height=max(420, 120 + 6 * len(names)))
    # a class may be named like a number, and each has its place
    figure.update_xaxes(type="category", showgrid=False)
    figure.update_yaxes(type="category", autorange="reversed", showgrid=False)
    return figure


def _matrix(counts: Sequence[Sequence[int]], names: Sequence[str]) -> Table | None:
    if len(names) > NUMBERED:
        return None
    rows = [(name, *map(str, row)) for name, row in zip(names, counts, strict=True)]
    return Table(("true class", *names), rows)


def _by_class(counts: Sequence[Sequence[int]], names: Sequence[str]) -> Folded:
    rows = []
    for index, (name, row) in enumerate(zip(names, counts, strict=True)):
        taken = sum(other[index] for other in counts)
        right = row[index]
        rows.append((name, f"{sum(row):,}", f"{right:,}", share(right, sum(row)), share(right, taken)))
    head = ("class", "images", "right", "recall", "precision")
    return Folded("Recall and precision of each class", [Table(head, rows)])


def _pairs(counts: Sequence[Sequence[int]], names: Sequence[str]) -> Table | None:
    wrong = [
        (cell, true, taken)
        for true, row in enumerate(counts)
        for taken, cell in enumerate(row)
        if cell and true != taken
    ]
    wrong.sort(key=lambda pair: (-pair[0], pair[1], pair[2]))
    rows = [(names[true], names[taken], f"{cell:,}") for cell, true, taken in wrong[:MOST_PAIRS]]
    if not rows:
        return None
    return Table(("class", "taken for", "images"), rows, left=(0, 1), caption="The most frequent mistakes")
