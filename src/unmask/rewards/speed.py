"""Speed as a reward: tokens per denoising step, for right answers.

    speed = clip((tokens per denoising step - 1) / (full - 1), 0, 1)  if the answer is right, else 0

`full` is the most that one step can reveal: a block or, with full attention and no blocks, the canvas.
Accuracy comes first: with outcomes between 0 and 1 of weight 1, and any weight of speed that is not
negative, a wrong answer earns less than 1 and a right one at least 1, however slow. A response padded
with tokens that are easy to predict is also "faster": keep the weight small, and watch
`response_tokens`.
"""

from collections.abc import Sequence

from unmask.rewards.weighted import Answer, AnswerGroup
from unmask.types import Score, Trajectory


def tokens_per_step_share(trajectory: Trajectory, full_at: float | None) -> float:
    """Return tokens per denoising step, scaled so that 1 gives 0 and `full_at` gives 1.

    Args:
        trajectory: the response.
        full_at: tokens per step; None is all positions that one step can reveal.
    """
    most = full_at or trajectory.sampling.block_size or len(trajectory.canvas_ids)
    if most <= 1:
        return 0.0
    parallel = trajectory.num_response / trajectory.num_steps
    return min(max((parallel - 1) / (most - 1), 0.0), 1.0)


def score_speed(
    groups: Sequence[AnswerGroup], right_from: float | None, full_at: float | None
) -> list[list[Score]]:
    """Return the speed of each answer; 0 for one whose outcome is below `right_from`."""

    def score(answer: Answer) -> Score:
        is_paid = right_from is None or answer.outcome_reward >= right_from
        return Score(tokens_per_step_share(answer.trajectory, full_at) if is_paid else 0.0)

    return [[score(answer) for answer in group] for group in groups]
