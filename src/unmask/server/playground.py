"""The playground: one page to chat with the served model and to watch its canvas.

Style and scripts stand in the page, which makes requests to its own server only. A Content Security Policy
admits exactly these scripts and styles, by hash. The page needs no key and holds nothing that needs one:
the name of the model comes from `/v1/models`.
"""

from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import get_args

from starlette.responses import HTMLResponse, Response

from unmask.engine.llm import LLM
from unmask.sampling_params import Strategy
from unmask.server.params import ServerParams
from unmask.viewer import player
from unmask.viewer.markup import csp_hash, json_island, json_text
from unmask.viewer.page import ICON

# Fields of `SamplingParams` that have a control.
SHOWN = (
    *("strategy", "threshold", "factor", "entropy_bound"),
    *("temperature", "block_size", "denoising_steps", "max_tokens"),
)


def playground(llm: LLM, params: ServerParams) -> Callable[[], Awaitable[Response]]:
    """Return the route of the page of a server.

    Args:
        llm: the served model.
        params: the defaults of requests, which the controls start with, and the key.
    """
    page, policy = _page(llm, params)
    headers = {
        "Content-Security-Policy": policy,
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-cache",
    }

    async def show() -> Response:
        return HTMLResponse(page, headers=headers)

    return show


def _page(llm: LLM, params: ServerParams) -> tuple[str, str]:
    """Return the HTML of the page and its Content Security Policy."""
    defaults = {name: getattr(params.sampling, name) for name in SHOWN}
    spec = llm.model.spec
    facts = {
        "needs_key": bool(params.api_key),
        "strategies": get_args(Strategy),
        "defaults": {**defaults, "block_size": params.sampling.block_size or spec.block_size},
        "mask_id": spec.mask_id,
    }
    style = player.source("theme.css") + _source("playground.css")
    body = _source("playground_parts.js") + _source("playground.js")
    scripts = (player.player_script(), f'"use strict";\n(() => {{\n{body}}})();\n')
    tags = "".join(f"<script>{script}</script>" for script in scripts)
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><title>unmask playground</title>'
        f'<link rel="icon" href="{ICON}"><style>{style}</style></head>\n'
        f"<body>\n{_source('playground.html')}{json_island('facts', json_text(facts))}{tags}\n"
        "</body>\n</html>\n"
    )
    policy = (
        "default-src 'none'",
        f"script-src {' '.join(map(csp_hash, scripts))}",
        f"style-src {csp_hash(style)}",
        "connect-src 'self'",
        "img-src data:",  # the icon, and the player's export of a picture
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",  # no text is ever parsed as HTML
    )
    return page, "; ".join(policy)


def _source(name: str) -> str:
    return files("unmask.server").joinpath(name).read_text(encoding="utf-8")
