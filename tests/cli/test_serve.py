"""`unmask serve` as a process: it serves, ends running requests after SIGTERM, and refuses in one line."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from openai import OpenAI

from tests.toy import toy_checkpoint
from unmask.cli.serve import serve
from unmask.engine.llm import LLM
from unmask.types import SamplingParams


def start(*words: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "unmask", "serve", *words]
    # Its own environment: a key of the machine's user must not reach the test.
    environment = {**os.environ, "UNMASK_API_KEY": ""}
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)


def test_running_requests_end_after_sigterm(tmp_path: Path) -> None:
    directory = toy_checkpoint(tmp_path / "toy", max_length=256)
    with start(str(directory), "--port", "0", "--name", "toy", "--device", "cpu") as process:
        assert process.stderr is not None
        found = re.fullmatch(r"toy at (http://127.0.0.1:\d+/v1)\n", process.stderr.readline())
        assert found
        client = OpenAI(base_url=found[1], api_key="none", max_retries=0)
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
        assert process.wait(30) == -signal.SIGTERM
        assert process.stderr.read() == ""
    sampling = SamplingParams(max_tokens=200, seed=3, stop_token_ids=())
    assert text == LLM(directory).generate(["1+2="], sampling)[0].text


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
