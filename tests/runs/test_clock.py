"""Stages add up, waiting is no CPU time, and a worker's CPU time counts."""

import subprocess
import sys
import time

import pytest

from unmask.runs.clock import Clock, Seconds

WORK = "import time\nwhile time.process_time() < 0.2: pass"


def test_stages_add_up() -> None:
    clock = Clock()
    for _ in range(2):
        with clock("sleep"):
            time.sleep(0.05)
    assert clock.stages["sleep"].wall >= 0.1
    assert clock.stages["sleep"].cpu < 0.1
    assert set(clock.numbers()) == {"sleep_wall_s", "sleep_cpu_s"}


def test_children_that_ended_are_counted() -> None:
    clock = Clock()
    with clock("worker"):
        subprocess.run([sys.executable, "-c", WORK], check=True)
    assert clock.stages["worker"].cpu >= 0.15


def test_time_before_an_exception_counts() -> None:
    clock = Clock()
    with pytest.raises(RuntimeError), clock("fails"):
        raise RuntimeError
    assert "fails" in clock.stages


def test_the_time_of_several_processes_is_that_of_the_slowest() -> None:
    first = {"rollout": Seconds(3.0, 2.0), "update": Seconds(1.0, 1.0)}
    second = {"rollout": Seconds(2.0, 2.5)}
    found = Clock.of_ranks([first, second]).stages
    assert found == {"rollout": Seconds(3.0, 4.5), "update": Seconds(1.0, 1.0)}
