"""An update's work: trajectories of stated lengths under a model, and the packed layout of it."""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from unmask.configs.rl import RLConfig
from unmask.diffusion.layout import Pack, pack_views
from unmask.diffusion.views import Views, views_of_trajectory
from unmask.models.attention import Attend
from unmask.models.conventions import conventions_of
from unmask.models.heads import Scores, Targets
from unmask.models.spec import ModelSpec
from unmask.models.tiled_attention import TiledAttend, plan_documents
from unmask.models.transformer import Model, image_features
from unmask.sampling_params import SamplingParams
from unmask.trainers.learner import Objective
from unmask.trainers.losses import build_policy_objective
from unmask.types import Prompt, Trajectory

# Denoising steps that a block took, and how often; means of prompt and response; the longest, in means.
STEPS, SHARES = (1, 2, 3, 4), (0.35, 0.35, 0.2, 0.1)
# A single update per step; model and task are not read.
ANY_RUN = {"model": {"path": "-"}, "task": {"kind": "json"}}
MEANS = (150, 500)
LONGEST = 1.7


@dataclass(frozen=True, slots=True)
class Workload:
    """One update: what is trained, on what.

    Attributes:
        model: the weights.
        views: the trajectories' views; the same for every layout.
        objective: scores and pack to per-target terms.
        token_budget: most tokens of a forward and backward pass.
        mean: the one trajectory of mean lengths, whose memory is measured.
    """

    model: Model
    views: Sequence[Views]
    objective: Objective
    token_budget: int
    mean: Views | None = None

    @property
    def mask_id(self) -> int:
        """Return what hidden tokens read."""
        return self.model.spec.require_mask_id()


class Pass(NamedTuple):
    """One forward and backward pass: what goes in, and what it costs on paper.

    Attributes:
        pack: what goes in.
        attend: who sees whom.
        num_pairs: query-key pairs that attention computes, masked or not.
        num_scored: rows the head is run on.
        score: model and pass to scores.
    """

    pack: Pack
    attend: Attend
    num_pairs: int
    num_scored: int
    score: "Callable[[Model, Pass], Scores]"


def packed(work: Workload) -> Iterator[Pass]:
    """Lay an update out as the learner does."""
    for pack in pack_views(work.views, conventions_of(work.model), work.token_budget):
        moved = pack.to(work.model.device)
        attend = plan_documents(moved.structure)
        yield Pass(moved, attend, _num_pairs(attend), len(moved.rows), score_targets)


def _num_pairs(attend: Attend) -> int:
    """Return the query-key pairs that attention computes: of batches of rows, or of FlexAttention's tiles."""
    if isinstance(attend, TiledAttend):
        return sum(b.queries.numel() * b.keys.shape[1] for b in attend.batches)
    visited: Any = attend.mask  # type: ignore[attr-defined]
    tiles = int((visited.kv_num_blocks + visited.full_kv_num_blocks).sum())
    return tiles * math.prod(visited.BLOCK_SIZE)


def score_targets(model: Model, step: Pass) -> Scores:
    """Score as the learner does."""
    pack = step.pack
    targets = Targets(pack.targets, pack.temperatures)
    images = image_features(model.backbone.vision, pack.images)
    return model(pack.tokens, pack.positions, step.attend, pack.rows, targets, images)


def drawn(
    model: Model, lengths: Sequence[tuple[int, int]], mean: tuple[int, int], budget: int, seed: int
) -> Workload:
    """Return an update on trajectories of given prompt and response lengths, which share no prompt."""
    rng = random.Random(seed)
    views = [_draw_views(rng, uid, pair, model.spec) for uid, pair in enumerate([*lengths, mean])]
    # These tokens were not sampled: the policy's own log-probabilities are the old ones.
    objective = build_policy_objective(RLConfig.model_validate(ANY_RUN))
    return Workload(model, views[:-1], objective, budget, views[-1])


def lognormal_lengths(count: int, mean: int, seed: int) -> list[int]:
    """Draw lengths of a mean whose longest is `LONGEST` times the mean; `count` of 2 or more."""
    noise = torch.randn(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    low, high = 0.0, 10.0
    for _ in range(50):  # the longest, in means, grows with sigma
        sigma = (low + high) / 2
        lengths = (sigma * noise).exp()
        low, high = (sigma, high) if lengths.max() < LONGEST * lengths.mean() else (low, sigma)
    return (lengths * mean / lengths.mean()).round().long().clamp(min=1).tolist()


def _draw_views(rng: random.Random, uid: int, lengths: tuple[int, int], spec: ModelSpec) -> Views:
    trajectory = draw_trajectory(rng, uid, lengths, spec)
    # Under full attention a view costs a whole row: as many views as a block of four has at most.
    shrink = -(-max(trajectory.step_map) // STEPS[-1]) if spec.is_full else 1
    return views_of_trajectory(trajectory, rng.choice((-1.0, 1.0)), shrink, is_full=spec.is_full)


def draw_trajectory(
    rng: random.Random, uid: int, lengths: tuple[int, int], spec: ModelSpec
) -> Trajectory:
    """Draw a trajectory whose blocks took one to four denoising steps each, in any order of positions."""
    block = spec.block_size or STEPS[-1]
    num_prompt, num_response = lengths
    num_canvas = num_response + -(num_prompt + num_response) % block
    step_map: list[int] = []
    while len(step_map) < num_canvas:
        size = block - (num_prompt + len(step_map)) % block
        num_steps = min(size, rng.choices(STEPS, SHARES)[0])
        # Every step reveals a slot; the others are spread over the steps.
        steps = [*range(num_steps), *(rng.randrange(num_steps) for _ in range(size - num_steps))]
        rng.shuffle(steps)
        taken = max(step_map, default=0)
        step_map += [taken + 1 + step for step in steps]
    prompt_ids, canvas_ids = (
        tuple(rng.randrange(2, spec.vocab_size) for _ in range(count))
        for count in (num_prompt, num_canvas)
    )
    return Trajectory(
        prompt=Prompt("lengths", uid, (), prompt_ids),
        canvas_ids=canvas_ids,
        step_map=tuple(step_map),
        behavior_logprobs=(0.0,) * num_canvas,
        num_response=num_response,
        finish="length",
        policy_version=0,
        sampling=SamplingParams(block_size=block, stop_token_ids=(1,)),
        num_forwards=max(step_map),
    )
