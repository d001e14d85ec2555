"""The token budget of a model's packs: given, or chosen from `optimizer.memory`.

`auto` is a function of the trajectories of an update and of the model, not of the machine: a run that is resumed on
another CPU packs as before, and ranks agree. So is a number of GiB, for a number of devices. On a GPU,
`trainers/start.py` replaces `auto` by such a number, which the run's `config.json` holds.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from unmask.configs.rl import RLConfig
from unmask.configs.sft import SFTConfig
from unmask.configs.training import PolicyConfig
from unmask.diffusion.views import Views
from unmask.engine.llm import LLM
from unmask.models.transformer import Model
from unmask.models.value_model import ActorCritic, ValueModel
from unmask.planning.activations import PassCost, tokens_of_rows, tokens_within
from unmask.planning.devices import GIB
from unmask.planning.memory import cache_per_token
from unmask.planning.sizes import sizes_of


class Lengths(NamedTuple):
    """What a chosen budget depends on of an update.

    Attributes:
        prompt: tokens of the longest prompt.
        response: positions of the longest canvas.
        whole: most tokens of a part that cannot be split.
        scored: share of the packed tokens that are scored, at most.
    """

    prompt: int
    response: int
    whole: int
    scored: float = 1.0


Budget = Callable[[Lengths], int]


def build_budget(
    model: Any, token_budget: int | None, memory: float | str | None = "auto", state: int = 0
) -> Budget:
    """Return what chooses the tokens of a pack.

    Args:
        model: of any kind, as it is trained.
        token_budget: given; then nothing is chosen.
        memory: `auto` or GiB, of `optimizer.memory`.
        state: bytes of this device's weights, gradients and optimizer.

    Raises:
        ValueError: if `memory` has no room for activations.
    """
    if token_budget is not None:
        return lambda lengths: token_budget
    cost = pass_cost_of(model)
    if not isinstance(memory, float):
        return lambda lengths: max(
            lengths.whole,
            tokens_of_rows(cost, lengths.prompt, lengths.response, lengths.scored),
        )
    found = tokens_within(cost, memory * GIB - state)

    def within(lengths: Lengths) -> int:
        if lengths.whole > found:
            raise ValueError(
                f"optimizer.memory = {memory:g}: {state / GIB:.2f} GiB of weights, gradients and optimizer leave room "
                f"for packs of {found} tokens, and a part that cannot be split takes {lengths.whole}; raise it, set "
                "model.gradient_checkpointing = true, or train adapters ([lora])"
            )
        return found

    return within


def pass_cost_of(model: Model | ValueModel | ActorCritic) -> PassCost:
    """Return what the memory of a model's passes depends on."""
    policy = model.policy if isinstance(model, ActorCritic) else model
    head = None if isinstance(policy, ValueModel) else policy.head.projection.weight
    return PassCost(
        model.spec,
        model.dtype.itemsize,
        model.device.type == "cpu",
        model.backbone.gradient_checkpointing,
        is_frozen=not all(p.requires_grad for p in model.parameters()),
        head_gradient=head.nbytes if head is not None and head.requires_grad else 0,
        has_logits=head is not None,
    )


def free_gib(config: PolicyConfig, llm: LLM, num_devices: int) -> float:
    """Return the GiB of a GPU that one trained model may take, once the engine's model is loaded.

    What is free, without the most that the engine's cache takes, the reference, and the reserve of `unmask plan`. A
    value model with weights of its own gets as much as the policy.
    """
    model, spec = llm.model, llm.model.spec
    free, total = torch.cuda.mem_get_info(model.device)
    free += torch.cuda.memory_reserved(model.device) - torch.cuda.memory_allocated(model.device)
    own = sum(p.nbytes for p in model.parameters())
    cached = (llm.engine.params.cache_tokens or 0) * cache_per_token(spec, model.dtype.itemsize)
    frozen = 0 if isinstance(config, SFTConfig) or config.loss.kl_to == "step" else own
    if num_devices == 1:
        free += own  # several devices train shards next to the engine's copy
    else:
        sizes = sizes_of(spec)
        free -= (sizes.root + 2 * sizes.layer) * model.dtype.itemsize + 4 * sizes.layer
    trained = 2 if isinstance(config, RLConfig) and config.advantage.kind == "value" else 1
    left = free - cached - frozen / num_devices - GIB - total / 20
    return math.floor(100 * max(left, 0) / trained / GIB) / 100


def lengths_of(views: Sequence[Views]) -> Lengths:
    """Return the lengths of an update.

    Of a response of `C` positions whose views have `s` targets, at least `C + s` tokens are packed, or under full
    attention more.
    """
    prompts, canvases = [len(v.prompt_ids) for v in views], [len(v.canvas_ids) for v in views]
    targets = sum(int(v.target.sum()) for v in views)
    whole = max(map(sum, zip(prompts, canvases, strict=True)), default=0)
    scored = targets / max(1, targets + sum(canvases))
    return Lengths(max(prompts, default=0), max(canvases, default=0), whole, scored)
