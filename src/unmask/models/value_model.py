"""The critic's models: a head that reads values, on a backbone of its own or on the policy's.

`ValueModel` is `Model`'s sibling: it keeps no language head and no number that only one has a use for,
so the two are two classes; what trains, places and saves a model (`Learner`, `MasterWeights`,
`save_model`) takes either. `ActorCritic` is a policy with a value head beside its language head: one
forward pass gives log-probabilities and values of the same rows, and one gradient moves both. The
policy inside stays what it is, so the engine samples from it and knows of no second head.
"""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from unmask.models.attention import Attend
from unmask.models.heads import Scores, Targets, ValueHead
from unmask.models.spec import ModelSpec
from unmask.models.transformer import Backbone, Model

# The head of a critic: no published checkpoint names one, so every family has ours.
VALUE_HEAD = "value_head.weight"


class ValueModel(nn.Module):
    """A critic: the backbone of a policy under a head that reads values; no language head is kept."""

    stored_head: str

    def __init__(self, spec: ModelSpec, stored_head: str = VALUE_HEAD) -> None:
        """Build an uninitialised critic; `load_value_model` gives it a policy's backbone.

        Args:
            spec: of the backbone.
            stored_head: what a checkpoint calls the head.
        """
        super().__init__()
        self.spec = spec
        self.stored_head = stored_head
        self.backbone = Backbone(spec)
        self.value_head = ValueHead(spec)
        self.source: Path | None = None  # directory it was loaded from, whose files an export keeps

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.value_head.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the weights."""
        return self.value_head.weight.dtype

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor,
        attend: Attend,
        scored: Tensor,
        targets: Targets | None = None,
    ) -> Tensor:
        """Return the values `(S,)`, fp32 or wider, of rows `scored` of packed tokens; see `Model.forward`.

        `targets` are not read: a value belongs to the state before its row's token is revealed.
        """
        return self.value_head(self.backbone(tokens, positions, attend, scored))


class JudgedScores(NamedTuple):
    """What two heads say of the scored rows: `logprobs (S,)`, `entropy (S,)` and `values (S,)`."""

    logprobs: Tensor
    entropy: Tensor
    values: Tensor


class ActorCritic(nn.Module):
    """A policy and its critic on one backbone: only the value head is the critic's own."""

    def __init__(self, policy: Model) -> None:
        """Put a head that says 0 of everything beside a policy's; no weight is copied."""
        super().__init__()
        self.policy = policy
        self.value_head = ValueHead(policy.spec).to(policy.device, policy.dtype)

    @property
    def spec(self) -> ModelSpec:
        """Of the policy."""
        return self.policy.spec

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.policy.device

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the weights."""
        return self.policy.dtype

    def forward(
        self, tokens: Tensor, positions: Tensor, attend: Attend, scored: Tensor, targets: Targets
    ) -> JudgedScores:
        """Return scores of `targets` and values of their rows, from one pass through the backbone."""
        hidden = self.policy.backbone(tokens, positions, attend, scored)
        scores = self.policy.head(hidden, targets)
        assert isinstance(scores, Scores)
        return JudgedScores(*scores, self.value_head(hidden))


def critic_beside(policy: Model) -> ValueModel:
    """Return a critic on the memory of a policy's backbone, without the policy's adapters, head zero.

    For a policy whose own weights are frozen: what trained them would change the critic.
    """
    with torch.device("meta"):
        critic = ValueModel(policy.spec)
    held = policy.backbone.state_dict()
    own = {name: weight for name, weight in held.items() if ".lora_" not in name}
    critic.backbone.load_state_dict(own, assign=True)
    critic.backbone.requires_grad_(False)
    critic.value_head = ValueHead(policy.spec).to(policy.device, policy.dtype)
    critic.source = policy.source
    return critic
