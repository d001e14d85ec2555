"""Memory that a tensor frees stays with the process."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import torch
from unmask.models.cpu.malloc import keep_freed_memory

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1])

{call}
x = torch.ones(6 * 2**20)
held = resident()
del x
print(held - resident())
"""


def pages_returned(call: str) -> int:
    """Return how many of 6,144 pages the system has back once their tensor is gone."""
    command = [sys.executable, "-c", PROGRAM.replace("{call}", call)]
    return int(subprocess.run(command, capture_output=True, check=True, timeout=120).stdout)


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="glibc's allocator alone has the switch"
)
def test_a_freed_tensor_stays_with_the_process() -> None:
    assert pages_returned("keep_freed_memory()") < 100
    assert pages_returned("") > 6000
