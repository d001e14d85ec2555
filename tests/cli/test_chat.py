"""`unmask chat` as a user meets it: in a pseudo-terminal, and between two pipes."""

import fcntl
import os
import pty
import re
import select
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from tests.cli.test_main import unmask
from tests.toy import toy_checkpoint
from unmask.checkpoints.checkpoint import load_model, save_model
from unmask.runs.print import read_trajectories

# A bell, a single-character control sequence introducer, and digits.
ALPHABET = "\x07\x9b12+="
SHORT = ("--max-tokens", "9", "--temperature", "0")
DEADLINE_S = 120.0  # of a whole conversation on a loaded machine


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model that writes controls, and no end of text, at temperature 0."""
    place = toy_checkpoint(tmp_path_factory.mktemp("toy"), ALPHABET, max_length=50_000)
    edited = load_model(place)
    with torch.no_grad():
        weight = edited.head.projection.weight
        weight[0] = 0
        weight[[2, 3, 5, 6]] = weight[[6, 5, 3, 2]]  # as if they were "+" and "2"
    save_model(edited, place)
    return place


class Terminal:
    """The other side of a pseudo-terminal."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self.output = descriptor, ""

    def wait_for(self, text: str, start: int = 0) -> int:
        """Read until the output behind `start` contains a text; return where it ends."""
        while text not in self.output[start:]:
            ready, _, _ = select.select([self._descriptor], [], [], DEADLINE_S)
            assert ready, f"{text!r} is not in {self.output[start:]!r}"
            self.output += os.read(self._descriptor, 2**16).decode(errors="replace")
        return self.output.index(text, start) + len(text)

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())


@contextmanager
def in_terminal(*words: object) -> Iterator[tuple[Terminal, "subprocess.Popen[bytes]"]]:
    """Run the real command with a pseudo-terminal on all three sides, which sends it Ctrl-C."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TERM": "xterm"}
    process = subprocess.Popen(
        [sys.executable, "-m", "unmask", "chat", *map(str, words)],
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(theirs)
    try:
        yield Terminal(ours), process
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def test_a_conversation_in_a_terminal(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "saved.jsonl"
    with in_terminal(model, *SHORT) as (terminal, process):
        at = terminal.wait_for("> ")
        terminal.type("1+2=\n")
        shown = terminal.wait_for("░", at)
        at = terminal.wait_for("> ", terminal.wait_for("tokens per forward", shown))
        terminal.type("/threshold 7\n")
        at = terminal.wait_for("> ", terminal.wait_for("error: threshold = 7.0: must be", at))
        # An answer without end is stopped, and the next one is written.
        terminal.type("/max_tokens 40000\n")
        at = terminal.wait_for("> ", terminal.wait_for("max_tokens = 40000", at))
        terminal.type("2+1=\n")
        terminal.wait_for("░", at)
        terminal.type("\x03")
        at = terminal.wait_for("> ", terminal.wait_for("stopped", at))
        terminal.type("/max_tokens 5\n")
        at = terminal.wait_for("> ", terminal.wait_for("max_tokens = 5", at))
        terminal.type("1+1=\n")
        at = terminal.wait_for("> ", terminal.wait_for("5 tokens, ", at))
        terminal.type(f"/save {path}\n")
        # Ctrl-D is lost if typed before the prompt puts the terminal into its own mode.
        terminal.wait_for("> ", terminal.wait_for("2 answers in", at))
        terminal.type("\x04")
        assert process.wait(DEADLINE_S) == 0
    answers = [record["text"] for record in read_trajectories(path) or []]
    assert [len(answer) for answer in answers] == [9, 5]
    assert "\x07" in answers[0] and "␇" in terminal.output
    assert not set(terminal.output) & {"\x07", "\x9b"}, "controls of the model reach no terminal"
    assert "\x1b[?25l" in terminal.output, "the cursor is hidden while tokens move"
    assert terminal.output.rindex("\x1b[?25h") > terminal.output.rindex("\x1b[?25l")


def test_between_pipes_it_is_plain_text(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "saved.jsonl"
    words = ["chat", str(model), *SHORT, "--system", "1"]
    lines = f"1+2=\n/max_tokens 5\n\n2=\n/save {path}\n/quit\nnever read\n"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "FORCE_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "unmask", *words],
        env=environment,
        input=lines,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    records = read_trajectories(path) or []
    pictures = {7: "␇", 0x9B: "�"}
    first, second = (record["text"].translate(pictures) for record in records)
    assert done.stdout == f"{first}\nmax_tokens = 5\n{second}\n2 answers in {path}\n"
    assert records[1]["prompt"]["messages"][0] == {"role": "system", "content": "1"}
    assert [line.split()[1] for line in done.stderr.splitlines()[1:]] == ["tokens,", "tokens,"]
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", done.stdout)


def test_between_pipes_an_error_ends_it(model: Path) -> None:
    done = unmask("chat", model / "absent")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: model.path = {model / 'absent'}: no such directory")
