"""Report: a document as one HTML file that needs nothing else, light or dark as its reader's screen is."""

from __future__ import annotations

import base64
import functools
import html
import json
import re
from collections.abc import Iterator, Sequence

import plotly.graph_objects as go
import plotly.offline

from nas_optuna.report.document import Code, Document, Figure, Folded, Part, Picture, Section, Table, Text
from nas_optuna.report.style import HEIGHT

STYLE = """
:root { color-scheme: light dark; --ground: #ffffff; --text: #1f2430; --quiet: #5d6775; --line: #dfe3e9;
  --panel: #f5f7f9; --mark: #fff6d6; --link: #2563b0; --grid: rgba(128, 138, 150, 0.28); }
@media (prefers-color-scheme: dark) { :root { --ground: #14181f; --text: #e4e8ee; --quiet: #9aa4b2;
  --line: #2d3541; --panel: #1b212a; --mark: #39331a; --link: #7fb2ee; --grid: rgba(148, 158, 172, 0.22); } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--ground); color: var(--text);
  font: 16px/1.55 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; overflow-wrap: break-word; }
main { max-width: 960px; margin: 0 auto; padding: 28px 20px 72px; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .6rem; padding-top: .7rem; border-top: 1px solid var(--line); }
p { margin: .5rem 0; max-width: 75ch; }
.lead { font-size: 1.06rem; }
.quiet, figcaption { color: var(--quiet); font-size: .88rem; }
nav { margin: 1rem 0 0; font-size: .9rem; }
nav a { color: var(--link); text-decoration: none; margin-right: 1rem; white-space: nowrap; }
.wide { overflow-x: auto; margin: .8rem 0; -webkit-overflow-scrolling: touch; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
.caption { margin: 1rem 0 -.4rem; }
th, td { padding: .28rem .8rem .28rem 0; text-align: right; vertical-align: top;
  border-bottom: 1px solid var(--line); }
th { font-weight: 600; color: var(--quiet); white-space: nowrap; }
td { white-space: nowrap; }
.left { text-align: left; } .word { white-space: nowrap; }
td.left { white-space: normal; min-width: 5rem; }
td.left.long { min-width: 17rem; }
.pairs td + td.left { overflow-wrap: anywhere; min-width: 0; } .pairs td:first-child { min-width: 6.2rem; }
tr.mark td { background: var(--mark); }
td:first-child, th:first-child { padding-left: .4rem; }
pre { background: var(--panel); padding: .7rem .9rem; border-radius: 6px; font-size: .85rem;
  line-height: 1.45; white-space: pre-wrap; overflow-wrap: anywhere; margin: .8rem 0; }
figure { margin: 1rem 0 1.4rem; }
figcaption { margin-top: .2rem; max-width: 75ch; }
.plot { width: 100%; }
.picture img { display: block; max-width: 100%; height: auto; }
details { margin: .8rem 0; } summary { cursor: pointer; color: var(--link); }
@media (max-width: 640px) { main { padding: 18px 14px 48px; } h1 { font-size: 1.3rem; }
  .picture img { max-width: none; } }
@media print { nav { display: none; } .wide { overflow: visible; } }
"""

# Colours of text and grid follow the page's, now and when the reader's screen turns dark. A figure in a
# part that is folded away is drawn when that is opened: before, it has no width.
SCRIPT = """
const figures = JSON.parse(document.getElementById("figures:json").textContent);
const narrow = () => window.innerWidth < 640;
function arrange(layout) {
  const style = getComputedStyle(document.documentElement), colour = (name) => style.getPropertyValue(name);
  const axes = Object.keys(layout).filter((name) => /^[xy]axis/.test(name));
  layout.font = { ...(layout.font || {}), color: colour("--text"), size: narrow() ? 11 : 13 };
  const said = { color: colour("--text"), size: 12 };
  layout.hoverlabel = { bgcolor: colour("--panel"), font: said, align: "left" };
  for (const name of axes) layout[name] = { ...layout[name], gridcolor: colour("--grid") };
  return layout;
}
// plotly guesses the colour of what stands in a cell as if that were on white
const readable = (trace) => trace.type !== "heatmap" ? trace : { ...trace, textfont: {
  color: getComputedStyle(document.documentElement).getPropertyValue("--text") } };
function draw(place) {
  const { data, layout } = figures[place.id.slice("figure-".length)];
  const options = { responsive: true, displayModeBar: false };
  Plotly.react(place, data.map(readable), arrange({ ...layout }), options);
}
const places = () => [...document.querySelectorAll(".plot")].filter((place) => place.offsetParent !== null);
const drawAll = () => places().forEach(draw);
drawAll();
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
document.querySelectorAll("details").forEach((part) => part.addEventListener("toggle", drawAll));
"""

SHORT = 24  # characters of a word that fits into any line
LONG = 40  # characters from which on a cell wants room


