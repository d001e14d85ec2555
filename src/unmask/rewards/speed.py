"""Speed as a reward: how many tokens a denoising step revealed, for right answers.

    speed = clip((tokens per denoising step - 1) / (full - 1), 0, 1)  if the answer is right, else 0

`full` is what one step can reveal at most: a block; under full attention without blocks, the canvas.
Accuracy comes first: with a grader that says 0 to 1, an outcome that weighs 1 and any weight of speed
that is not negative, a wrong answer earns less than 1 and a right one at least 1, however slow. What
counts is a ratio, so a response that pads itself with what is easily guessed is "faster" too: keep
the weight small, and watch `response_tokens`.
"""

from collections.abc import Sequence

from unmask.rewards.weighted import Answer, AnswerGroup
from unmask.types import Score, Trajectory


def tokens_per_step_share(trajectory: Trajectory, full_at: float | None) -> float:
    """Return how far tokens per denoising step have come from 1 (0) to `full_at` (1).

    Args:
        trajectory: the response.
        full_at: `None` is all slots that one step can reveal.
    """
    most = full_at or trajectory.sampling.block_size or len(trajectory.canvas_ids)
    if most <= 1:
        return 0.0
    parallel = trajectory.num_response / trajectory.num_denoising_steps
    return min(max((parallel - 1) / (most - 1), 0.0), 1.0)


def score_speed(
    groups: Sequence[AnswerGroup], right_from: float | None, full_at: float | None
) -> list[list[Score]]:
    """Return the speed of each answer, 0 for those whose outcome is below `right_from`."""

    def score(answer: Answer) -> Score:
        is_paid = right_from is None or answer.outcome_reward >= right_from
        return Score(tokens_per_step_share(answer.trajectory, full_at) if is_paid else 0.0)

    return [[score(answer) for answer in group] for group in groups]
