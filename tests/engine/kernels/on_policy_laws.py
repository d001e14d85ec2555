"""Engine and learner on the Triton programs: not a bit between their log-probabilities.

Not collected: `test_on_policy.py` runs this file in a process of its own (see `kernel_laws.py`).
"""

import os

import pytest
import torch

from tests.engine.writers import Ask, by_engine
from tests.invariants.conventions import TOYS
from tests.invariants.test_law_5_engine_logprobs_are_learner_logprobs import gap
from tests.toy import toy_model
from unmask.engine.engine import Engine
from unmask.engine.options import EngineParams
from unmask.models.batch_invariant import linear_by_program, make_batch_invariant
from unmask.models.transformer import Model
from unmask.sampling_params import SamplingParams

# The interpreter takes half a minute for one; fp32 and full attention are in the laws of the programs there.
ON_GPU = pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="takes long")
DEVICE = torch.device("cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda")


def asks() -> list[Ask]:
    """Return greedy and sampled requests; two share a prompt of more than a page."""
    shared = [2 + i % 7 for i in range(69)]
    return [
        (shared, SamplingParams(max_tokens=4, temperature=0.0, denoising_steps=2)),
        (shared, SamplingParams(max_tokens=7, temperature=1.0, denoising_steps=2, seed=1)),
        ([3, 4, 5], SamplingParams(max_tokens=6, temperature=0.5, strategy="dynamic", seed=2)),
    ]


def make(name: str, dtype: torch.dtype) -> Model:
    """Return a toy whose widths the programs take."""
    model = toy_model(1, dtype, num_heads=2, num_kv_heads=1, head_width=16, **TOYS[name]).to(DEVICE)
    make_batch_invariant(model)
    assert model.head.projection.multiply is linear_by_program
    return model


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("block-causal", torch.bfloat16),
        pytest.param("full", torch.float32, marks=ON_GPU),
    ],
    ids=str,
)
def test_the_learner_has_the_engines_bits(name: str, dtype: torch.dtype) -> None:
    model = make(name, dtype)
    assert Engine(model).attention == "kernel"
    together = by_engine(model, asks())
    params = EngineParams(max_sequences=1, row_budget=40, fuses_commit=False)
    (alone,) = by_engine(model, asks()[1:2], params)
    assert alone.canvas_ids == together[1].canvas_ids
    assert alone.behavior_logprobs == together[1].behavior_logprobs
    found = gap(model, together, 170)  # several packs
    assert len(found) >= 15
    assert not found.any()
