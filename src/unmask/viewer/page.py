"""A page: one self-contained file that makes no request.

Style, scripts and data stand in it. Everything that a run wrote (prompts, responses, names, paths)
may be hostile. It enters a page as escaped text or as a data block that the script turns into text
nodes, and a Content Security Policy admits exactly the page's scripts and styles, by hash.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from unmask.viewer.markup import csp_hash, escape, json_island
from unmask.viewer.player import player_script, source

REFRESH_S = 30
UPLOT = ("vendor/uPlot.LICENSE", "vendor/uPlot.iife.min.js")
# A yellow square on blue: a revealed token among hidden ones.
ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http:%2F%2Fwww.w3.org%2F2000%2Fsvg' viewBox='0 0 16 16'%3E"
    "%3Crect width='16' height='16' rx='3' fill='%23255da8'/%3E"
    "%3Crect x='4' y='4' width='8' height='8' rx='1' fill='%23fff7c9'/%3E%3C/svg%3E"
)


@dataclass(frozen=True, slots=True)
class Page:
    """The parts of a page.

    Attributes:
        title: of the browser's window.
        body: HTML; foreign text in it is escaped.
        islands: JSON by identifier, as `markup.json_text` writes it.
        has_charts: whether it draws charts.
        has_player: whether it plays trajectories.
        is_running: whether its run goes on, so that the page reloads itself.
    """

    title: str
    body: str
    islands: Mapping[str, str]
    has_charts: bool = True
    has_player: bool = True
    is_running: bool = False


def page_html(page: Page) -> str:
    """Return the HTML of a page."""
    scripts = list(_scripts(page))
    styles = [source(name) for name in ("theme.css", "page.css")]
    if page.has_charts:
        styles.insert(0, source("vendor/uPlot.min.css"))
    running = f' data-running="{REFRESH_S}"' if page.is_running else ""
    islands = "".join(json_island(name, text) for name, text in page.islands.items())
    tags = "".join(f"<script>{script}</script>" for script in scripts)
    return (
        f"<!doctype html>\n{_head(page, ''.join(styles), scripts)}\n"
        f"<body{running}>\n{page.body}{islands}{tags}\n</body>\n</html>\n"
    )


def section(title: str, content: str, note: str = "") -> str:
    """Return a section of a page with its heading; `note` is HTML to the right of it."""
    return (
        f'<section id="{title.lower()}"><div class="section-head"><h2>{title}</h2>{note}</div>'
        f"{content}</section>\n"
    )


def _scripts(page: Page) -> Iterable[str]:
    if page.has_charts:
        uplot_license, uplot = map(source, UPLOT)
        # The licence asks for its text in every copy of the library, and each page is one.
        yield f"/*\n{uplot_license}\n*/\n{uplot}"
        yield source("charts.js")
    if page.has_player:
        yield player_script()
        yield source("trajectories.js")
    yield source("page.js")


def _head(page: Page, style: str, scripts: Sequence[str]) -> str:
    policy = "; ".join(
        (
            "default-src 'none'",
            f"script-src {' '.join(map(csp_hash, scripts))}",
            f"style-src {csp_hash(style)}",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
    # With scripts, the page reloads itself only while no trajectory is being played.
    refresh = f'<noscript><meta http-equiv="refresh" content="{REFRESH_S}"></noscript>'
    return (
        '<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><meta name="referrer" content="no-referrer">'
        f"<title>{escape(page.title)}</title>{refresh if page.is_running else ''}"
        f'<link rel="icon" href="{ICON}"><style>{style}</style></head>'
    )
