"""Rollouts: prompts to groups of judged trajectories.

The seed of a response is derived from (seed, prompt, sample), so it does not depend on which other
prompts are asked or on the order in which answers come back. Groups and rewards are in the order of
the prompts, always.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from unmask.engine.llm import LLM
from unmask.engine.request import resolve
from unmask.rollouts.checks import check_scores, check_trajectory
from unmask.seeds import derive_seed
from unmask.tasks.task import Task
from unmask.types import Group, Prompt, SamplingParams, Score, Trajectory


def write_trajectories(
    llm: LLM,
    prompts: Sequence[Prompt],
    sampling: SamplingParams,
    seed: int,
    on_finish: Callable[[Trajectory], None] | None = None,
) -> list[Trajectory]:
    """Return `sampling.n` trajectories per prompt, those of a prompt together.

    Args:
        llm: what answers.
        prompts: with `token_ids` filled in.
        sampling: how; its `seed` is not used.
        seed: first part of every response's seed.
        on_finish: told of every trajectory as it ends.
    """
    asked = [prompt for prompt in prompts for _ in range(sampling.n)]
    samples: Counter[int] = Counter()  # a prompt asked twice goes on counting: new answers
    params: list[SamplingParams] = []
    for prompt in asked:
        number = samples[prompt.uid]
        params.append(replace(sampling, seed=derive_seed(seed, prompt.uid, number), n=1))
        samples[prompt.uid] += 1
    return llm.complete(asked, params, on_finish)


def check_room(llm: LLM, prompts: Sequence[Prompt], sampling: SamplingParams) -> None:
    """Refuse prompts that leave no room for a response, before a run comes upon one at step 1000.

    Raises:
        ValueError: naming the lengths, if prompt and `max_tokens` do not fit the model.
    """
    for prompt in prompts:
        resolve(prompt, sampling, llm.model.spec)


def grade_trajectories(
    llm: LLM, task: Task, trajectories: Sequence[Trajectory], count: int
) -> list[Group]:
    """Judge trajectories as `write_trajectories` returns them: groups of `count`, in order.

    Raises:
        ValueError: naming the prompt, for a step map that disagrees with its response and for a
            reward that is not finite or not one number per response token.
    """
    for trajectory in trajectories:
        check_trajectory(trajectory)
    texts = [llm.decode(trajectory.response_ids) for trajectory in trajectories]
    pairs = [(t.prompt, text) for t, text in zip(trajectories, texts, strict=True)]
    scores = task.grade(pairs)
    check_scores(scores, trajectories)
    return [
        _group(trajectories[start : start + count], scores[start : start + count])
        for start in range(0, len(trajectories), count)
    ]


def _group(trajectories: Sequence[Trajectory], scores: Sequence[Score]) -> Group:
    names = sorted({name for score in scores for name in score.parts})
    return Group(
        prompt=trajectories[0].prompt,
        trajectories=tuple(trajectories),
        rewards=tuple(score.reward for score in scores),
        parts={name: tuple(score.parts.get(name, 0.0) for score in scores) for name in names},
    )
