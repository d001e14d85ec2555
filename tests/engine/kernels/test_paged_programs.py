"""The Triton programs keep their laws in the interpreter and on a GPU, and compile for one that is not there."""

import os
import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from packaging.version import Version

from tests.architecture.source import ROOT

LAWS = Path(__file__).with_name("kernel_laws.py")

pytestmark = pytest.mark.skipif(
    find_spec("triton") is None,
    reason="triton is not installed (700 MB): pip install -c constraints.txt -e '.[kernels]'",
)

# One shape of each program, as an engine on an H100 or H200 would ask for it.
COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from unmask.engine.kernels import paged_programs as programs

def compile(program, constants, types, num_warps=4, num_stages=5):
    names = program.arg_names
    signature = {name: "constexpr" if name in constants else types.get(name, "i32") for name in names}
    aligned = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(names) if name not in constants}
    source = ASTSource(program, signature, {(names.index(n),): c for n, c in constants.items()}, aligned)
    options = {"num_warps": num_warps, "num_stages": num_stages}
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)

types = {name: "*bf16" for name in ("q", "keys", "values", "out", "k", "v")}
types |= {name: "*fp32" for name in ("peaks", "totals", "mixtures")} | {"scale": "fp32"}
types |= {name: "*i32" for name in ("table", "limit", "tile_sequence", "tile_first", "tile_count")}
types |= {"written": "*i64"}
wide = {"WIDTH": 128, "PADDED_WIDTH": 128}
group = {"HEADS": 4, "PADDED_HEADS": 4}
tile = {"RATIO": 4, "PAGE": 64, "KEYS": 64, "CHUNK": 512, "WIDENS": False}
for is_split in (False, True):
    kernel = compile(programs.attend_tile, {**wide, **tile, "FOLD": 32, "IS_SPLIT": is_split}, types)
    assert "mma.sync" in kernel.asm["ptx"] and "cp.async" in kernel.asm["ptx"]
    # Two programs share a multiprocessor.
    assert kernel.metadata.shared <= 227 * 1024 // 2, kernel.metadata.shared
compile(programs.combine_chunks, {**wide, **group, "CHUNK": 512}, types)
compile(programs.write_row, {**wide, **group, "PAGE": 64}, types)
"""


def run_child(*command: str, **environment: str) -> None:
    """Run Python in a process that chooses for itself whether triton interprets."""
    inherited = {name: x for name, x in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, *command],
        env={**inherited, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(
    find_spec("triton") is not None and Version(version("triton")) < Version("3.7"),
    reason="the interpreter of triton below 3.7 does not work with numpy 2.4",
)
def test_laws_hold_in_the_interpreter() -> None:
    command = ("-m", "pytest", "-p", "no:xdist", "-p", "no:cacheprovider", "-x", str(LAWS))
    run_child(*command, TRITON_INTERPRET="1", CUDA_VISIBLE_DEVICES="")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_laws_hold_on_the_gpu() -> None:
    run_child("-m", "pytest", "-p", "no:xdist", "-p", "no:cacheprovider", "-x", str(LAWS))


def test_programs_compile_without_a_gpu(tmp_path: Path) -> None:
    (tmp_path / "compile_programs.py").write_text(COMPILE)
    run_child(str(tmp_path / "compile_programs.py"), TRITON_CACHE_DIR=str(tmp_path))
