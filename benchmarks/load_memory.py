"""Memory that a fresh process takes to load a checkpoint, as a multiple of its weights.

    python benchmarks/load_memory.py

Measured is *anonymous* memory (`RssAnon` of `/proc/PID/status`): what the process allocated itself.
Pages of the mapped file are left out, because the kernel can reclaim them at any time. The parent
reads it every two milliseconds while the child loads; the child's own reading at the end is a lower
bound. Two quotients: `total` includes the interpreter and torch, `above_import` only what loading
added.

Writes `benchmarks/results/load_memory.json`; without `--smoke` a total above 1.15 fails the run.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from setting import RESULTS, describe_machine, write_result

from unmask.checkpoints.checkpoint import save_model
from unmask.checkpoints.tokenizer import character_tokenizer
from unmask.models.spec import ModelSpec, MoESpec
from unmask.models.transformer import Model

LIMIT = 1.15
SAMPLE_S = 0.002
MIB = 2**20

# Run in a fresh process: the model's directory and the number format are its arguments.
LOAD = """
import json, sys, time, torch
from unmask.checkpoints.checkpoint import load_model
def anonymous():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))
imported, start = anonymous(), time.perf_counter()
model = load_model(sys.argv[1], dtype=getattr(torch, sys.argv[2]))
seconds, loaded = time.perf_counter() - start, anonymous()
weights = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
print(json.dumps(dict(imported=imported, loaded=loaded, weights=weights, seconds=seconds)))
"""

DENSE = ModelSpec(
    family="sdar",
    num_layers=1,
    width=1024,
    num_heads=16,
    num_kv_heads=8,
    head_width=128,
    ffn_width=4096,
    vocab_size=32768,
    max_length=4096,
    rope_theta=1e6,
    norm_eps=1e-6,
    has_qkv_bias=False,
    has_qk_norm=True,
    is_tied=False,
    mask_id=32767,
    block_size=4,
    num_drawable=32768,
    eos_ids=(0,),
)
EXPERTS = MoESpec(
    layers=(),
    num_experts=64,
    num_active=8,
    width=256,
    shared_width=256,
    router="grouped_sigmoid",
    renormalises=True,
    scale=2.5,
    num_groups=8,
    num_active_groups=4,
    has_bias=True,
)


@dataclass(frozen=True, slots=True)
class Workload:
    """One checkpoint and how it is loaded.

    Attributes:
        spec: its shape; layers are added until the weights in memory have the size asked for.
        stored: number format in the files.
        loaded: number format in memory.
        num_shards: about how many files.
        has_tokenizer: whether the directory has tokenizer files, which loading reads too.
    """

    spec: ModelSpec
    stored: torch.dtype = torch.bfloat16
    loaded: torch.dtype = torch.bfloat16
    num_shards: int = 1
    has_tokenizer: bool = False


WORKLOADS = {
    "one file": Workload(DENSE),
    "shards": Workload(DENSE, num_shards=6),
    "fp32 to bf16": Workload(DENSE, stored=torch.float32, num_shards=3),
    "experts": Workload(replace(DENSE, family="llada2", moe=EXPERTS), num_shards=6),
    "one file and a tokenizer": Workload(DENSE, has_tokenizer=True),
}
SMALL = replace(DENSE, width=64, ffn_width=128, vocab_size=512, num_drawable=512, mask_id=511)
SMOKE = {
    "shards": Workload(SMALL, num_shards=3),
    "experts": Workload(replace(SMALL, family="llada2", moe=EXPERTS)),
}


def main() -> None:
    """Load every checkpoint in a process of its own; exit code 1 if one took too much."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gib", type=float, default=1.0, help="size of the weights in memory")
    parser.add_argument("--smoke", action="store_true", help="small checkpoints, no verdict")
    parser.add_argument("--out", type=Path, help="where the JSON goes")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    workloads = SMOKE if arguments.smoke else WORKLOADS
    size = 0 if arguments.smoke else int(arguments.gib * 2**30)
    report: dict[str, Any] = {"machine": describe_machine(), "limit": LIMIT, "workloads": {}}
    print("| checkpoint | weights MiB | import MiB | peak MiB | total | above import | s |")
    print("|---|---|---|---|---|---|---|")
    for name, workload in workloads.items():
        result = report["workloads"][name] = _measure(workload, size)
        print(f"| {name} | {' | '.join(str(value) for value in result.values())} |", flush=True)
    report["holds"] = all(measured["total"] <= LIMIT for measured in report["workloads"].values())
    default = None if arguments.smoke else RESULTS / "load_memory.json"
    write_result(arguments.out or default, report)
    sys.exit(0 if report["holds"] or arguments.smoke else 1)


def _measure(workload: Workload, size: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as place:
        _write(workload, size, Path(place))
        dtype = str(workload.loaded).removeprefix("torch.")
        command = [sys.executable, "-c", LOAD, place, dtype]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        peak = 0
        while child.poll() is None:
            peak = max(peak, _anonymous_bytes(child.pid))
            time.sleep(SAMPLE_S)
        assert child.stdout is not None
        said = json.loads(child.stdout.read())
    peak = max(peak, said["loaded"])
    return {
        "weights_mib": round(said["weights"] / MIB, 1),
        "import_mib": round(said["imported"] / MIB, 1),
        "peak_mib": round(peak / MIB, 1),
        "total": round(peak / said["weights"], 4),
        "above_import": round((peak - said["imported"]) / said["weights"], 4),
        "seconds": round(said["seconds"], 2),
    }


def _write(workload: Workload, size: int, directory: Path) -> None:
    """Write a random checkpoint whose weights take `size` bytes in memory, or the least that is more."""
    spec = _deep(workload.spec, 2)
    while _num_weights(spec) * workload.loaded.itemsize < size:
        spec = _deep(workload.spec, spec.num_layers + 1)
    torch.set_default_dtype(workload.stored)
    model = Model(spec)
    torch.set_default_dtype(torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-1, 1)
    num_bytes = _num_weights(spec) * workload.stored.itemsize
    shard = num_bytes if workload.num_shards == 1 else num_bytes // workload.num_shards
    save_model(model, directory, max_shard_bytes=shard + MIB)
    if workload.has_tokenizer:
        character_tokenizer("".join(map(chr, range(1000, 1500))), directory)


def _deep(spec: ModelSpec, num_layers: int) -> ModelSpec:
    if spec.moe is None:
        return replace(spec, num_layers=num_layers)
    moe = replace(spec.moe, layers=tuple(range(1, num_layers)))
    return replace(spec, num_layers=num_layers, moe=moe)


def _num_weights(spec: ModelSpec) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in Model(spec).parameters())


def _anonymous_bytes(pid: int) -> int:
    """Return the anonymous memory of a process; 0 when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon")), 0)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
