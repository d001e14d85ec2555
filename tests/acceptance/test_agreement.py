"""Engine against reference: alike, apart at a tie, and apart for another reason."""

from dataclasses import replace
from math import inf

import pytest
import torch

from tests.engine.bits import bits_hold
from tests.engine.golden_traces import Trace, golden_model, golden_traces
from tests.engine.writers import by_engine, dense_logits
from tests.models.toy import FAMILY_CHANGES, family_model
from tests.toy import toy_model
from unmask.acceptance.agreement import compare_with_reference, first_difference, logprob_gaps
from unmask.models.families import family_named
from unmask.models.transformer import Model
from unmask.presets import preset
from unmask.sampling_params import SamplingParams
from unmask.types import Trajectory

GREEDY = SamplingParams(temperature=0.0, max_tokens=12, threshold=0.3, stop_token_ids=())
PROMPT = [5, 6, 7, 8, 9]


@pytest.fixture(scope="module")
def toy() -> Model:
    return toy_model(1)


@pytest.fixture(scope="module")
def written(toy: Model) -> Trajectory:
    return by_engine(toy, [(PROMPT, GREEDY)])[0]


@pytest.mark.parametrize("family", FAMILY_CHANGES)
def test_every_family_agrees_under_its_preset(family: str) -> None:
    model = family_model(family)
    sampling = preset(family_named(family).preset, temperature=0.0, max_tokens=10)
    for trajectory in by_engine(model, [(PROMPT, sampling), (PROMPT[:2], sampling)]):
        agreement = compare_with_reference(model, trajectory)
        assert (agreement.step, agreement.gap) == (None, 0.0)
        assert len(agreement.logprob_gaps) >= trajectory.num_response
        assert max(agreement.logprob_gaps) <= (0 if bits_hold() else 1e-4)


@pytest.mark.parametrize("trace", golden_traces("llada2")[:1])
def test_revising_samplers_are_followed(trace: Trace) -> None:
    model = golden_model(trace)
    sampling = preset("llada2_1", block_size=4, max_tokens=12)
    (trajectory,) = by_engine(model, [(trace.asks[0][0], sampling)])
    assert compare_with_reference(model, trajectory).step is None


def test_another_token_has_the_gap_of_the_two_probabilities(
    toy: Model, written: Trajectory
) -> None:
    """The first step sees the prompt and masks alone, so both probabilities can be had directly."""
    slot = written.step_map.index(1)
    text = torch.tensor([PROMPT + [1] * 3])
    row = dense_logits(toy, 4)(text)[0, len(PROMPT) + slot]
    probabilities = row.masked_fill(~toy.head.drawable, -inf).softmax(-1)
    first, second = probabilities.topk(2)[0].tolist()
    runner_up = int(probabilities.topk(2).indices[1])
    ids = (*written.canvas_ids[:slot], runner_up, *written.canvas_ids[slot + 1 :])
    agreement = compare_with_reference(toy, replace(written, canvas_ids=ids))
    assert agreement.step == 1
    assert agreement.gap == pytest.approx(first - second, abs=1e-5)
    assert agreement.logprob_gaps == ()


def test_one_slot_more_has_the_gap_to_the_threshold(toy: Model, written: Trajectory) -> None:
    """Written under 0.3 and held against 0.3001 or 0.9: whatever parts lies between the two."""
    surest = sorted({round(p, 6) for p in torch.tensor(written.raw_logprobs).exp().tolist()})
    assert surest[-1] > 0.3
    for threshold in (0.3001, 0.9):
        sampling = replace(written.sampling, threshold=threshold)
        agreement = compare_with_reference(toy, replace(written, sampling=sampling))
        assert agreement.gap <= threshold - 0.3 + 1e-6
    assert agreement.step is not None


def test_another_slot_has_the_gap_of_the_two_confidences(toy: Model) -> None:
    sampling = replace(GREEDY, strategy="static")
    (trajectory,) = by_engine(toy, [(PROMPT, sampling)])
    one, other = (trajectory.step_map.index(step) for step in (1, 2))
    steps = list(trajectory.step_map)
    steps[one], steps[other] = 2, 1
    agreement = compare_with_reference(toy, replace(trajectory, step_map=tuple(steps)))
    assert agreement.step == 1
    assert 0 < agreement.gap < 1


def test_what_no_tie_explains_has_no_gap(toy: Model, written: Trajectory) -> None:
    shorter = replace(written, num_response=written.num_response - 1)
    assert compare_with_reference(toy, shorter).gap == inf
    late = max(written.step_map) + 50
    steps = (*written.step_map[:-1], late)
    assert compare_with_reference(toy, replace(written, step_map=steps)).gap > 0


def test_the_first_difference_is_the_earlier_of_two_steps(written: Trajectory) -> None:
    steps = list(written.step_map)
    last = max(steps)
    steps[steps.index(last)] = last + 1
    moved = replace(written, step_map=tuple(steps))
    assert first_difference(written, written) is None
    assert first_difference(written, moved) == first_difference(moved, written) == last


def test_logprob_gaps_stop_before_the_difference(toy: Model, written: Trajectory) -> None:
    wrong = replace(written, behavior_logprobs=tuple(p - 0.5 for p in written.behavior_logprobs))
    agreement = compare_with_reference(toy, wrong)
    assert agreement.step is None
    assert agreement.logprob_gaps == pytest.approx([0.5] * len(written.canvas_ids), abs=1e-4)
    assert logprob_gaps([agreement]) == pytest.approx((0.5, 0.5), abs=1e-4)
    assert logprob_gaps([]) == (0.0, 0.0)
