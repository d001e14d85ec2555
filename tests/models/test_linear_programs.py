"""The Triton program of products keeps its laws in the interpreter, and compiles for a GPU that is not there."""

from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from packaging.version import Version

from tests.architecture.source import ROOT
from tests.engine.kernels.test_paged_programs import run_child, spilled

LAWS = Path(__file__).with_name("program_laws.py")
PYTEST = ("-m", "pytest", "-p", "no:xdist", "-p", "no:cacheprovider", "-x", str(LAWS))

pytestmark = pytest.mark.skipif(
    find_spec("triton") is None,
    reason="triton is not installed (700 MB): pip install -c constraints.txt -e '.[kernels]'",
)

# Widths of 4B and 8B models: projections, feed-forward and head.
COMPILE = """
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from unmask.models.batch_invariant import shape_of
from unmask.models.linear_programs import multiply_tile

names = multiply_tile.arg_names
for dtype, code in ((torch.bfloat16, "bf16"), (torch.float32, "fp32")):
    for width, out in ((2560, 1024), (12288, 4096), (2560, 151936)):
        shape = shape_of(out, dtype)
        constants = dict(
            WIDTH_IN=width, WIDTH_OUT=out, ROWS=shape.rows, COLUMNS=shape.columns, TERMS=shape.terms,
            NEIGHBOURS=8, HAS_BIAS=False, WIDENS=False,
        )
        signature = {n: "constexpr" if n in constants else f"*{code}" for n in names} | {"num_rows": "i32"}
        aligned = {(i,): [["tt.divisibility", 16]] for i in range(4)}
        source = ASTSource(
            multiply_tile, signature, {(names.index(n),): c for n, c in constants.items()}, aligned
        )
        options = {"num_warps": shape.num_warps, "num_stages": shape.num_stages}
        kernel = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
        assert kernel.metadata.shared <= 227 * 1024, (width, out, kernel.metadata.shared)
        ptx = kernel.asm["ptx"]
        assert "cp.async" in ptx and "tf32" not in ptx, (width, out)
        assert ("wgmma" in ptx) == (dtype == torch.bfloat16), (width, out)
        Path(f"{code}-{width}-{out}.cubin").write_bytes(kernel.asm["cubin"])
"""


@pytest.mark.skipif(
    find_spec("triton") is not None and Version(version("triton")) < Version("3.7"),
    reason="the interpreter of triton below 3.7 does not work with numpy 2.4",
)
def test_laws_hold_in_the_interpreter() -> None:
    run_child(*PYTEST, TRITON_INTERPRET="1", CUDA_VISIBLE_DEVICES="")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_laws_hold_on_the_gpu() -> None:
    run_child(*PYTEST)


def test_programs_compile_without_a_gpu(tmp_path: Path) -> None:
    (tmp_path / "compile_programs.py").write_text(COMPILE)
    script = str(tmp_path / "compile_programs.py")
    run_child(script, folder=tmp_path, PYTHONPATH=str(ROOT / "src"), TRITON_CACHE_DIR=str(tmp_path))
    programs = list(tmp_path.glob("*.cubin"))
    assert len(programs) == 6
    assert not any(spilled(program) for program in programs), "registers move to memory"
