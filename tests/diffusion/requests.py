"""Requests as the sampler sees them."""

from typing import Any

import torch

from unmask.diffusion.sampling_tensors import SamplingTensors
from unmask.sampling_params import SamplingParams


def sampling(*changes: dict[str, Any]) -> SamplingTensors:
    """Return the rules of one request per dict of changes; blocks have four positions."""
    requests = [SamplingParams(**{"block_size": 4, **change}) for change in changes]
    return SamplingTensors.of(requests, torch.device("cpu"))
