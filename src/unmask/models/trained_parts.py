"""The parts of a model with images that are trained.

    language           the language model; tower and projector are frozen
    projector          the projector and the newline vector alone, as in the first stage of LLaVA models
    with_projector     the language model, the projector and the newline vector
    all                the tower, too
    published_layers   the language model without its token embeddings: what dLLM-RL trains of LLaDA-V, whose input
                       vectors are computed without gradient

A text model has a language model only. The tower's weights do not move unless `all` is asked for, so its output is
computed once per image.
"""

from typing import get_args

from unmask.configs.model import TrainedParts
from unmask.models.transformer import Model
from unmask.models.value_model import ValueModel
from unmask.models.vision.lladav import LladavVision


def choose_trained(model: Model | ValueModel, parts: TrainedParts) -> None:
    """Set which weights of a model gradients reach, in place.

    Raises:
        ValueError: if a text model has no such part.
    """
    vision = model.backbone.vision
    if vision is None:
        if parts != "language":
            raise ValueError(
                f"model.trains = {parts}: the model has no vision side; leave it out, or give one of "
                f"{', '.join(get_args(TrainedParts))} with a model that has"
            )
        return
    assert isinstance(vision, LladavVision)
    model.requires_grad_(parts != "projector")
    if isinstance(model, ValueModel):
        model.value_head.requires_grad_(True)
    if parts == "published_layers":
        model.backbone.embedding.requires_grad_(False)
    vision.requires_grad_(parts in ("projector", "with_projector", "all"))
    vision.tower.requires_grad_(parts == "all")
    vision.tower.post_layernorm.requires_grad_(False)  # no output depends on it
