"""Rollouts: from prompts to groups of graded trajectories.

The seed of a response is derived from (seed, prompt, sample), so it does not depend on the other prompts or on
the order in which responses finish. Groups and rewards are always in the order of the prompts.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from unmask.distributed.world import ALONE, World
from unmask.engine.llm import LLM
from unmask.engine.request import resolve
from unmask.images import Image, image_from
from unmask.rewards.weighted import Answer, ScoreFunction, outcome_alone
from unmask.rollouts.checks import check_scores, check_trajectory
from unmask.sampling_params import SamplingParams
from unmask.seeds import derive_seed
from unmask.tasks.task import Task
from unmask.types import Group, Prompt, Score, Trajectory


def write_trajectories(
    llm: LLM,
    prompts: Sequence[Prompt],
    sampling: SamplingParams,
    seed: int,
    on_finish: Callable[[Trajectory], None] | None = None,
    world: World = ALONE,
) -> list[Trajectory]:
    """Return `sampling.n` trajectories per prompt of this rank's share, those of a prompt together.

    Args:
        llm: writes the responses.
        prompts: with `token_ids` filled in.
        sampling: of every response, except for `seed`, which is not used.
        seed: first part of every response's seed.
        on_finish: called with every trajectory as it finishes.
        world: the ranks, which share the prompts; seeds are those of the whole list.
    """
    requests = own_requests(prompts, sampling, seed, world)
    asked, params = [prompt for prompt, _ in requests], [one for _, one in requests]
    return llm.complete(asked, params, on_finish)


def own_requests(
    prompts: Sequence[Prompt], sampling: SamplingParams, seed: int, world: World = ALONE
) -> list[tuple[Prompt, SamplingParams]]:
    """Return prompt and sampling of every response of this rank's share; arguments as `write_trajectories`."""
    requests = list(zip(*seeded_requests(prompts, sampling, seed), strict=True))
    # The requests of prompt p are those from p * n on.
    first = world.share(range(0, len(requests), sampling.n))
    return [requests[place + sample] for place in first for sample in range(sampling.n)]


def seeded_requests(
    prompts: Sequence[Prompt], sampling: SamplingParams, seed: int
) -> tuple[list[Prompt], list[SamplingParams]]:
    """Return prompt and sampling of every response, `sampling.n` per prompt; arguments as `write_trajectories`."""
    asked = [prompt for prompt in prompts for _ in range(sampling.n)]
    # Samples per prompt so far: a prompt that is in the list twice gets different responses.
    samples: Counter[int] = Counter()
    params: list[SamplingParams] = []
    for prompt in asked:
        sample = samples[prompt.uid]
        params.append(replace(sampling, seed=derive_seed(seed, prompt.uid, sample), n=1))
        samples[prompt.uid] += 1
    return asked, params


def check_room(llm: LLM, prompts: Sequence[Prompt], sampling: SamplingParams) -> None:
    """Refuse prompts that leave no room for a response, before a run reaches one at step 1000.

    Raises:
        ValueError: naming the lengths, if prompt and `max_tokens` do not fit the model.
    """
    for prompt in prompts:
        resolve(prompt, sampling, llm.model.spec)


def grade_trajectories(
    llm: LLM,
    task: Task,
    trajectories: Sequence[Trajectory],
    count: int,
    rewards: ScoreFunction = outcome_alone,
) -> list[Group]:
    """Return the graded groups of trajectories as `write_trajectories` returns them.

    Args:
        llm: decodes the responses.
        task: grades the responses; every reward term receives its outcome.
        trajectories: of whole groups.
        count: responses per prompt.
        rewards: from outcomes to the rewards that are trained on; by default the outcome itself.

    Raises:
        ValueError: naming the prompt, for a step map that disagrees with its response and for a
            reward that is not finite or not one number per response token.
    """
    for trajectory in trajectories:
        check_trajectory(trajectory)
    texts = [llm.text(trajectory) for trajectory in trajectories]
    pairs = [(t.prompt, text) for t, text in zip(trajectories, texts, strict=True)]
    outcomes = task.grade(pairs)
    check_scores(outcomes, trajectories)
    answers = list(map(Answer, trajectories, texts, outcomes, drawings_of(llm, trajectories)))
    groups = [answers[start : start + count] for start in range(0, len(answers), count)]
    return [_group(*pair) for pair in zip(groups, rewards(groups), strict=True)]


def drawings_of(llm: LLM, trajectories: Sequence[Trajectory]) -> list[Image | None]:
    """Return the image that each trajectory drew; `None` of those that are text.

    Raises:
        ValueError: if there is no image tokenizer.
    """
    if all(trajectory.sampling.writes == "text" for trajectory in trajectories):
        return [None] * len(trajectories)
    images = llm.images()
    if images.codec is None:
        raise ValueError(
            "model.image_codec: the drawings of a model are graded as pictures; give the directory of its "
            "image tokenizer"
        )
    pictures = [
        images.drawing(trajectory).picture if trajectory.sampling.writes == "image" else None
        for trajectory in trajectories
    ]
    return [picture and image_from(picture, "drawing") for picture in pictures]


def _group(answers: Sequence[Answer], scores: Sequence[Score]) -> Group:
    names = sorted({name for score in scores for name in score.parts})
    return Group(
        prompt=answers[0].prompt,
        trajectories=tuple(answer.trajectory for answer in answers),
        rewards=tuple(score.reward for score in scores),
        parts={name: tuple(score.parts.get(name, 0.0) for score in scores) for name in names},
    )
