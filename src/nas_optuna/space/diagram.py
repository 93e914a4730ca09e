"""Search space: a network as a picture, its blocks with their shapes and costs."""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from nas_optuna.space.architecture import Architecture, Block
from nas_optuna.space.cells import EDGES, split_operations
from nas_optuna.space.cost import Costs, LayerCosts, measure_costs
from nas_optuna.space.separable import Saved, saved_by

WIDTH, BOX, GAP, TOP = 760, 44, 22, 96
LEFT, RIGHT = 70, 400  # edges of the boxes
COLUMNS = (512, 616, 722)  # right edges of shape, parameters, MACs
FEWEST_IN_A_RUN = 3  # equal blocks that are drawn as one
CELL_HEIGHT = 270

COLOURS = {
    "conv": "#4c8dd6",
    "dwsep": "#2f9e8f",
    "groupconv": "#6f74d2",
    "mbconv": "#4f9d4f",
    "bottleneck": "#9a6dd0",
    "convnext": "#d07f3c",
    "maxpool": "#8a919b",
    "avgpool": "#8a919b",
    "identity": "#aab0b8",
    "cell": "#c79a2b",
    "reduction": "#4c8dd6",
    "stem": "#5f6b7a",
    "head": "#5f6b7a",
}
OTHER_COLOUR = "#c8628c"

STYLE = """
text { font: 13px system-ui, "Segoe UI", Helvetica, Arial, sans-serif; }
text { fill: #1f2430; }
.ground { fill: #ffffff; } .title { font-weight: 600; }
.quiet { fill: #667080; font-size: 12px; }
.box text, .box .quiet { fill: #ffffff; } .box .quiet { opacity: .85; }
.right { text-anchor: end; } .middle { text-anchor: middle; }
.line { stroke: #8a93a0; stroke-width: 1.5; fill: none; } .tip { fill: #8a93a0; }
.track { fill: #e6e9ee; } .share { fill: #8a93a0; }
.node { fill: #ffffff; stroke: #8a93a0; stroke-width: 1.5; }
@media (prefers-color-scheme: dark) {
  text { fill: #e4e8ee; } .ground { fill: #14181f; } .quiet { fill: #9aa4b2; }
  .track { fill: #2a313c; } .node { fill: #14181f; }
}
"""


@dataclass(frozen=True)
class _Row:
    """A box: one part of the network, or a run of equal ones."""

    kind: str
    title: str
    detail: str
    residual: bool
    shape: tuple[int, ...]
    params: int
    macs: int
    saved: Saved | None = None


def draw(architecture: Architecture, *, input_shape: tuple[int, ...], classes: int) -> str:
    """A picture of the network as SVG text, for light and dark grounds.

    Each block is a box with its shape after it, its parameters and multiplications; the bar under
    them is its share of all multiplications. Under a depthwise-separable block stands what it saves
    against a standard convolution. A line around a box is a residual connection. The cell of a
    cell-based network is drawn below.

    Args:
        architecture: The network.
        input_shape: Channels, then height and width, or length.
        classes: Length of the logits.
    """
    costs = measure_costs(architecture, input_shape=input_shape, classes=classes)
    rows = list(_rows(architecture, costs))
    cells = [block for block in architecture.blocks if block.layer == "cell"]
    chain = TOP + len(rows) * (BOX + GAP)
    height = chain + (CELL_HEIGHT if cells else 20)
    body = [_header(architecture, costs, input_shape)]
    body += [_row(row, TOP + index * (BOX + GAP), costs) for index, row in enumerate(rows)]
    if cells:
        body.append(_cell(cells[0], chain))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" role="img"><title>{escape(str(architecture))}</title><style>{STYLE}</style>'
        f'<rect class="ground" width="100%" height="100%"/>{"".join(body)}</svg>\n'
    )


def _rows(architecture: Architecture, costs: Costs) -> Iterator[_Row]:
    stem, *layers, head = costs.layers
    kernel = _times(architecture.stem.kernel, architecture.parts.dimensions)
    stride = f"stride {architecture.stem.stride}" if architecture.stem.stride > 1 else ""
    yield _from_costs("stem", f"stem {kernel}", stride, False, [stem])
    widths = [architecture.stem.width, *(block.width for block in architecture.blocks)]
    together = zip(architecture.blocks, layers, widths, strict=False)
    for _, run in itertools.groupby(together, key=lambda part: (part[0], part[1].output_shape)):
        alike = list(run)
        groups = [alike] if len(alike) >= FEWEST_IN_A_RUN else [[part] for part in alike]
        for group in groups:
            block = group[0][0]
            title = _title(block, architecture.parts.dimensions)
            often = f"{len(group)} times " if len(group) > 1 else ""
            saved = [
                saved_by(each, width, cost.output_shape, architecture.parts) for each, cost, width in group
            ]
            yield _from_costs(
                block.layer,
                often + title,
                _detail(block),
                block.residual,
                [cost for _, cost, _ in group],
                [found for found in saved if found],
            )
    first = "norm, " if architecture.head.norm else ""
    if architecture.head.width:
        first = f"pointwise to {architecture.head.width}, "
    yield _from_costs("head", "head", first + "mean, linear", False, [head])


def _from_costs(
    kind: str,
    title: str,
    detail: str,
    residual: bool,
    parts: Sequence[LayerCosts],
    saved: Sequence[Saved] = (),
) -> _Row:
    return _Row(
        kind,
        title,
        detail,
        residual,
        parts[-1].output_shape,
        sum(part.params for part in parts),
        sum(part.macs for part in parts),
        functools.reduce(operator.add, saved) if saved else None,
    )


