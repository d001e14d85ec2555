"""Running sequences as the engine opens them."""

from typing import Any

import torch

from tests.engine.writers import Ask, prompt_of
from tests.toy import SPEC
from unmask.engine.request import Request, resolve
from unmask.engine.slots import Slots, open_slots
from unmask.types import SamplingParams

MASK = 1


def opened(*asks: Ask) -> Slots:
    requests = [
        Request(i, prompt_of(ids), resolve(prompt_of(ids), sampling, SPEC), page=i + 1)
        for i, (ids, sampling) in enumerate(asks)
    ]
    return open_slots(requests, MASK, torch.device("cpu"))


def ask(num_prompt: int, block: int = 4, max_tokens: int = 8, **changes: Any) -> Ask:
    sampling = SamplingParams(block_size=block, max_tokens=max_tokens, temperature=0, **changes)
    return [5] * num_prompt, sampling
