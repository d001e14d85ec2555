"""Which weights are trained, by choice."""

import pytest

from tests.models.toy import family_model, toy_model
from unmask.configs.model import TrainedParts
from unmask.models.trained_parts import choose_trained

TOWER, PROJECTOR = (
    "backbone.vision.tower.",
    ("backbone.vision.projector.", "backbone.vision.newline"),
)
UNUSED = "backbone.vision.tower.post_layernorm."


@pytest.mark.parametrize("parts", ["language", "projector", "with_projector", "all"])
def test_parts_of_a_model_with_images(parts: TrainedParts) -> None:
    model = family_model("lladav")
    choose_trained(model, parts)
    for name, parameter in model.named_parameters():
        if name.startswith(TOWER):
            expected = parts == "all" and not name.startswith(UNUSED)
        elif name.startswith(PROJECTOR):
            expected = parts != "language"
        else:
            expected = parts != "projector"
        assert parameter.requires_grad is expected, name


def test_the_published_omission_leaves_out_the_embeddings() -> None:
    model = family_model("lladav")
    choose_trained(model, "published_layers")
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert {n for n in frozen if ".vision." not in n} == {"backbone.embedding.weight"}
    assert {n for n, _ in model.named_parameters() if ".vision." in n} <= frozen


def test_a_text_model_has_no_other_parts() -> None:
    choose_trained(toy_model(), "language")
    with pytest.raises(
        ValueError, match=r"model\.trains = projector: the model has no vision side"
    ):
        choose_trained(toy_model(), "projector")
