"""The reference: a frozen policy that the KL penalty is measured from."""

from collections.abc import Sequence
from contextlib import nullcontext
from operator import attrgetter

from torch import Tensor

from unmask.checkpoints.checkpoint import load_model
from unmask.configs.rl import RLConfig
from unmask.diffusion.layout import pack_views
from unmask.diffusion.views import Views
from unmask.engine.scoring import score_views
from unmask.models.conventions import conventions_of
from unmask.models.families import imported_name
from unmask.models.lora import adapters_off
from unmask.models.transformer import Model

# What policy and reference must agree on for a token and a view to mean the same to both.
SHARED = ("vocab_size", "mask_id", "num_drawable", "attention", "is_shifted")


class Scorer:
    """A frozen model that scores the targets of views."""

    def __init__(self, model: Model, token_budget: int, without_adapters: bool = False) -> None:
        """Freeze a model.

        Args:
            model: is never trained from now on.
            token_budget: most tokens of a pack.
            without_adapters: score with the model's adapters off; only they are trained elsewhere, so
                the rest is frozen already.

        Raises:
            ValueError: if the model's mask id is unknown.
        """
        self.model = model if without_adapters else model.requires_grad_(False)
        self._frozen = adapters_off if without_adapters else nullcontext[Model]
        self._token_budget = token_budget
        self._conventions = conventions_of(model)

    def score(self, views: Sequence[Views]) -> list[Tensor]:
        """Return the log-probabilities `(N, C)` of every trajectory's targets."""
        packs = pack_views(views, self._conventions, self._token_budget)
        on_device = (pack.to(self.model.device) for pack in packs)
        with self._frozen(self.model):
            (logprobs,) = score_views(self.model, views, on_device, [attrgetter("logprobs")])
            return logprobs


def build_reference(config: RLConfig, model: Model) -> Scorer | None:
    """Load the frozen model that the KL penalty is measured from, if `loss.kl_to` names one.

    Args:
        config: of the run. `loss.kl_to = "reference"` is the model the run started from, also when the
            run is resumed; with `[lora]` that is the policy with its adapters off, without a second
            copy of the weights.
        model: the policy; the reference is held on the same device in the same number format.

    Raises:
        ValueError: as `load_model`, or if the two models do not have the same tokens.
    """
    if config.loss.kl_to == "step":
        return None
    is_start = config.loss.kl_to == "reference"
    if config.lora is not None and is_start:
        return Scorer(model, config.optimizer.token_budget, without_adapters=True)
    path = config.model.path if is_start else config.loss.kl_to
    own = config.model
    family = imported_name(model.spec.family)
    found = load_model(path, model.device, model.dtype, own.mask_id, own.block_size, family)
    for name in SHARED:
        ours, theirs = getattr(model.spec, name), getattr(found.spec, name)
        if ours != theirs:
            raise ValueError(
                f"loss.kl_to = {path}: its {name} is {theirs}, the trained model's is {ours}; "
                "a reference must have the same tokens and the same attention"
            )
    return Scorer(found, config.optimizer.token_budget)
