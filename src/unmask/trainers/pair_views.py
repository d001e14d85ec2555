"""The views of the answers of preference pairs: those of a rollout that wrote the same tokens.

An answer is taken for a trajectory: its canvas ends with its last block, positions right of the answer were never
revealed, so they are hidden in every view and never targets, and its step map is the recorded one. Without one it
is revealed in a single denoising step, which only the views that read no order are made of.

The two answers of a pair have noise of their own. Policy and reference score the same views.
"""

from collections.abc import Sequence

from unmask.configs.dpo import DPOConfig
from unmask.configs.methods import partner
from unmask.data.demonstrations import Demonstration
from unmask.data.pairs import Pair
from unmask.diffusion.views import Canvas, Views
from unmask.models.spec import ModelSpec
from unmask.sampling_params import SamplingParams
from unmask.seeds import derive_seed
from unmask.types import Prompt, Trajectory


def pair_views(
    pairs: Sequence[Pair],
    keys: Sequence[tuple[int, ...]],
    config: DPOConfig,
    spec: ModelSpec,
    step: int,
) -> list[Views]:
    """Return the views of all answers, the preferred one of each pair first.

    Args:
        pairs: of a batch.
        keys: of the noise of each pair.
        config: of the run.
        spec: of the model.
        step: of the run, which the training block may depend on.
    """
    views_of = partner(config.views, "unmask.diffusion.methods").of_trajectory
    canvas = Canvas(config.views.train_block_at(step) or spec.require_block(), spec.is_full)
    return [
        views_of(
            trajectory_of_answer(answer, canvas, derive_seed(*key, number)),
            0.0,
            config.views,
            spec.is_full,
        )
        for pair, key in zip(pairs, keys, strict=True)
        for number, answer in enumerate(pair.answers)
    ]


def trajectory_of_answer(answer: Demonstration, canvas: Canvas, seed: int) -> Trajectory:
    """Return an answer as a trajectory that was written in its recorded order, or in one denoising step.

    Args:
        answer: prompt and response.
        canvas: the blocks.
        seed: key of the noise of its views.
    """
    count = len(answer.response_ids)
    padding = [0] * (canvas.size_of(len(answer.prompt_ids), count) - count)
    return Trajectory(
        prompt=Prompt("pairs", 0, (), answer.prompt_ids, images=answer.images),
        canvas_ids=(*answer.response_ids, *padding),
        step_map=(*(answer.step_map or [1] * count), *padding),
        behavior_logprobs=(0.0,) * (count + len(padding)),
        num_response=count,
        finish="length",
        policy_version=0,
        sampling=SamplingParams(block_size=canvas.block, seed=seed),
        num_forwards=0,
    )
