"""The pages of optuna-dashboard with diagrams and curves as large as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

# It shows each artifact on a card of 200 x 150 pixels: a diagram needs its width. Text of figures follows the
# page's colour; links and tables of a note, which have no style at all, get one.
STYLE = b"""<style>
.MuiCard-root:has(> .MuiBox-root > img.MuiCardMedia-img) { width: min(760px, 100%) !important; }
.MuiBox-root:has(> img.MuiCardMedia-img) { height: auto !important; }
[id^="user-defined-plot:"] text:not(.bartext) { fill: currentColor !important; }
.MuiCardContent-root a:not([class]) { color: #2f9bf5; }
.MuiCardContent-root :is(td, th):not([class]) { padding: 2px 18px 2px 0; text-align: left; }
</style>"""
PAGES = "/dashboard"


def with_large_pictures(application: WSGIApplication) -> WSGIApplication:
    """The dashboard, its pages with a style of ours; all else passes as it is."""

    def styled(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if not environ.get("PATH_INFO", "").startswith(PAGES):
            return application(environ, start_response)
        answer: dict[str, Any] = {}

        def keep(status: str, headers: list[tuple[str, str]], *_: object) -> Callable[[bytes], object]:
            answer.update(status=status, headers=headers)
            return lambda _: None

        # "not modified" would let the browser show a page that it has from elsewhere
        asked = {name: value for name, value in environ.items() if not name.startswith("HTTP_IF_")}
        body = b"".join(application(asked, keep)).replace(b"</head>", STYLE + b"</head>", 1)
        kept = [pair for pair in answer["headers"] if pair[0].lower() not in ("content-length", "etag")]
        start_response(answer["status"], [*kept, ("Content-Length", str(len(body)))])
        return [body]

    return styled
