"""The engine on prompts with images: published traces, with caches where the published samplers have one.

Left out, by name: traces that rank by the entropy itself (`gen3`), and those of LLaDA-V's cache that is computed anew
within a block (`fast0`, `fast2`), which the engine does not offer.
"""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.engine.golden_traces import ranks
from tests.engine.writers import results_of, trajectory_of
from tests.models.vision import lladav, mmada
from tests.models.vision.traces import lladav_prompt, named, params_of
from unmask.checkpoints.checkpoint import load_model
from unmask.engine.engine import Engine
from unmask.engine.options import EngineParams
from unmask.models.transformer import Model
from unmask.sampling_params import SamplingParams
from unmask.types import Prompt, Trajectory

END = (lladav.SPECIAL["<|eot_id|>"],)


def responses(
    engine: Engine, prompts: Sequence[Prompt], params: SamplingParams
) -> list[Trajectory]:
    numbers = [engine.submit(prompt, params) for prompt in prompts]
    finished = results_of(engine.collect())
    return [trajectory_of(finished[number]) for number in numbers]


@pytest.fixture(scope="module")
def mmada_model() -> Model:
    """Return a model that may write any id, as the published code has it."""
    model = load_model(mmada.FOLDER)
    model.head.drawable = torch.ones_like(model.head.drawable)
    return model


@pytest.mark.parametrize("rows", [(0,), (1,), (0, 1)])
@pytest.mark.parametrize(
    "case",
    named(
        mmada.CASES["generation"], "gen0_rollout", "gen1_rollout", "gen2_rollout", "gen4_rollout"
    ),
    ids=lambda case: case["key"],
)
def test_mmada_with_and_without_its_cache(
    mmada_model: Model, case: dict[str, Any], rows: tuple[int, ...]
) -> None:
    """`further_horizon` is the horizon of the mode `window`; a recorded step counts for the whole batch."""
    recorded = load_file(mmada.FOLDER / "expected.safetensors")
    sequences, steps = recorded[f"{case['key']}_sequences"], recorded[f"{case['key']}_step_map"]
    length = case["gen_length"]
    cached = EngineParams(cache="window", horizon=case["further_horizon"] or 0)
    engine = Engine(mmada_model, cached if case["use_cache"] else None)
    prompts = [Prompt("mmada", 0, (), tuple(sequences[row, :-length].tolist())) for row in rows]
    found = responses(engine, prompts, params_of(case, stop_token_ids=()))
    for row, trajectory in zip(rows, found, strict=True):
        expected = sequences[row, -length:].tolist(), (steps[row] + 1).tolist()
        written = list(trajectory.canvas_ids), list(trajectory.step_map)
        assert ranks(written) == ranks(expected)


@pytest.fixture
def lladav_model() -> Model:
    return lladav.golden_model()


@pytest.mark.parametrize(
    "case",
    named(lladav.CASES["generation"], "gen0", "gen1", "gen2", "gen4"),
    ids=lambda case: case["key"],
)
def test_lladav_by_dllm_rl(lladav_model: Model, case: dict[str, Any]) -> None:
    engine = Engine(lladav_model)
    (found,) = responses(engine, [lladav_prompt()], params_of(case, stop_token_ids=END))
    assert list(found.canvas_ids) == lladav.recorded()[f"{case['key']}_tokens"].tolist()
    assert list(found.step_map) == lladav.recorded()[f"{case['key']}_step_map"].tolist()
    assert found.num_forwards == case["nfe"]


def test_lladav_with_the_prefix_cache_of_fast_dllm(lladav_model: Model) -> None:
    (case,) = named(lladav.CASES["fast_dllm"], "fast1")
    usual = lladav_model.head.drawable
    lladav_model.head.drawable = usual.clone()
    lladav_model.head.drawable[lladav.CASES["forbidden_in_own_generate"]] = False
    engine = Engine(lladav_model, EngineParams(cache="prefix"))
    (found,) = responses(engine, [lladav_prompt()], params_of(case, stop_token_ids=END))
    lladav_model.head.drawable = usual
    assert list(found.response_ids) == lladav.recorded()["fast1_tokens"].tolist()
