"""Requests as the sampler sees them."""

from typing import Any

import torch

from unmask.diffusion.sampling_tensors import Rules
from unmask.types import SamplingParams


def rules(*changes: dict[str, Any]) -> Rules:
    """Return the rules of one request per dict of changes; blocks have four slots."""
    requests = [SamplingParams(**{"block_size": 4, **change}) for change in changes]
    return Rules.of(requests, torch.device("cpu"))
