"""Views: what of a trajectory, or of a response under noise, is scored, and with which numbers."""

import random
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.diffusion.trajectories import CONVENTIONS, MASK, random_trajectory, trajectories
from unmask.diffusion.noise import NoiseSchedule
from unmask.diffusion.trace import trace_views
from unmask.diffusion.views import (
    views_of_responses,
    views_of_text,
    views_of_trajectory,
    with_images,
)
from unmask.sampling_params import SamplingParams
from unmask.types import Prompt, PromptImage, Revision, Trajectory

# Prompt of five in blocks of four: three positions, four, four. The stop token is position 7; positions 8 and
# 10 are junk right of it, position 9 was never revealed.
TRAJECTORY = Trajectory(
    prompt=Prompt("toy", 3, (), (11, 12, 13, 14, 15)),
    canvas_ids=(2, 3, 4, 5, 6, 7, 8, 0, 9, 1, 9),
    step_map=(2, 1, 2, 3, 4, 4, 3, 5, 6, 0, 5),
    behavior_logprobs=tuple(-float(i) if i != 9 else 0.0 for i in range(11)),
    num_response=8,
    finish="stop",
    policy_version=0,
    sampling=SamplingParams(block_size=4, stop_token_ids=(0,), temperature=0.5),
    num_forwards=6,
)
HALF = NoiseSchedule(0.4, 0.6)
FULL = replace(CONVENTIONS, is_full=True)


def targets(views: torch.Tensor) -> list[list[int]]:
    return [row.nonzero()[:, 0].tolist() for row in views]


def test_views_follow_the_path_block_by_block() -> None:
    views = views_of_trajectory(TRAJECTORY, 2.0)
    assert targets(views.target) == [[1, 3, 6, 7], [0, 2, 4, 5]]
    hidden, _ = trace_views(torch.tensor(TRAJECTORY.step_map), 4, 1)
    assert torch.equal(views.hidden, hidden)
    assert views.prompt_ids.tolist() == [11, 12, 13, 14, 15]
    assert views.canvas_ids.tolist() == list(TRAJECTORY.canvas_ids)
    assert views.block == 4 and views.temperature == 0.5
    assert torch.equal(views.weight, torch.ones(2, 11))
    assert torch.equal(views.advantages, torch.full((11,), 2.0))


def test_junk_right_of_the_stop_is_context_and_never_a_target() -> None:
    """The stop's block was written in its presence, so it stays hidden or shown as the sampler had it."""
    views = views_of_trajectory(TRAJECTORY, 1.0)
    assert not views.target[:, 8:].any()
    assert views.hidden[0, 8:].all()
    assert views.hidden[1, 8:].tolist() == [True, True, False]


def test_post_num_trains_the_first_revealed_slots_right_of_the_response() -> None:
    for post_num, extra in ((0, []), (1, [8]), (2, [8, 10]), (9, [8, 10])):
        views = views_of_trajectory(TRAJECTORY, 1.0, post_num=post_num)
        trained = views.target.any(0).nonzero()[:, 0].tolist()
        assert trained == [*range(8), *extra]


def test_views_without_targets_are_left_out() -> None:
    """Position 8 alone is revealed in the last block's second step; without it that view is empty."""
    only_stop = replace(TRAJECTORY, step_map=(2, 1, 2, 3, 3, 3, 3, 4, 6, 0, 5))
    assert len(trace_views(torch.tensor(only_stop.step_map), 4, 1)[0]) == 3
    assert len(views_of_trajectory(only_stop, 1.0).hidden) == 2


def test_every_response_slot_is_a_target_once() -> None:
    rng = random.Random(0)
    for _ in range(50):
        trajectory = random_trajectory(rng, rng.choice([1, 2, 4, 5]))
        for shrink in (1, 2):
            target = views_of_trajectory(trajectory, 1.0, shrink).target
            positions = torch.arange(target.shape[1])
            assert torch.equal(target.sum(0), (positions < trajectory.num_response).long())
            assert target.any(-1).all()


@given(trajectories(FULL), st.integers(1, 3), st.integers(0, 2))
def test_under_full_attention_a_view_is_the_whole_canvas_before_a_step(
    trajectory: Trajectory, shrink: int, post_num: int
) -> None:
    """Blocks were only the order of writing: a position of any of them is hidden until it is revealed."""
    views = views_of_trajectory(trajectory, 1.0, shrink, post_num, is_full=True)
    step_map, num_response = trajectory.step_map, trajectory.num_response
    junk = [i for i, step in enumerate(step_map) if step and i >= num_response]
    trained = {*range(num_response), *junk[: post_num * (trajectory.finish == "stop")]}
    steps = sorted({*step_map} - {0})
    expected = [
        ([i for i, s in enumerate(step_map) if s == 0 or s >= group[0]], sorted(target))
        for group in (steps[i : i + shrink] for i in range(0, len(steps), shrink))
        if (target := trained & {i for i, s in enumerate(step_map) if s in group})
    ]
    assert list(zip(targets(views.hidden), targets(views.target), strict=True)) == expected
    assert views.block == len(step_map)


