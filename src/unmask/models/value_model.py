"""Value models (critics): a value head on a backbone of its own, or on the policy's.

`ValueModel` has the interface of `Model` with a value head in place of the language head; `Learner`,
`MasterWeights` and `save_model` accept either. `ActorCritic` adds a value head to a policy: one forward
pass gives log-probabilities and values of the same rows, and one gradient trains both. The policy inside
is unchanged, so the engine samples from it.

All are called through `forward` alone, on which FSDP2 places its hooks.
"""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from unmask.models.attention import Attend
from unmask.models.heads import Scores, Targets, ValueHead
from unmask.models.spec import ModelSpec
from unmask.models.transformer import Backbone, Images, Model

# Name of the head in a checkpoint, the same in every family: no published one defines it.
VALUE_HEAD = "value_head.weight"


class ValueModel(nn.Module):
    """A critic: the backbone of a policy and a value head; there is no language head."""

    stored_head: str
    is_batch_invariant = False  # no engine computes its values

    def __init__(self, spec: ModelSpec, stored_head: str = VALUE_HEAD) -> None:
        """Build an uninitialised critic; `load_value_model` loads a policy's backbone into it.

        Args:
            spec: of the backbone.
            stored_head: name of the head's weight in a checkpoint.
        """
        super().__init__()
        self.spec = spec
        self.stored_head = stored_head
        self.backbone = Backbone(spec)
        self.value_head = ValueHead(spec)
        self.source: Path | None = None  # directory it was loaded from, whose files an export keeps

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
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
        images: Images | None = None,
    ) -> Tensor:
        """Return the values `(S,)`, fp32 or wider, of rows `scored` of packed tokens; see `Model.forward`.

        `targets` are not read: a value belongs to the state before its row's token is revealed.
        """
        return self.value_head(self.backbone(tokens, positions, attend, scored, images))


class ActorCriticScores(NamedTuple):
    """Outputs of both heads at the scored rows: `logprobs (S,)`, `entropy (S,)` and `values (S,)`."""

    logprobs: Tensor
    entropy: Tensor
    values: Tensor


class ActorCritic(nn.Module):
    """A policy and a critic that share one backbone; only the value head belongs to the critic."""

    def __init__(self, policy: Model) -> None:
        """Add a zero-initialised value head to the policy; the backbone is shared."""
        super().__init__()
        self.policy, self.spec = policy, policy.spec
        self.value_head = ValueHead(policy.spec).to(policy.device, policy.dtype)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.policy.device

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the weights."""
        return self.policy.dtype

    @property
    def is_batch_invariant(self) -> bool:
        """Whether the policy is; see `models/batch_invariant.py`."""
        return self.policy.is_batch_invariant

    @property
    def backbone(self) -> Backbone:
        """That of the policy."""
        return self.policy.backbone

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor,
        attend: Attend,
        scored: Tensor,
        targets: Targets,
        images: Images | None = None,
    ) -> ActorCriticScores:
        """Return scores of `targets` and values of their rows, from one pass through the backbone."""
        hidden = self.policy.backbone(tokens, positions, attend, scored, images)
        scores = self.policy.head(hidden, targets)
        assert isinstance(scores, Scores)
        return ActorCriticScores(*scores, self.value_head(hidden))


def critic_on_frozen_policy(policy: Model) -> ValueModel:
    """Return a critic that shares the memory of a policy's frozen backbone, with a zero head.

    The policy's adapters are left out. Training the policy's own weights would change the critic.
    """
    with torch.device("meta"):
        critic = ValueModel(policy.spec)
    held = policy.backbone.state_dict()
    own = {name: weight for name, weight in held.items() if ".lora_" not in name}
    critic.backbone.load_state_dict(own, assign=True)
    critic.backbone.vision = policy.backbone.vision  # with the features that it keeps
    critic.backbone.requires_grad_(False)
    critic.value_head = ValueHead(policy.spec).to(policy.device, policy.dtype)
    critic.source = policy.source
    return critic
