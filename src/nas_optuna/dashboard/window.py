"""The pages of optuna-dashboard with diagrams and curves as large as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

# It shows each artifact on a card of 200 x 150 pixels. A diagram needs its width; text of figures follows
# the page's colour.
STYLE = b"""<style>
.MuiCard-root:has(img.MuiCardMedia-img) { width: min(760px, 100%) !important; }
.MuiBox-root:has(> img.MuiCardMedia-img) { height: auto !important; }
[id^="user-defined-plot:"] text { fill: currentColor !important; }
</style>"""
PAGES = "/dashboard"

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def with_large_pictures(application: Application) -> Application:
    """The dashboard, its pages with a style of ours; all else passes as it is."""

    def styled(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if not environ.get("PATH_INFO", "").startswith(PAGES):
            return application(environ, start_response)
        # "not modified" would let the browser show a page that it has from elsewhere
        asked = {name: value for name, value in environ.items() if not name.startswith("HTTP_IF_")}
        answer: list[Any] = []
        parts = application(asked, lambda *given: answer.append(given))
        body = b"".join(parts).replace(b"</head>", STYLE + b"</head>", 1)
        status, headers, *_ = answer[0]
        kept = [(name, value) for name, value in headers if name.lower() not in ("content-length", "etag")]
        start_response(status, [*kept, ("Content-Length", str(len(body)))])
        return [body] if environ.get("REQUEST_METHOD") != "HEAD" else []

    return styled
