"""The script of the custom element `<unmask-player>`.

The element is defined by one script without dependencies, which the report, `unmask view`, the
playground and notebooks share. Its style is in its shadow tree, so that it neither reads nor changes
that of the page around it. The script may be run several times in a document.
"""

from functools import cache
from importlib.resources import files

from unmask.viewer.markup import json_text

SOURCES = ("colours.js", "writes.js", "token_canvas.js", "picture.js", "player_element.js")
STYLES = ("theme.css", "player.css")


def source(name: str) -> str:
    """Return the text of a file of this package."""
    return files("unmask.viewer").joinpath(name).read_text(encoding="utf-8")


@cache
def player_script() -> str:
    """Return the JavaScript that defines `<unmask-player>`."""
    style = json_text("\n".join(map(source, STYLES)))
    body = "\n".join(map(source, SOURCES))
    return (
        'if (!customElements.get("unmask-player")) (() => {\n"use strict";\n'
        f"const PLAYER_STYLE = {style};\n{body}\n}})();\n"
    )
