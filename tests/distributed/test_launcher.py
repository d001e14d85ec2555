"""The real launchers: `--nproc`, torchrun that starts a run again, and torchrun on two hosts."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.architecture.source import ROOT
from tests.end_to_end.real_command import rl_words, train
from tests.trainers.breaking import VARIABLE
from tests.trainers.toy_runs import metrics
from unmask.trainers.start import checkpoints, step_of

TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
LIMIT_S = 240


def environment(**variables: str) -> dict[str, str]:
    paths = [str(ROOT), *(path for path in sys.path if path)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **variables}


def run(command: Sequence[str], **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


def test_nproc_hands_a_signal_on_and_reports_once(tmp_path: Path) -> None:
    words = rl_words(tmp_path, "steps=60", "minibatches=2")
    command = [sys.executable, "-m", "unmask", *words, "--nproc", "2"]
    process = subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    log, until = tmp_path / "run" / "metrics.jsonl", time.monotonic() + LIMIT_S
    while not (log.exists() and log.read_bytes().count(b"\n") >= 2):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    out, text = process.communicate(timeout=LIMIT_S)
    assert (process.returncode, out) == (143, ""), text
    lines = [line for line in text.splitlines() if not line.startswith(("RL ", "alarm "))]
    (line,) = lines
    last = step_of(checkpoints(tmp_path / "run")[-1])
    assert line.startswith(
        f"stopped by SIGTERM; the state of step {last} is kept; resume with: unmask rl "
    )
    assert line.endswith(" --nproc 2 --resume")
    assert train([*words, f"steps={last + 1}"]).is_dir()  # one process goes on


def test_torchrun_starts_a_run_again_from_its_last_checkpoint(tmp_path: Path) -> None:
    """Of the three prompts of a step rank 0 grades two with four responses each: it is killed in step 3."""
    words = rl_words(tmp_path, "steps=4", "save_every=1")
    command = [*TORCHRUN, "--standalone", "--nproc-per-node=2", "--max-restarts=1", "-m", "unmask"]
    done = run([*command, *words], **{VARIABLE: "SIGKILL:20"})
    assert done.returncode == 0, done.stderr
    assert "exitcode: -9" in done.stderr
    assert [line["step"] for line in metrics(tmp_path / "run")] == [1, 2, 3, 4]
    times = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert len(times["resumed"]) == 1


@contextmanager
def two_hosts(name: str) -> Generator[list[list[str]], None, None]:
    """Yield the beginnings of commands on two hosts: network namespaces, joined by a cable of their own."""
    names, link = [f"{name}{n}" for n in (0, 1)], [f"{name}v{n}" for n in (0, 1)]
    commands = [f"ip netns add {n}" for n in names]
    commands.append(f"ip link add {link[0]} type veth peer name {link[1]}")
    for n in (0, 1):
        inside = f"ip -n {names[n]}"
        commands += [f"ip link set {link[n]} netns {names[n]}", f"{inside} link set lo up"]
        commands += [f"{inside} addr add 10.99.7.{n + 1}/24 dev {link[n]}"]
        commands += [f"{inside} link set {link[n]} up"]
    try:
        for command in commands:
            done = subprocess.run(command.split(), capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"network namespaces are not permitted here: {done.stderr.strip()}")
        yield [
            ["ip", "netns", "exec", n, "env", f"GLOO_SOCKET_IFNAME={v}"]
            for n, v in zip(names, link, strict=True)
        ]
    finally:
        for n in names:
            subprocess.run(["ip", "netns", "del", n], capture_output=True, check=False)


def place(number: int) -> list[str]:
    """Return the options of a host; in a namespace the name of the machine has no address to go by."""
    is_first = str(number == 1).lower()
    return [f"--local-addr=10.99.7.{number}", f"--rdzv-conf=is_host={is_first}"]


def test_torchrun_on_two_hosts(tmp_path: Path) -> None:
    if shutil.which("ip") is None:
        pytest.skip("needs the program ip")
    words = rl_words(tmp_path, "steps=2")
    meeting = ["--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", "--rdzv-id=unmask"]
    meeting.append("--rdzv-endpoint=10.99.7.1:29400")
    with two_hosts(f"un{os.getpid() % 10_000}") as hosts:
        processes = [
            subprocess.Popen(
                [*host, *TORCHRUN, *meeting, *place(n), "-m", "unmask", *words],
                env=environment(),
                stderr=subprocess.PIPE,
                text=True,
            )
            for n, host in enumerate(hosts, start=1)
        ]
        try:
            texts = [process.communicate(timeout=LIMIT_S)[1] for process in processes]
        finally:
            for process in processes:
                process.kill()
    assert [process.returncode for process in processes] == [0, 0], texts
    assert sorted("model: " in text for text in texts) == [False, True]
    assert [line["step"] for line in metrics(tmp_path / "run")] == [1, 2]
