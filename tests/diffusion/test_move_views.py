"""The views of moves: which positions have a factor in which pass. Law 3 compares their scores with the sampler."""

from dataclasses import replace

import pytest
import torch

from unmask.diffusion.move_views import open_positions, views_of_moves
from unmask.diffusion.moves import EDITED, LOST, REVEALED, STAYED
from unmask.sampling_params import SamplingParams
from unmask.types import Prompt, Revision, Trajectory

MASK = 9
# Two blocks of four behind a prompt of five tokens; the response ends at its second token, and one position is
# never revealed.
STATIC = SamplingParams(strategy="static", block_size=4, stop_token_ids=(0,))
WRITTEN = Trajectory(
    prompt=Prompt("toy", 0, (), (1, 2, 3, 4, 5)),
    canvas_ids=(6, 7, 8, 0, MASK, 6, 7),
    step_map=(2, 1, 1, 3, 0, 4, 3),
    behavior_logprobs=(-1.0,) * 7,
    num_response=4,
    finish="stop",
    policy_version=0,
    sampling=STATIC,
    num_forwards=5,
)


def test_a_lost_draw_is_a_target_until_its_position_is_revealed() -> None:
    views = views_of_moves(WRITTEN, 2.0)
    assert views.moves is not None
    first = [LOST, REVEALED, REVEALED, REVEALED, LOST, LOST, REVEALED]
    second = [REVEALED, 0, 0, 0, LOST, REVEALED, 0]
    assert views.moves.kinds.tolist() == [first, second]
    assert torch.equal(views.target, views.moves.kinds > 0)
    assert views.counts.tolist() == [4, 2]  # tokens written
    assert views.inputs is None and views.advantages.unique().tolist() == [2.0]


def test_under_full_attention_a_view_is_one_pass_of_the_block_that_is_written() -> None:
    trajectory = replace(WRITTEN, step_map=(2, 1, 1, 1, 0, 3, 3))
    views = views_of_moves(trajectory, 1.0, is_full=True)
    assert views.moves is not None
    assert views.moves.kinds.tolist() == [
        [LOST, REVEALED, REVEALED, REVEALED, 0, 0, 0],
        [REVEALED, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, LOST, REVEALED, REVEALED],
    ]
    ranked = replace(trajectory, sampling=replace(STATIC, strategy="entropy"))
    own = views_of_moves(ranked, 1.0, is_full=True)
    assert torch.equal(own.target, views.moves.is_written)


def test_past_the_stop_only_what_bounds_lost_draws_is_left_and_weighs_nothing() -> None:
    views = views_of_moves(WRITTEN, 1.0, scores_past_stop=False)
    assert views.moves is not None
    assert views.moves.kinds.tolist() == [
        [LOST, REVEALED, REVEALED, REVEALED, 0, 0, REVEALED],
        [REVEALED, 0, 0, 0, 0, REVEALED, 0],
    ]
    assert not views.weight[:, 4:].any()
    assert views.counts.tolist() == [3, 1]


def test_edits_and_positions_that_stay() -> None:
    """A block of three: one reveal, an edit next to the other two, a pass that writes nothing."""
    params = SamplingParams(
        strategy="left_to_right", block_size=3, edit_threshold=0.5, stop_token_ids=()
    )
    trajectory = Trajectory(
        prompt=Prompt("toy", 0, (), (1, 2, 3)),
        canvas_ids=(6, 7, 8),
        step_map=(2, 2, 3),
        behavior_logprobs=(-1.0, -2.0, -3.0),
        num_response=3,
        finish="length",
        policy_version=0,
        sampling=params,
        num_forwards=4,
        revisions=(Revision(1, 0, 4, -0.5, "write"),),
        num_steps=4,
    )
    views = views_of_moves(trajectory, 1.0)
    assert views.moves is not None
    assert views.moves.kinds.tolist() == [
        [REVEALED, 0, 0],
        [EDITED, REVEALED, 0],
        [STAYED, STAYED, REVEALED],
        [STAYED, STAYED, STAYED],
    ]
    assert views.inputs is not None
    assert views.inputs[1:, 0].tolist() == [4, 6, 6]
    assert views.written()[:, 0].tolist() == [4, 6, 6, 6]
    assert views.counts.tolist() == [1, 2, 1, 0]


def test_open_positions_are_those_of_the_first_sub_block_or_the_first_alone() -> None:
    hidden = torch.tensor([[True, True, False, True, True, True, True]])
    params = SamplingParams(block_size=4, sub_block_size=2)
    # Behind one token of the prompt: the first block is the canvas's first three positions.
    assert open_positions(hidden, params, 1, False).int().tolist() == [[1, 0, 0, 1, 1, 0, 0]]
    whole = SamplingParams(block_size=4)
    assert open_positions(hidden, whole, 1, True).int().tolist() == [[1, 1, 0, 1, 0, 0, 0]]


def test_an_advantage_for_each_token_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a number for each token, and loss\.likelihood"):
        views_of_moves(WRITTEN, [1.0, 0.0, 0.0, 1.0])
