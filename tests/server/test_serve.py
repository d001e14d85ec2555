"""The program: requests that do not end within the limit of a shutdown are ended."""

import time
from pathlib import Path
from typing import Any

import pytest

from tests.server.served import HTTP, NAME, served


def test_a_shutdown_takes_no_longer_than_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body: dict[str, Any] = {"model": NAME, "prompt": "1", "max_tokens": 250, "stream": True}
    with served(tmp_path, shutdown_seconds=1) as running:
        llm = running.engine.llm
        tick = llm.tick

        def slowly() -> Any:
            time.sleep(0.2)
            return tick()

        monkeypatch.setattr(llm, "tick", slowly)
        address = f"{running.url}/v1/completions"
        with HTTP.stream("POST", address, json={**body, "stop_token_ids": []}) as stream:
            next(stream.iter_raw())
            running.stop()
            assert not running.engine.is_alive
        assert llm.engine.load.pages == 0
