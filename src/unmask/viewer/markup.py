"""Escapes foreign text: the only two functions through which data of a run enters the HTML.

Responses, prompts, reward names, paths and command lines may be hostile. `escape` turns them into
text or an attribute value; `json_island` embeds them as data, which the page's script puts into the
document as text nodes. No other code may concatenate foreign text.
"""

import hashlib
import json
from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape as escape_html
from typing import Any

# `<` could end the script element, `&` starts a character reference in XML. U+2028, U+2029 and lone
# surrogates need no entry: `ensure_ascii` writes them as \u escapes.
_UNSAFE = {ord("<"): "\\u003c", ord(">"): "\\u003e", ord("&"): "\\u0026"}


def escape(value: object) -> str:
    """Return a value as HTML text, safe between tags and in a quoted attribute."""
    # JSON may hold a lone surrogate, which cannot be written to a UTF-8 file.
    return escape_html(str(value).encode("utf-8", "replace").decode(), quote=True)


def json_text(value: Any) -> str:
    """Return compact JSON that may stand inside a script element.

    Raises:
        ValueError: the value holds NaN or an infinity.
    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.translate(_UNSAFE)


def json_island(identifier: str, text: str) -> str:
    """Return a data block: a script element that no browser executes, holding a `json_text`."""
    return f'<script type="application/json" id="{escape(identifier)}">{text}</script>'


def html_table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """Return a table of the page; the first cell of a row names it."""
    lines = ["".join(f"<th>{escape(cell)}</th>" for cell in head)]
    for name, *cells in rows:
        values = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        lines.append(f"<th>{escape(name)}</th>{values}")
    top, *body = (f"<tr>{line}</tr>" for line in lines)
    return f'<table class="stages"><thead>{top}</thead><tbody>{"".join(body)}</tbody></table>'


def csp_hash(source: str) -> str:
    """Return the Content-Security-Policy source that admits exactly this inline script or style."""
    return f"'sha256-{b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"
