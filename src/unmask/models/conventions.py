"""From a model to the `Conventions` that samplers and layouts take."""

from unmask.diffusion.conventions import Conventions
from unmask.models.heads import code_ids, drawable_ids
from unmask.models.transformer import Model
from unmask.models.value_model import ActorCritic, ValueModel


def conventions_of(model: Model | ValueModel | ActorCritic) -> Conventions:
    """Return the conventions of a model.

    `drawable` is the language head's own buffer where there is one: the ids that the engine draws are
    then always those over which log-probabilities are normalised.

    Raises:
        ValueError: if the model's mask id is unknown.
    """
    spec = model.spec
    is_model = isinstance(model, Model)
    drawable = model.head.drawable if is_model else drawable_ids(spec)
    codes = model.head.codes if is_model else code_ids(spec)
    codes = None if spec.image_ids is None else codes
    return Conventions(spec.require_mask_id(), drawable, spec.is_full, spec.is_shifted, codes)
