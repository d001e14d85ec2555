"""A server of a toy model on a loopback port, in a thread of the test's process."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import httpx2
from openai import OpenAI

from tests.seeing import make_seeing
from tests.toy import toy_checkpoint
from unmask.engine.llm import LLM
from unmask.engine.options import EngineParams
from unmask.server.engine_thread import EngineThread
from unmask.server.listen import address_of, listen
from unmask.server.params import ServerParams
from unmask.server.serve import uvicorn_server

NAME = "toy"
HTTP = httpx2.Client(timeout=None)  # a busy machine may take long


@dataclass(frozen=True)
class Served:
    """A running server.

    Attributes:
        url: without a path.
        engine: its engine's thread.
        offline: another `LLM` of the same checkpoint.
        key: the server's key.
        stop: stops the server, as SIGTERM does.
    """

    url: str
    engine: EngineThread
    offline: LLM
    key: str
    stop: Callable[[], None]

    def client(self, **options: Any) -> OpenAI:
        """Return a client that does not try again by itself."""
        key = self.key or "none"
        return OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, **options)

    def wait_until_idle(self) -> None:
        """Wait until no response runs; fails after minutes."""
        end = time.monotonic() + 300
        while not self.engine.llm.engine.is_idle or self.engine.num_open:
            assert time.monotonic() < end
            time.sleep(0.005)

    def num_leaked_pages(self) -> int:
        """Return the number of pages in use when nothing runs and no prompt is cached."""
        self.wait_until_idle()
        engine = self.engine.llm.engine
        engine.update_weights(version=engine.policy_version)  # clears the cached prompts
        return engine.load.pages


@contextmanager
def served(
    directory: Path, engine: EngineParams | None = None, sees: bool = False, **params: Any
) -> Iterator[Served]:
    """Serve the toy checkpoint of `directory`, which is written if it is not there; `sees`: it reads images."""
    if not (directory / "config.json").exists():
        toy_checkpoint(directory, max_length=256)
    options = ServerParams(NAME, **params)
    llm, offline = LLM(directory, params=engine), LLM(directory)
    if sees:
        make_seeing(llm)
        make_seeing(offline)
    server = uvicorn_server(llm, options)
    listener = listen("127.0.0.1", 0, False)
    thread = Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()

    def stop() -> None:
        server.should_exit = True
        thread.join()

    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.005)
        state: Any = server.config.app
        yield Served(
            address_of(listener), state.state.server.engine, offline, options.api_key, stop
        )
    finally:
        stop()
