"""Judges that send their answer byte by byte or nest it too deeply, through a run of `unmask rl`."""

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cases.command import refused, tiny_model, unmask

PIECES, EVERY_S = 40, 0.25


class Endpoint:
    """A server on loopback that answers every request with the same bytes, then drips others."""

    def __init__(self, first: bytes, drip: bytes) -> None:
        self.first, self.drip = first, drip
        self.dripped = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1"
        self._end = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.recv(1 << 16)
            connection.sendall(self.first)
            for number in range(PIECES if self.drip else 0):
                connection.sendall(self.drip)
                self.dripped = max(self.dripped, number + 1)
                if self._end.wait(EVERY_S):
                    return

    def close(self) -> None:
        self._end.set()
        self._socket.close()


@pytest.fixture
def run_words(tmp_path: Path) -> Iterator[list[str]]:
    questions = tmp_path / "questions.jsonl"
    record = {"question": "1+1=", "ground_truth_answer": "2"}
    questions.write_text(json.dumps(record))
    yield [
        *("rl", f"model.path={tiny_model(tmp_path / 'model')}", f"run.dir={tmp_path / 'run'}"),
        *("task.kind=json", f"task.train={questions}", "steps=1", "eval.problems=0"),
        *("rollout.prompts=1", "rollout.responses=2", "sampling.max_tokens=8"),
    ]


def reward_term(url: str) -> str:
    endpoint = f'{{model = "m", base_url = "{url}", timeout_s = 1.0, retries = 0}}'
    return f'reward=[{{kind = "judge", endpoint = {endpoint}}}]'


@pytest.mark.parametrize(
    ("first", "drip"),
    [
        (b"HTTP/1.1 200 ", b"O"),
        (b"HTTP/1.1 200 OK\r\n", b"X: a\r\n"),
        (b"HTTP/1.1 500 X\r\nContent-Length: 300\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 X\r\nContent-Length: 300\r\n\r\n", b"x"),
    ],
    ids=["status line", "headers", "body of a 500", "body of a 200"],
)
def test_the_time_limit_of_a_judge_holds_whatever_drips(
    first: bytes, drip: bytes, run_words: list[str]
) -> None:
    endpoint = Endpoint(first, drip)
    refused(unmask(*run_words, reward_term(endpoint.url)))
    endpoint.close()
    # A limit of 1 s is 4 pieces; without one all 40 are taken.
    assert endpoint.dripped < PIECES / 2


def test_a_reply_of_nested_brackets_is_no_reply(run_words: list[str]) -> None:
    body = b"[" * 20_000
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body)
    endpoint = Endpoint(head + body, b"")
    refused(unmask(*run_words, reward_term(endpoint.url)))
    endpoint.close()