def test_log_probabilities_stand_at_their_slots() -> None:
    views = views_of_trajectory(TRAJECTORY, 1.0)
    assert views.behavior_logprobs.tolist() == [list(TRAJECTORY.behavior_logprobs)] * 2
    assert torch.equal(views.old_logprobs, views.behavior_logprobs)
    assert views.behavior_logprobs.dtype == torch.float64


def test_advantages_may_differ_from_token_to_token() -> None:
    advantage = [float(i) for i in range(8)]
    views = views_of_trajectory(TRAJECTORY, advantage, post_num=2)
    assert views.advantages.tolist() == [*advantage, 7.0, 7.0, 7.0]


@pytest.mark.parametrize("count", [2, 7, 9, 12])
def test_advantages_of_another_length_are_refused(count: int) -> None:
    with pytest.raises(AssertionError):
        views_of_trajectory(TRAJECTORY, [1.0] * count)


def test_greedy_trajectories_are_scored_at_temperature_one() -> None:
    greedy = replace(TRAJECTORY, sampling=replace(TRAJECTORY.sampling, temperature=0))
    assert views_of_trajectory(greedy, 1.0).temperature == 1


# Position 1 was 12 at step 1 and edited at step 2; position 3 was masked at step 5 and written again at step 6.
# The first block takes steps 1 to 3, the second 4 to 6, the third 7 to 9, the last of which writes nothing.
REVISED = replace(
    TRAJECTORY,
    step_map=(2, 2, 3, 6, 5, 6, 4, 7, 8, 0, 7),
    revisions=(
        Revision(1, 1, 12, -0.5, "write"),
        Revision(4, 3, 14, -1.5, "write"),
        Revision(5, 3, MASK, 0.0, "remask"),
    ),
    num_steps=9,
)


def test_a_write_is_a_target_of_the_view_it_happened_in() -> None:
    views = views_of_trajectory(REVISED, 2.0)
    assert views.inputs is not None and views.target_ids is not None
    assert targets(views.target) == [[1, 3, 6, 7], [0, 1, 4], [2, 3, 5]]
    assert targets(views.hidden) == [list(range(11)), [0, 2, 4, 5, 8, 9], [2, 3, 5, 9]]
    assert views.target_ids[0, [1, 3, 6, 7]].tolist() == [12, 14, 8, 0]
    assert views.target_ids[1, [0, 1, 4]].tolist() == [2, 3, 6]
    assert views.inputs[1, [1, 3, 6]].tolist() == [12, 14, 8]
    assert views.inputs[2, [0, 1, 4, 6]].tolist() == [2, 3, 6, 8]
    assert views.behavior_logprobs[0, [1, 3]].tolist() == [-0.5, -1.5]
    assert views.behavior_logprobs[1, [0, 1]].tolist() == [0.0, -1.0]
    assert torch.equal(views.old_logprobs, views.behavior_logprobs)


def test_what_no_revised_trajectory_has_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"views.shrink = 2: the trajectory of prompt 3 changed wr"
    ):
        views_of_trajectory(REVISED, 1.0, shrink=2)
    with pytest.raises(
        ValueError, match="reward of prompt 3 has a number for each token of the fin"
    ):
        views_of_trajectory(REVISED, [1.0] * 8)


def test_methods_that_mask_the_text_anew_train_each_position_once() -> None:
    views = views_of_text(REVISED, [float(i) for i in range(8)], post_num=1)
    assert views.inputs is None and views.target_ids is None
    assert views.target.sum(0).tolist() == [1] * 9 + [0] * 2
    plain = replace(REVISED, revisions=())
    assert torch.equal(views.target, views_of_trajectory(plain, 1.0, post_num=1).target)


def test_some_views_are_taken() -> None:
    views = views_of_trajectory(REVISED, 1.0)
    last = views.take(slice(-1, None))
    for name in ("hidden", "target", "weight", "inputs", "target_ids", "behavior_logprobs"):
        assert torch.equal(getattr(last, name), getattr(views, name)[-1:]), name
    once = views_of_trajectory(TRAJECTORY, 1.0).take(torch.tensor([1]))
    assert once.inputs is None and once.behavior_logprobs.tolist() == [
        list(TRAJECTORY.behavior_logprobs)
    ]