def _title(block: Block, dimensions: int) -> str:
    kernel = dict(block.choices).get("kernel")
    return f"{block.layer} {_times(kernel, dimensions)}" if kernel else block.layer


def _times(kernel: object, dimensions: int) -> str:
    return " × ".join([str(kernel)] * dimensions)


def _detail(block: Block) -> str:
    words = []
    if block.stride > 1:
        how = "" if block.downsampling == "stride" else f" by {block.downsampling}"
        words.append(f"stride {block.stride}{how}")
    for name, value in block.choices:
        if name in ("kernel", "operations") or value is False:
            continue
        words.append(name.replace("_", "-") if value is True else f"{name.replace('_', '-')} {value}")
    return ", ".join(words)


def _header(architecture: Architecture, costs: Costs, input_shape: tuple[int, ...]) -> str:
    parts = architecture.parts
    totals = (
        f"{costs.params:,} parameters · {costs.macs:,} MACs · "
        f"{costs.memory / 1024:,.0f} KiB of activations · {costs.size / 1024:,.0f} KiB of weights"
    )
    names = zip(COLUMNS, ("shape", "parameters", "MACs"), strict=True)
    return (
        f'<text class="title" x="{LEFT}" y="28">{escape(totals)}</text>'
        f'<text class="quiet" x="{LEFT}" y="50">input {_shape(input_shape)} · {parts.activation} · '
        f"{parts.norm} norm · {architecture.hash}</text>"
        + "".join(f'<text class="quiet right" x="{x}" y="{TOP - 14}">{name}</text>' for x, name in names)
    )


def _row(row: _Row, top: int, costs: Costs) -> str:
    middle, bottom = (LEFT + RIGHT) // 2, top + BOX
    arrow = (
        f'<path class="line" d="M{middle} {top - GAP + 2}V{top - 4}"/>'
        f'<path class="tip" d="M{middle - 4} {top - 7}h8l-4 6z"/>'
    )
    around = (
        f'<path class="line" d="M{middle} {top - GAP + 13}H{LEFT - 22}V{bottom + 6}H{middle}"/>'
        if row.residual
        else ""
    )
    colour = COLOURS.get(row.kind, OTHER_COLOUR)
    title_y = top + (19 if row.detail else 27)
    detail = (
        f'<text class="quiet" x="{LEFT + 14}" y="{top + 36}">{escape(row.detail)}</text>'
        if row.detail
        else ""
    )
    box = (
        f'<g class="box"><rect x="{LEFT}" y="{top}" width="{RIGHT - LEFT}" height="{BOX}" rx="7" '
        f'fill="{colour}"/><text x="{LEFT + 14}" y="{title_y}">{escape(row.title)}</text>{detail}</g>'
    )
    figures = zip(COLUMNS, (_shape(row.shape), f"{row.params:,}", f"{row.macs:,}"), strict=True)
    numbers = "".join(f'<text class="right" x="{x}" y="{top + 22}">{text}</text>' for x, text in figures)
    full = COLUMNS[-1] - RIGHT - 24
    share = full * row.macs / max(1, costs.macs)
    bar = (
        f'<rect class="track" x="{RIGHT + 24}" y="{top + 32}" width="{full}" height="4" rx="2"/>'
        f'<rect class="share" x="{RIGHT + 24}" y="{top + 32}" width="{share:.1f}" height="4" rx="2"/>'
    )
    return (arrow if row.kind != "stem" else "") + around + box + numbers + bar + _saving(row.saved, top + 53)


def _saving(saved: Saved | None, y: int) -> str:
    """What stands under the numbers of a depthwise-separable block: how much less it takes, and the share."""
    if saved is None:
        return ""
    words = (
        "below conv",
        _less(saved.params, saved.standard_params),
        _less(saved.macs, saved.standard_macs),
    )
    return "".join(
        f'<text class="quiet right" x="{x}" y="{y}">{text}</text>'
        for x, text in zip(COLUMNS, words, strict=True)
    )


def _less(saved: int, standard: int) -> str:
    size = abs(saved)
    number = f"{size:,}" if size < 1e5 else f"{size / 1e3:.0f}k" if size < 1e6 else f"{size / 1e6:,.1f}M"
    return f"{'−' if saved >= 0 else '+'}{number} ({abs(saved) / standard:.0%})"


def _cell(block: Block, top: int) -> str:
    """The four nodes of a cell in a row, what connects them as arcs."""
    names = split_operations(str(block["operations"]))
    places = [(110 + 180 * node, top + 135) for node in range(4)]
    drawn = [f'<text class="quiet" x="{LEFT}" y="{top + 24}">the cell</text>']
    for (start, end), name in zip(EDGES, names, strict=True):
        if name == "none":
            continue
        (x1, y), (x2, _) = places[start], places[end]
        # neighbours by a straight line, the others by arcs on both sides
        bend = {(0, 2): -90, (0, 3): -180, (1, 3): 150}.get((start, end), 0)
        middle, height = (x1 + x2) / 2, y + bend / 2
        drawn.append(f'<path class="line" d="M{x1} {y}Q{middle} {y + bend} {x2} {y}"/>')
        drawn.append(f'<text class="quiet middle" x="{middle}" y="{height - 6:.0f}">{name}</text>')
    for node, (x, y) in enumerate(places):
        word = {0: "in", 3: "out"}.get(node, str(node))
        drawn.append(f'<circle class="node" cx="{x}" cy="{y}" r="15"/>')
        drawn.append(f'<text class="middle" x="{x}" y="{y + 4}">{word}</text>')
    return "".join(drawn)


def _shape(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))
