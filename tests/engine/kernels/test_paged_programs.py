"""The Triton programs keep their laws in the interpreter and on a GPU, and compile for one that is not there."""

import json
import os
import re
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

# Shapes of real families, by capability: number format, head width, block, query heads per key head. A block
# of 4 is SDAR's, 32 LLaDA2's; 7 heads share keys in Qwen2.5-7B, 8 in the larger Qwen3.
SHAPES = {
    90: [
        *(("bf16", 128, 4, 4), ("bf16", 96, 4, 4), ("bf16", 128, 4, 7)),
        *(("bf16", 128, 32, 8), ("fp32", 128, 32, 8)),
    ],
    80: [("bf16", 128, 32, 8), ("fp32", 128, 32, 8)],
}
# Bytes of shared memory that one program may have.
SHARED = {90: 227 * 1024, 80: 163 * 1024}

COMPILE = """
import json
import sys
from pathlib import Path
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from unmask.engine.kernels import paged_programs as programs
from unmask.engine.kernels.paged_attention import (
    CHUNK, choose_rows_per_tile, folded_rows, shape_of, warps_of
)

capability, shapes = json.loads(sys.argv[1])

def compile(program, constants, number, num_warps=4, num_stages=3):
    tensors = {name: "*" + number for name in ("q", "keys", "values", "out", "k", "v")}
    tensors |= {name: "*fp32" for name in ("peaks", "totals", "mixtures")} | {"scale": "fp32"}
    tensors |= {name: "*i64" for name in ("table", "limit", "written")}
    tensors |= {name: "*i32" for name in ("tile_sequence", "tile_first", "tile_count")}
    names = program.arg_names
    types = {name: "constexpr" if name in constants else tensors.get(name, "i32") for name in names}
    aligned = {
        (i,): [["tt.divisibility", 16]]
        for i, name in enumerate(names)
        if name not in constants and name != "scale"
    }
    source = ASTSource(program, types, {(names.index(n),): c for n, c in constants.items()}, aligned)
    options = {"num_warps": num_warps, "num_stages": num_stages}
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)

for place, (number, width, block, ratio) in enumerate(shapes):
    dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[number]
    padded, keys, stages = shape_of(width, dtype, 64)
    folded = folded_rows(choose_rows_per_tile(2 * block, ratio), ratio)
    wide = {"WIDTH": width, "PADDED_WIDTH": padded}
    tile = {"RATIO": ratio, "PAGE": 64, "KEYS": keys, "CHUNK": CHUNK, "FOLD": folded, "WIDENS": False}
    # The loop over keys is the same with and without a split.
    for is_split in (False, True)[: 1 + (place == 0)]:
        constants = {**wide, **tile, "IS_SPLIT": is_split}
        warps = warps_of(folded, dtype)
        kernel = compile(programs.attend_tile, constants, number, warps, stages)
        Path(f"{place}-{int(is_split)}.cubin").write_bytes(kernel.asm["cubin"])
        has_tensor_cores = "mma" in kernel.asm["ptx"]
        assert has_tensor_cores == (number == "bf16") and "cp.async" in kernel.asm["ptx"]
        print(place, int(is_split), kernel.metadata.shared)
    if place in (1, 2):
        heads = {"HEADS": ratio, "PADDED_HEADS": 1 << (ratio - 1).bit_length()}
        compile(programs.combine_chunks, {**wide, **heads, "CHUNK": CHUNK}, number)
        compile(programs.write_row, {**wide, **heads, "PAGE": 64}, number)
"""


def run_child(*command: str, folder: Path = ROOT, **environment: str) -> str:
    """Run Python in a process that chooses for itself whether triton interprets; return its output."""
    inherited = {name: x for name, x in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, *command],
        env={**inherited, **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


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


def spilled(cubin: Path) -> int:
    """Return the bytes of memory per thread that a program keeps its registers in."""
    spec = find_spec("triton")
    assert spec is not None and spec.origin is not None
    reader = Path(spec.origin).parent / "backends/nvidia/bin/cuobjdump"
    done = subprocess.run(
        [str(reader), "-res-usage", str(cubin)], capture_output=True, text=True, check=True
    )
    return max(int(stack) for stack in re.findall(r"STACK:(\d+)", done.stdout))


@pytest.mark.parametrize("capability", [90, 80])
def test_programs_compile_without_a_gpu_and_fit(capability: int, tmp_path: Path) -> None:
    """Within shared memory, so that bf16 leaves room for two programs where a tile is one block of 4."""
    (tmp_path / "compile_programs.py").write_text(COMPILE)
    shapes = SHAPES[capability]
    given = json.dumps([capability, shapes])
    script = str(tmp_path / "compile_programs.py")
    output = run_child(script, given, folder=tmp_path, TRITON_CACHE_DIR=str(tmp_path))
    lines = [[int(x) for x in line.split()] for line in output.splitlines()]
    assert len(lines) == len(shapes) + 1
    for place, is_split, shared in lines:
        number, _, block, _ = shapes[place]
        programs = 2 if number == "bf16" and block == 4 and capability == 90 else 1
        assert shared <= SHARED[capability] // programs, shapes[place]
        # A few registers may move to memory; where the compiler gives up it is kilobytes.
        assert spilled(tmp_path / f"{place}-{is_split}.cubin") <= 64, shapes[place]
