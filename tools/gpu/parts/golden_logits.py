"""The logits of every family against those that its published code gave, recorded on a CPU in fp32.

Checkpoints and recordings are those of `tests/golden`: random models of the published architectures.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from tools.gpu.part import Outcome, Part, Setting
from tools.gpu.small_models import FORMATS, difference
from unmask.checkpoints.checkpoint import load_model
from unmask.models.families import families

GOLDEN = Path(__file__).parents[3] / "tests" / "golden"
KINDS = ("plain", "allowed", "fdv2_block")  # one dense forward pass each
# Largest difference in fp32, where the logits have a standard deviation of about 6; mean difference in bf16 as
# a share of that deviation. Another choice of experts in bf16 is a large difference, but right.
LARGEST, MEAN, MEAN_WITH_EXPERTS = 2e-3, 0.05, 0.3


def run(setting: Setting) -> Outcome:
    """Compare all families in both number formats."""
    figures: dict[str, Any] = {}
    passed = True
    # Families with a vision side are recorded about images: `tests/models/vision`.
    for family in (family for family in families() if family.tiny.vision is None):
        for name, dtype in FORMATS.items():
            found = family_difference(family.name, dtype, setting)
            figures[f"{family.name} {name}"] = found
            if name == "fp32":
                passed &= found["max"] <= LARGEST
            else:
                share = MEAN_WITH_EXPERTS if found["has_experts"] else MEAN
                passed &= found["mean"] <= share * found["std"]
    fp32 = max(x["max"] for key, x in figures.items() if key.endswith("fp32"))
    bf16 = max(x["mean"] / x["std"] for key, x in figures.items() if key.endswith("bf16"))
    summary = f"fp32 within {fp32:.1e}, bf16 {bf16:.2%} of their deviation on average"
    return Outcome(summary, passed, figures)


@torch.no_grad()
def family_difference(family: str, dtype: torch.dtype, setting: Setting) -> dict[str, Any]:
    """Return the differences of all recorded forward passes of a family in a number format."""
    folder = GOLDEN / family
    tensors = load_file(folder / "expected.safetensors")
    mask_id = json.loads((folder / "expected_generation.json").read_text())[0]["settings"][
        "mask_id"
    ]
    cases = json.loads((folder / "cases.json").read_text())["cases"]
    ours: list[Tensor] = []
    theirs: list[Tensor] = []
    model = load_model(folder, setting.device, dtype, mask_id)
    for case in cases:
        if case["kind"] not in KINDS:
            continue
        recorded = {
            name: tensors[f"{case['name']}/{name}"] for name in (*case["inputs"], *case["outputs"])
        }
        logits = forward(model, recorded, setting.device)
        is_text = recorded.get("valid", torch.ones(logits.shape[:-1])).bool()
        ours.append(logits[is_text].flatten())
        theirs.append(recorded["logits"][is_text].flatten())
    expected = torch.cat(theirs)
    return {
        **difference(torch.cat(ours), expected),
        "std": float(expected.std()),
        "cases": len(ours),
        "has_experts": model.spec.moe is not None,
    }


def forward(model: Any, recorded: dict[str, Tensor], device: torch.device) -> Tensor:
    """Return the logits of a recorded input, on the CPU, under its own mask."""
    given = {name: tensor.to(device) for name, tensor in recorded.items()}
    allowed = None
    if "allowed_mask" in given:
        allowed = given["allowed_mask"][:, 0]
    elif "attention_mask" in given:
        keys = given["attention_mask"].bool()
        allowed = keys[:, None, :].expand(-1, keys.shape[1], -1)
    return model.logits(given["input_ids"], given.get("position_ids"), allowed).cpu()


# Eight families, two formats, about six small passes each: 10 s, most of them loading.
PART = Part("logits of every family against its published code", "correctness", run, limit_s=40)
