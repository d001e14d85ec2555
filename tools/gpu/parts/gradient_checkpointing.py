"""Gradient checkpointing: the same gradients to the bit, for less memory."""

import gc
from typing import Any

import torch

from tools.gpu.part import Outcome, Part, Setting
from tools.gpu.small_models import FORMATS, gradients_of, small_model, training_pack, worst


def run(setting: Setting) -> Outcome:
    """Take the gradients of one pack with and without, in both formats."""
    figures: dict[str, Any] = {}
    passed = True
    for name, dtype in FORMATS.items():
        model = small_model(setting, dtype)
        pack = training_pack(setting, model, 256 if setting.is_tiny else 8192)
        gradients_of(model, pack)  # compiles the kernels, outside the measured memory
        found, peaks = [], []
        for is_on in (False, True):
            model.backbone.gradient_checkpointing = is_on
            start_peak(setting.device)
            found.append(list(gradients_of(model, pack).values()))
            peaks.append(peak_bytes(setting.device))
        pairs = list(zip(*found, strict=True))
        is_same = all(torch.equal(*pair) for pair in pairs)
        largest = worst([a for a, _ in pairs], [b for _, b in pairs])
        figures[name] = {"same_bits": is_same, "difference": largest, "peak_bytes": peaks}
        passed &= is_same and (setting.device.type == "cpu" or peaks[1] < peaks[0])
    shares = (f"{name} {_share(x['peak_bytes'])}" for name, x in figures.items())
    bits = "same bits" if all(x["same_bits"] for x in figures.values()) else "other bits"
    return Outcome(f"{bits}; peak memory {', '.join(shares)}", passed, figures)


def start_peak(device: torch.device) -> None:
    """Begin to record the peak of the device's memory."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_bytes(device: torch.device) -> int:
    """Return the peak of the device's memory; 0 on a CPU, where it is not recorded."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0


def _share(peaks: list[int]) -> str:
    return f"{peaks[1] / peaks[0]:.0%}" if peaks[0] else "not measured"


PART = Part("gradient checkpointing: same gradients, less memory", "correctness", run, limit_s=40)
