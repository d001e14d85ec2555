"""Samplers of MMaDA and LLaDA-V on prompts with images: the published traces by the reference sampler.

Left out, by name: `gen3` of both ranks by the entropy itself, so that the least certain position comes first (a bug
of the published code), and `gen0` and `gen1` of MMaDA keep the keys of a prefix and look a few positions
ahead, which changes the numbers.
"""

from dataclasses import replace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.models.vision import lladav, mmada
from tests.models.vision.traces import lladav_prompt, named, params_of
from unmask.checkpoints.checkpoint import load_model
from unmask.checkpoints.tokenizer import encode, load_tokenizer
from unmask.diffusion.conventions import Conventions
from unmask.diffusion.reference_sampler import LogitsFn, sample
from unmask.models.conventions import conventions_of
from unmask.sampling_params import SamplingParams
from unmask.types import Prompt, Trajectory


@pytest.fixture(scope="module")
def mmada_recorded() -> dict[str, Tensor]:
    return load_file(mmada.FOLDER / "expected.safetensors")


@pytest.fixture(scope="module")
def mmada_sampler() -> tuple[LogitsFn, Conventions]:
    """Return the logits, and conventions under which any id may be written, as the published code has it."""
    model = load_model(mmada.FOLDER)
    conventions = conventions_of(model)
    any_id = torch.ones_like(conventions.drawable)
    return model.logits, replace(conventions, drawable=any_id)


def mmada_response(
    sequence: Tensor, params: SamplingParams, sampler: tuple[LogitsFn, Conventions]
) -> Trajectory:
    """Return the response to the prompt of a recorded sequence; nothing ends it early."""
    token_ids = tuple(sequence[: -params.max_tokens].tolist())
    return sample(Prompt("mmada", 0, (), token_ids), params, *sampler)


@pytest.mark.parametrize("row", [0, 1])
@pytest.mark.parametrize(
    "case",
    named(mmada.CASES["generation"], "gen2_rollout", "gen2_eval", "gen4_rollout", "gen4_eval"),
    ids=lambda case: case["key"],
)
def test_mmada_by_dllm_rl(
    mmada_recorded: dict[str, Tensor],
    mmada_sampler: tuple[LogitsFn, Conventions],
    case: dict[str, Any],
    row: int,
) -> None:
    """The shorter prompt is filled on the left, and the model reads the filling, as published."""
    sequence = mmada_recorded[f"{case['key']}_sequences"][row]
    found = mmada_response(sequence, params_of(case, stop_token_ids=()), mmada_sampler)
    assert list(found.canvas_ids) == sequence[-case["gen_length"] :].tolist()
    steps = mmada_recorded[f"{case['key']}_step_map"][row] + 1  # counted from 0 there
    assert list(found.step_map) == steps.tolist()


@pytest.mark.parametrize("name", ["mmu_generate", "mmu_generate_cfg"])
def test_mmada_by_its_own_sampler(
    mmada_recorded: dict[str, Tensor], mmada_sampler: tuple[LogitsFn, Conventions], name: str
) -> None:
    settings = mmada.CASES["mmu_generate"]
    scale = settings["cfg_scale_second"] if name.endswith("cfg") else 0.0
    case = settings | {"gen_length": settings["max_new_tokens"], "cfg_scale": scale}
    sequence = mmada_recorded[name][0]
    found = mmada_response(sequence, params_of(case, stop_token_ids=()), mmada_sampler)
    assert list(found.canvas_ids) == sequence[-case["gen_length"] :].tolist()


def lladav_response(params: SamplingParams, forbidden: tuple[int, ...] = ()) -> Trajectory:
    """Return the response to the golden prompt, whose image is `wide`."""
    model, vectors = lladav.golden_model(), lladav.recorded()["wide_image_features"]
    conventions = conventions_of(model)
    drawable = conventions.drawable.clone()
    drawable[list(forbidden)] = False
    return sample(
        lladav_prompt(),
        replace(params, stop_token_ids=(lladav.SPECIAL["<|eot_id|>"],)),
        lambda ids: model.logits(ids, vectors=vectors),
        replace(conventions, drawable=drawable),
    )


@pytest.mark.parametrize(
    "case",
    named(lladav.CASES["generation"], "gen0", "gen1", "gen2", "gen4"),
    ids=lambda case: case["key"],
)
def test_lladav_by_dllm_rl(case: dict[str, Any]) -> None:
    found = lladav_response(params_of(case))
    assert list(found.canvas_ids) == lladav.recorded()[f"{case['key']}_tokens"].tolist()
    assert list(found.step_map) == lladav.recorded()[f"{case['key']}_step_map"].tolist()
    assert found.num_forwards == case["nfe"]


@pytest.mark.parametrize("case", lladav.CASES["own_generate"], ids=lambda case: case["key"])
def test_lladav_by_its_own_sampler(case: dict[str, Any]) -> None:
    """A text after the response is pinned there; the published response has no end of turn."""
    suffix = encode(case.get("generation_suffix", ""), load_tokenizer(lladav.FOLDER))
    pinned = tuple((case["gen_length"] + i, token) for i, token in enumerate(suffix))
    params = params_of(case, max_tokens=case["gen_length"] + len(suffix), pinned=pinned)
    found = lladav_response(params, tuple(lladav.CASES["forbidden_in_own_generate"]))
    response = [i for i in found.response_ids if i != lladav.SPECIAL["<|eot_id|>"]]
    assert response == lladav.recorded()[f"{case['key']}_tokens"].tolist()


@torch.no_grad()
def test_logits_of_lladav_behind_an_image() -> None:
    model, recorded = lladav.golden_model(), lladav.recorded()
    vectors = recorded["wide_image_features"]
    ids = torch.tensor([[*lladav_prompt().token_ids, *recorded["answer_ids"].tolist()]])
    logits = model.logits(ids, vectors=vectors)[0]
    assert (logits[-34:] - recorded["forward_logits"]).abs().max() < 2e-4

    # Six vectors of zeros in front, which nothing attends to.
    empty = torch.full((1, 6), -1 - len(vectors))
    allowed = (torch.arange(ids.shape[1] + 6) >= 6).expand(1, ids.shape[1] + 6, -1)
    vectors = torch.cat((vectors, torch.zeros(1, vectors.shape[1])))
    logits = model.logits(torch.cat((empty, ids), 1), None, allowed, vectors)[0]
    assert (logits[-14:] - recorded["left_padded_logits"]).abs().max() < 2e-4