def test_log_probabilities_of_write_once_trajectories_take_no_memory_for_each_view() -> None:
    views = views_of_trajectory(TRAJECTORY, 1.0)
    assert views.behavior_logprobs.shape == (2, 11) and views.behavior_logprobs.stride(0) == 0


@pytest.mark.parametrize("num_prompt", [0, 3, 4, 9])
@pytest.mark.parametrize("num_response", [1, 4, 6])
def test_a_response_is_padded_to_whole_blocks_hidden_and_unscored(
    num_prompt: int, num_response: int
) -> None:
    response = list(range(2, 2 + num_response))
    (views,) = views_of_responses([([9] * num_prompt, response)], 4, (HALF, 3), [1])
    assert (num_prompt + views.canvas_ids.shape[0]) % 4 == 0
    assert views.canvas_ids[:num_response].tolist() == response
    assert views.hidden[:, num_response:].all() and not views.target[:, num_response:].any()
    assert torch.equal(views.hidden[:, :num_response], views.target[:, :num_response])
    assert views.hidden.shape == views.weight.shape == (3, views.canvas_ids.shape[0])


def test_noise_is_drawn_per_block_of_the_grid() -> None:
    """With a prompt tail of one, the first block's level covers three positions."""
    (views,) = views_of_responses([([9] * 5, [2] * 11)], 4, (HALF, 1), [0])
    assert views.noise_level is not None
    (level,) = views.noise_level
    assert [len(part.unique()) for part in level.split([3, 4, 4])] == [1, 1, 1]
    assert len(level.unique()) == 3


def test_under_full_attention_a_response_has_one_noise_level_and_no_padding() -> None:
    (views,) = views_of_responses([([9] * 5, [2] * 11)], None, (HALF, 3), [0])
    assert views.hidden.shape == (3, 11) and views.block == 11
    assert views.noise_level is not None
    assert torch.equal(views.hidden, views.target)
    assert [len(row.unique()) for row in views.noise_level] == [1, 1, 1]
    assert len(views.noise_level.unique()) == 3
    per_token = replace(HALF, level="token")
    (views,) = views_of_responses([([9] * 5, [2] * 11)], None, (per_token, 1), [0])
    assert views.noise_level is not None and len(views.noise_level.unique()) == 11


@pytest.mark.parametrize(("canvas_tokens", "size"), [(0, 6), (4, 6), (9, 9)])
def test_a_canvas_is_padded_with_what_a_sampler_would_find_there(
    canvas_tokens: int, size: int
) -> None:
    noise = (HALF, 3)
    (views,) = views_of_responses([([9] * 5, [2] * 6)], None, noise, [0], canvas_tokens)
    assert views.block == views.canvas_ids.shape[0] == size
    assert views.hidden[:, 6:].all() and not views.target[:, 6:].any()
    assert not views.weight[:, 6:].any()
    (alone,) = views_of_responses([([9] * 5, [2] * 6)], None, noise, [0])
    assert torch.equal(views.target[:, :6], alone.target)


@pytest.mark.parametrize("block", [4, None])
def test_a_response_is_noised_alone_as_in_company(block: int | None) -> None:
    pairs = [([9] * num_prompt, [2] * length) for num_prompt, length in ((5, 3), (8, 11), (2, 7))]
    together = views_of_responses(pairs, block, (HALF, 3), [1, 2, 3])
    for place, pair in enumerate(pairs):
        (alone,) = views_of_responses([pair], block, (HALF, 3), [place + 1])
        for name in ("canvas_ids", "hidden", "target", "weight"):
            assert torch.equal(getattr(alone, name), getattr(together[place], name)), name


@pytest.mark.parametrize("is_full", [False, True])
def test_a_response_has_the_images_of_its_prompt_as_a_trajectory_has(is_full: bool) -> None:
    images = (PromptImage(b"a", 2), PromptImage(b"b", 1))
    prompt = Prompt("toy", 3, (), (11, -1, -2, 12, -3), images=images)
    traced = views_of_trajectory(replace(TRAJECTORY, prompt=prompt), 1.0, is_full=is_full)
    pair = (prompt.token_ids, TRAJECTORY.canvas_ids[:8])
    (made,) = views_of_responses([pair], None if is_full else 4, (HALF, 1), [1])
    found = with_images(made, images, is_full)
    assert (found.images, found.prefix_digest) == (traced.images, traced.prefix_digest)
    assert torch.equal(found.prompt_ids, traced.prompt_ids)
    assert with_images(made, (), is_full) is made
