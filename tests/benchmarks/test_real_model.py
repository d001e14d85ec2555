"""The whole way of a published model: on a toy GGUF file, and the real weights against `transformers`."""

import json
import os
from pathlib import Path

import pytest

from tests.forked_python import run_python
from tests.toy_gguf import toy_gguf

pytest.importorskip("gguf")
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
CACHE = Path(os.environ.get("UNMASK_CACHE", "~/.cache/unmask")).expanduser() / "real-model"
# Of fp32 logits with a standard deviation of 8; 6e-5 and 9e-5 were seen.
LARGEST_GAP = 5e-4


# A command is a process of its own here too, but not one that imports torch again.
FORKING = """
import os, sys
import real_model
from unmask.cli.main import main

def unmask(*words):
    sys.argv = ["unmask", *map(str, words)]
    print("$", *sys.argv, flush=True)
    if not (process := os.fork()):
        main()
    assert os.waitpid(process, 0)[1] == 0

real_model.unmask = unmask
real_model.main()
"""


def run(code: list[str], cache: Path) -> str:
    done = run_python(code, BENCHMARKS, os.environ | {"UNMASK_CACHE": str(cache)})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_stage_runs_on_a_toy(tmp_path: Path) -> None:
    (tmp_path / "real-model").mkdir()
    toy_gguf(tmp_path / "real-model" / GGUF, "Llama", pre="smollm")
    out = tmp_path / "result.json"
    printed = run(["-c", FORKING, "--smoke", "--out", str(out)], tmp_path)
    assert [line.split()[2] for line in printed.splitlines() if line.startswith("$ ")] == [
        *("convert", "convert", "eval", "sft", "eval", "rl", "eval", "inspect", "generate")
    ]
    result = json.loads(out.read_text())
    assert result["parity"]["largest_gap"] < 1e-4
    assert result["parity"]["answer"] == result["parity"]["answer_of_transformers"]
    for kind in ("sft", "rl"):
        assert len(result[kind]["steps"]) == 1
        assert result[kind]["evaluation"]["samplings"]["dynamic"]["n"] == 2


@pytest.mark.skipif(not (CACHE / GGUF).is_file(), reason=f"{CACHE / GGUF}: run `make real-model`")
def test_the_real_weights_have_the_logits_of_transformers(tmp_path: Path) -> None:
    """Both are made of the cached file, so that the conversion is that of this revision."""
    program = f"""
import json
from pathlib import Path
from real_parity import parity
from unmask.checkpoints.convert import convert, unpack_gguf
source, place = Path({str(CACHE / GGUF)!r}), Path({str(tmp_path)!r})
unpack_gguf(source, place / "plain")
convert(source, place / "start", "sdar")
print(json.dumps(parity(place / "plain", place / "start")))
"""
    *_, last = run(["-c", program], CACHE.parent).splitlines()
    found = json.loads(last)
    assert found["largest_gap"] < LARGEST_GAP
    assert found["logits_std"] > 5
    assert found["answer"] == found["answer_of_transformers"] == "The capital of France is Paris."
