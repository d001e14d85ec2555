"""The critic's model: `Model`'s sibling, the same backbone under a head that reads values.

It keeps no language head and no number that only one has a use for, so the two are two classes; what
trains, places and saves a model (`Learner`, `MasterWeights`, `save_model`) takes either.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from unmask.models.attention import Attend
from unmask.models.heads import Targets, ValueHead
from unmask.models.spec import ModelSpec
from unmask.models.transformer import Backbone

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

    def forward(self, tokens: Tensor, positions: Tensor, attend: Attend, scored: Tensor) -> Tensor:
        """Return the values `(S,)`, fp32 or wider, of rows `scored` of packed tokens; see `Model.forward`."""
        return self.value_head(self.backbone(tokens, positions, attend, scored))

    def score(
        self, tokens: Tensor, positions: Tensor, attend: Attend, scored: Tensor, targets: Targets
    ) -> Tensor:
        """Return the values of rows `scored`: of the states before a reveal, whatever its `targets` are."""
        return self(tokens, positions, attend, scored)
