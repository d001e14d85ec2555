"""Engine and learner agree to the bit on the Triton programs, in the interpreter and on a GPU."""

from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from packaging.version import Version

from tests.engine.kernels.test_paged_programs import run_child

LAWS = Path(__file__).with_name("on_policy_laws.py")
PYTEST = ("-m", "pytest", "-p", "no:xdist", "-p", "no:cacheprovider", "-x", str(LAWS))


@pytest.mark.skipif(
    find_spec("triton") is None or Version(version("triton")) < Version("3.7"),
    reason="no triton, or one below 3.7, whose interpreter does not work with numpy 2.4",
)
def test_laws_hold_in_the_interpreter() -> None:
    run_child(*PYTEST, TRITON_INTERPRET="1", CUDA_VISIBLE_DEVICES="")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_laws_hold_on_the_gpu() -> None:
    run_child(*PYTEST)