def write_page(document: Document) -> str:
    """A document as the text of an HTML file.

    Whatever comes from a study is escaped, plotly.js is within, and nothing is loaded from anywhere.
    """
    figures = {figure.name: figure.figure for figure in _figures(document)}
    title = html.escape(document.title)
    names = [(_anchor(section.title), html.escape(section.title)) for section in document.sections]
    links = "".join(f'<a href="#{anchor}">{name}</a>' for anchor, name in names)
    body = "".join(_section(section) for section in document.sections)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # what the browser may load or send: nothing
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; "
        "form-action 'none'; base-uri 'none'\">\n"
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f'<h1>{title}</h1>\n<p class="lead">{html.escape(document.lead)}</p>\n<nav>{links}</nav>\n'
        f"{body}</main>\n{_scripts(figures)}</body>\n</html>\n"
    )


def _figures(document: Document) -> Iterator[Figure]:
    def walk(parts: Sequence[Part]) -> Iterator[Figure]:
        for part in parts:
            if isinstance(part, Figure):
                yield part
            elif isinstance(part, Folded):
                yield from walk(part.parts)

    for section in document.sections:
        yield from walk(section.parts)


def _scripts(figures: dict[str, go.Figure]) -> str:
    if not figures:
        return ""
    drawn = {name: json.loads(figure.to_json()) for name, figure in figures.items()}
    return (
        f'<script type="application/json" id="figures:json">{_to_script(drawn)}</script>\n'
        f"<script>{_plotly()}</script>\n<script>{SCRIPT}</script>\n"
    )


@functools.cache
def _plotly() -> str:
    """plotly.js, which must not end the element it stands in."""
    return re.sub("</(script)", r"<\\/\1", plotly.offline.get_plotlyjs(), flags=re.IGNORECASE)


def _to_script(values: object) -> str:
    """JSON that ends no element, whatever texts it holds."""
    return json.dumps(values, separators=(",", ":")).replace("<", "\\u003c")


def _section(section: Section) -> str:
    parts = "".join(map(_part, section.parts))
    return (
        f'<section id="{_anchor(section.title)}">\n<h2>{html.escape(section.title)}</h2>\n{parts}</section>\n'
    )


def _part(part: Part) -> str:
    if isinstance(part, Text):
        quiet = ' class="quiet"' if part.is_quiet else ""
        return f"<p{quiet}>{html.escape(part.text)}</p>\n"
    if isinstance(part, Code):
        return f"<pre>{html.escape(part.text)}</pre>\n"
    if isinstance(part, Table):
        return _table(part)
    if isinstance(part, Figure):
        caption = f"<figcaption>{html.escape(part.caption)}</figcaption>" if part.caption else ""
        height = int(part.figure.layout.height or HEIGHT)
        place = f'<div class="plot" id="figure-{_anchor(part.name)}" style="min-height:{height}px"></div>'
        table = _part(Folded("In numbers", [part.table])) if part.table is not None else ""
        return f"<figure>{place}{caption}{table}</figure>\n"
    if isinstance(part, Picture):
        words = html.escape(part.words, quote=True)
        # an image of its own, so that its styles stay within
        source = base64.b64encode(part.svg.encode(errors="replace")).decode()
        image = f'<img src="data:image/svg+xml;base64,{source}" alt="{words}">'
        return f'<div class="wide picture">{image}</div>\n'
    inside = "".join(map(_part, part.parts))
    return f"<details>\n<summary>{html.escape(part.title)}</summary>\n{inside}</details>\n"


def _table(table: Table) -> str:
    # beside what may scroll sideways, or it would as well
    caption = f'<p class="quiet caption">{html.escape(table.caption)}</p>\n' if table.caption else ""
    head = "".join(_cell("th", text, index in table.left) for index, text in enumerate(table.head))
    rows = []
    for number, row in enumerate(table.rows):
        mark = ' class="mark"' if number in table.marked else ""
        cells = "".join(_cell("td", text, index in table.left) for index, text in enumerate(row))
        rows.append(f"<tr{mark}>{cells}</tr>\n")
    top = f"<thead><tr>{head}</tr></thead>" if any(table.head) else ""
    kind = "" if any(table.head) else ' class="pairs"'
    body = f"<table{kind}>{top}<tbody>\n{''.join(rows)}</tbody></table>"
    return f'{caption}<div class="wide">{body}</div>\n'


def _cell(kind: str, text: str, is_left: bool) -> str:
    long = " long" if len(text) > LONG else ""
    style = f' class="left{long}"' if is_left else ""
    return f"<{kind}{style}>{_words(text) if is_left else html.escape(text)}</{kind}>"


def _words(text: str) -> str:
    """Words that are not broken where they have a hyphen, as those of a network have."""
    said = html.escape(text)
    return re.sub(r"(?<!\S)[\w+*/]+-[\w+*/-]+(?!\S)", _whole, said)


def _whole(match: re.Match[str]) -> str:
    return f'<span class="word">{match[0]}</span>' if len(match[0]) <= SHORT else match[0]


def _anchor(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
