"""A real `unmask rl` that is killed, stopped and resumed ends in the bits of one that is not."""

import random
import shlex
import signal
import time
from collections.abc import Callable
from pathlib import Path

from tests.end_to_end.real_command import end, errors, rl_words, start, train
from tests.forked_python import ForkedPython
from tests.invariants.test_law_6_resume import left_behind

SETTINGS = ["steps=40", "save_every=2", "minibatches=2", "eval.problems=3", "eval.every=5"]
GROWTH = 6  # most steps between the begin of the loop and a kill


def num_lines(run: Path) -> int:
    metrics = run / "metrics.jsonl"
    return metrics.read_bytes().count(b"\n") if metrics.exists() else 0


def wait(process: ForkedPython, happened: Callable[[], bool]) -> None:
    """Wait for something to happen in a process that must not end before."""
    until = time.monotonic() + 60
    while not happened():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < until
        time.sleep(0.003)


def saved(run: Path) -> int:
    """Return the step of the last checkpoint."""
    names = [p.name for p in (run / "checkpoints").glob("step-*") if not p.suffix]
    return max((int(name.removeprefix("step-")) for name in names), default=0)


def end_by(
    number: signal.Signals, run: Path, words: list[str], draw: random.Random
) -> tuple[int, str]:
    """Start, wait for a random number of steps and a moment, and send a signal."""
    process = start([*words, "--resume"])
    goal = saved(run) + draw.randint(1, GROWTH)
    # Steps past the checkpoint are cut off when the loop begins, and then written again.
    wait(process, lambda: num_lines(run) <= saved(run) or saved(run) >= goal)
    wait(process, lambda: num_lines(run) >= goal)
    time.sleep(draw.uniform(0.0, 0.1))
    process.send_signal(number)
    return end(process)


def test_killed_at_random_and_stopped_by_signals_it_is_the_same_run(tmp_path: Path) -> None:
    whole, run = tmp_path / "whole", tmp_path / "parts"
    train(rl_words(tmp_path, *SETTINGS, run="whole"))
    words = rl_words(tmp_path, *SETTINGS, run="parts")

    first = start([*words, "--resume"])  # there is nothing yet: it starts
    wait(first, lambda: (run / "config.json").exists())
    first.kill()  # before the first checkpoint
    assert end(first)[0] == -signal.SIGKILL
    assert saved(run) == 0

    draw = random.Random(0)
    for number, code in (
        (signal.SIGKILL, -signal.SIGKILL),
        (signal.SIGTERM, 128 + signal.SIGTERM),
        (signal.SIGKILL, -signal.SIGKILL),
        (signal.SIGINT, 128 + signal.SIGINT),
    ):
        left, said = end_by(number, run, words, draw)
        assert left == code, said
        if number != signal.SIGKILL:
            (line,) = [line for line in said.splitlines() if line.startswith("stopped by ")]
            assert line.startswith(f"stopped by {number.name}; the state of step {saved(run)} is")
            assert line.endswith(f"; resume with: unmask {shlex.join(words)} --resume")
            assert num_lines(run) - saved(run) in (0, 1)  # 1: a step that had nothing to learn
    assert 0 < saved(run) < 40
    assert end(start([*words, "--resume"]))[0] == 0
    assert left_behind(run) == left_behind(whole)


def test_a_run_is_neither_written_over_nor_changed(tmp_path: Path) -> None:
    words = rl_words(tmp_path, "steps=1")
    train(words)
    before = left_behind_files(tmp_path / "run")
    (line,) = errors(words)
    assert line.startswith(f"run.dir = {tmp_path / 'run'}: is not empty")
    assert "resume it by --resume, give another run.dir=" in line
    (line,) = errors([*words, "--resume", "optimizer.lr=0.5"])
    assert line.startswith(f"optimizer.lr = 0.5: the run in {tmp_path / 'run'} has 0.001; ")
    assert left_behind_files(tmp_path / "run") == before


def left_behind_files(run: Path) -> dict[str, bytes]:
    return {str(p.relative_to(run)): p.read_bytes() for p in run.rglob("*") if p.is_file()}
