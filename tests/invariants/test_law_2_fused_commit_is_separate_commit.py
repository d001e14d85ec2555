"""Law 2: committing a block in the first pass of the next one changes no result, in fp32 to the bit."""

from dataclasses import replace

import pytest
import torch

from tests.engine.bits import assert_same, bits_hold
from tests.engine.golden_traces import SDAR
from tests.engine.writers import by_engine, some_asks
from tests.toy import toy_model
from unmask.engine.params import EngineParams
from unmask.models.checkpoint import load_model
from unmask.models.transformer import Model

# Where the CPU does not keep the bits of fp32, fp64 still tells the same tokens.
WEIGHTS = ("toy", "golden", "float64") if bits_hold() else ("float64",)


@pytest.fixture(params=WEIGHTS, scope="module")
def model(request: pytest.FixtureRequest) -> Model:
    if request.param == "golden":
        return load_model(SDAR)
    return toy_model(1, torch.float32 if request.param == "toy" else torch.float64, head_width=16)


@pytest.mark.parametrize("max_slots", [1, 2, 16])
def test_fused_is_separate(model: Model, max_slots: int) -> None:
    asks = some_asks(24)
    fused = by_engine(model, asks, EngineParams(max_slots))
    separate = by_engine(model, asks, EngineParams(max_slots, fuses_commit=False))
    expected = [replace(t, num_forwards=t.num_denoising_steps) for t in separate]
    assert_same(fused, expected, exact=model.dtype == torch.float32)
    assert sum(t.num_forwards for t in separate) > 1.2 * sum(t.num_forwards for t in fused)
