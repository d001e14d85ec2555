"""The program around the application: uvicorn, until SIGTERM or Ctrl-C."""

import uvicorn

from unmask.engine.llm import LLM
from unmask.server.app import build_app
from unmask.server.params import ServerParams


def uvicorn_server(llm: LLM, params: ServerParams) -> uvicorn.Server:
    """Return the server of a model; its `run(sockets=[...])` serves.

    After SIGTERM it takes no connections, and running requests have `params.shutdown_seconds` to end.
    """
    config = uvicorn.Config(
        build_app(llm, params),
        log_level="warning",
        access_log=False,
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=params.shutdown_seconds,
    )
    return uvicorn.Server(config)
