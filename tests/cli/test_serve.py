"""`unmask serve` as a process: it serves, ends running requests after SIGTERM, and refuses in one line."""

import os
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
from openai import OpenAI

from tests.forked_python import ForkedPython
from tests.toy import toy_checkpoint
from unmask.cli.serve import serve
from unmask.engine.llm import LLM
from unmask.sampling_params import SamplingParams
from unmask.server.listen import address_of, listen


def test_running_requests_end_after_sigterm(tmp_path: Path) -> None:
    directory = toy_checkpoint(tmp_path / "toy", max_length=256)
    with listen("127.0.0.1", 0, False) as listener:
        url, port = address_of(listener), listener.getsockname()[1]
    words = ["serve", directory, "--port", port, "--name", "toy", "--device", "cpu"]
    # A key of the machine's user must not reach the test.
    process = ForkedPython(["-m", "unmask", *words], env={**os.environ, "UNMASK_API_KEY": ""})
    wait_for(url, process)
    client = OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    chunks = client.completions.create(
        model="toy",
        prompt="1+2=",
        max_tokens=200,
        seed=3,
        stream=True,
        extra_body={"stop_token_ids": []},
    )
    text = next(chunks).choices[0].text
    process.send_signal(signal.SIGTERM)
    text += "".join(chunk.choices[0].text for chunk in chunks)
    assert process.communicate(300) == ("", f"toy at {url}/v1, playground at {url}/\n")
    assert process.returncode == -signal.SIGTERM
    sampling = SamplingParams(max_tokens=200, seed=3, stop_token_ids=())
    assert text == LLM(directory).generate(["1+2="], sampling)[0].text


def wait_for(url: str, process: ForkedPython) -> None:
    """Wait until a server answers."""
    while process.poll() is None:
        try:
            httpx2.get(f"{url}/health")
        except httpx2.TransportError:
            time.sleep(0.02)
        else:
            return
    raise AssertionError(process.communicate())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"host": "0.0.0.0"}, "--api-key"),
        ({"updates_weights": True}, "API key"),
        ({"preset": "nothing"}, "preset = 'nothing'"),
        ({"max_body_bytes": 1}, "max_body_bytes = 1"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        serve(str(tmp_path), **options)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(name: str, *_: Any) -> None:
        if name == "unmask.server.serve":
            raise ModuleNotFoundError(name="uvicorn")

    monkeypatch.delitem(sys.modules, "unmask.server.serve", raising=False)
    monkeypatch.setattr(sys, "meta_path", [SimpleNamespace(find_spec=find), *sys.meta_path])
    with pytest.raises(ValueError, match=r"needs uvicorn.*unmask\[serve\]"):
        serve("model", port=0)
