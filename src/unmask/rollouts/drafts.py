"""Drafts: what the policy would have answered at a denoising step, all that was still hidden written at once.

    draft l of a response = the tokens revealed before its step l, and one draw of every other token given these

Each draft is graded, so that a step of few rollouts has the rewards of many answers, and is trained on in place of
the response (wd1++, arXiv 2507.08838, section 3.3). The engine writes it: what is given is pinned, and every
block takes one denoising step. In block-causal models blocks that the response had not begun follow in one
step each; under full attention there is one step in all.

The `M` steps of a response that has S are drawn by systematic sampling: floor((u + m) S / M) + 1 for m = 0, ...,
M - 1 and one uniform u, which is a hash of the response's own seed.
"""

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

from unmask.engine.llm import LLM
from unmask.runs.trajectories import total_reward
from unmask.sampling_params import SamplingParams
from unmask.seeds import derive_seed
from unmask.types import Group, Trajectory

# Keeps the seed of the steps apart from those of the drafts, which are numbered from 0.
STEPS = -1


def write_drafts(llm: LLM, groups: Sequence[Group], count: int) -> list[Trajectory]:
    """Return `count` drafts of every response of the groups, those of a group together.

    Args:
        llm: writes them; its weights are those that wrote the responses.
        groups: of responses.
        count: `M`.
    """
    is_full = llm.model.spec.is_full
    asked = [
        (trajectory.prompt, draft_sampling(trajectory, step, number, is_full))
        for group in groups
        for trajectory in group.trajectories
        for number, step in enumerate(draft_steps(trajectory, count))
    ]
    return llm.complete([prompt for prompt, _ in asked], [sampling for _, sampling in asked])


def draft_steps(trajectory: Trajectory, count: int) -> list[int]:
    """Return the denoising steps of a response, counted from 1, before which its drafts are written."""
    num_steps = max(trajectory.step_map[: trajectory.num_response])
    start = derive_seed(trajectory.sampling.seed, STEPS) / 2**63  # in [0, 1)
    return [int((start + number) * num_steps / count) + 1 for number in range(count)]


def draft_sampling(
    trajectory: Trajectory, step: int, number: int, is_full: bool = False
) -> SamplingParams:
    """Return the parameters that write a draft: what was revealed before `step` is pinned.

    Tokens right of the response are not given: they are no part of the answer.
    """
    sampling = trajectory.sampling
    written = zip(trajectory.canvas_ids, trajectory.step_map, strict=True)
    given = [
        (position, token)
        for position, (token, revealed) in enumerate(written)
        if position < trajectory.num_response and 0 < revealed < step
    ]
    return replace(
        sampling,
        strategy="static",
        schedule="even",
        denoising_steps=1,
        block_size=sampling.max_tokens if is_full else sampling.block_size,
        seed=derive_seed(sampling.seed, number),
        pinned=(*sampling.pinned, *given),
    )


def draft_metrics(groups: Sequence[Group]) -> dict[str, float]:
    """Return the mean reward of drafts; nothing without any."""
    pairs = [
        (reward, trajectory.step_map)
        for group in groups
        for reward, trajectory in zip(group.rewards, group.trajectories, strict=True)
    ]
    return {"draft_reward": fmean(total_reward(*pair) for pair in pairs)} if pairs else {}
