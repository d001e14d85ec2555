"""A trajectory as a line of JSON: prompt, tokens with the order of revealing, and reward.

Token ids and step map are stored next to the text, which does not determine them. The pieces (the text
of each token, decoded separately) are stored when they are given: a page that plays a trajectory has no
tokenizer, and a text cannot be split into its tokens later. The reference answer is left out: graders
keep arbitrary objects in it, and task and uid identify it.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from statistics import fmean
from typing import Any

from unmask.images import Image
from unmask.types import Group, Message, Prompt, Reward, Trajectory


def trajectory_record(
    trajectory: Trajectory,
    text: str,
    reward: Reward | None,
    parts: Mapping[str, float] | None = None,
    step: int | None = None,
    pieces: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Return the record of one response as JSON values.

    Args:
        trajectory: the response and the order in which it was revealed.
        text: the response as text, as the grader read it.
        reward: a number, or one number per response token; None where verdicts are stored apart
            (`runs.gradings`).
        parts: named parts of the reward.
        step: the optimizer step of its rollout.
        pieces: the text of each of `grid_ids(trajectory)`, special tokens spelled out; half a
            multi-byte character may be U+FFFD.

    Revisions are recorded where there are any, in order: step, position, token, logprob and kind of each.
    """
    # Images by name and digest: their bytes are stored once, not in every record.
    prompt = replace(trajectory.prompt, messages=(), reference={}, images=())
    fields = asdict(replace(trajectory, prompt=prompt))
    fields["prompt"] |= _prompt_fields(trajectory.prompt)
    del fields["prompt"]["reference"], fields["prompt"]["images"]
    if not prompt.unconditional_ids:
        del fields["prompt"]["unconditional_ids"]
    if not trajectory.policy_versions:  # all tokens have the one `policy_version`
        del fields["policy_versions"]
    del fields["num_steps"]  # recorded as `num_denoising_steps`, its older name
    for revision in fields["revisions"]:
        if revision["policy_version"] is None:  # that of the trajectory
            del revision["policy_version"]
    if not trajectory.revisions:
        del fields["revisions"]
    if pieces is not None:
        assert len(pieces) == len(grid_ids(trajectory)), "one piece per token of the grid"
        fields["pieces"] = list(pieces)
    return {
        "step": step,
        "text": text,
        "reward": reward,
        "parts": dict(parts or {}),
        "num_denoising_steps": trajectory.num_steps,
        **fields,
    }


def prompt_images(prompt: Prompt) -> list[Image]:
    """Return the images of a prompt's messages."""
    return [image for message in prompt.messages for image in message.images]


def _prompt_fields(prompt: Prompt) -> dict[str, Any]:
    """Return messages and pictures of a prompt as JSON values; pictures where there are any."""
    messages = [
        {"role": turn.role, "content": turn.content} | _images(turn) for turn in prompt.messages
    ]
    vectors = [{"digest": image.digest.hex(), "count": image.count} for image in prompt.images]
    return {"messages": messages} | ({"image_vectors": vectors} if vectors else {})


def _images(message: Message) -> dict[str, Any]:
    named = list(map(image_record, message.images))
    return {"images": named} if named else {}


def image_record(image: Image) -> dict[str, str]:
    """Return the record of an image: its name and its digest."""
    return {"name": image.name, "digest": image.digest.hex()}


def total_reward(reward: Reward | Sequence[float], step_map: Sequence[int]) -> float:
    """Return a reward as one number.

    A reward per token (a list in JSON) becomes the sum over denoising steps of the mean over the
    step's tokens, as the value model uses it.

    Args:
        reward: a number, or one per response token.
        step_map: of the trajectory, at least as long.
    """
    if not isinstance(reward, Sequence):
        return reward
    by_step: defaultdict[int, list[float]] = defaultdict(list)
    for value, step in zip(reward, step_map, strict=False):
        by_step[step].append(value)
    return sum(map(fmean, by_step.values()))


def group_totals(group: Group) -> list[float]:
    """Return the rewards of a group, each as one number."""
    return [
        total_reward(reward, trajectory.step_map)
        for reward, trajectory in zip(group.rewards, group.trajectories, strict=True)
    ]


def grid_ids(trajectory: Trajectory) -> tuple[int, ...]:
    """Return the tokens on the block grid: the prompt's tail in the first block, then the canvas, then those revised.

    The grid starts at absolute position 0, so `P mod K` prompt tokens stand in the first block. The ids of
    `revisions` follow in their order.
    """
    prompt_ids, block = trajectory.prompt.token_ids, trajectory.sampling.block_size
    tail = len(prompt_ids) % block if block else 0
    revised = tuple(revision.token for revision in trajectory.revisions)
    return prompt_ids[len(prompt_ids) - tail :] + trajectory.canvas_ids + revised
