"""The tower against transformers' own model; its numbers are held in test_lladav.py."""

import torch
from transformers import SiglipVisionConfig, SiglipVisionModel

from unmask.models.vision.siglip import SiglipSpec, SiglipTower

SIZES = SiglipSpec(32, 48, 2, 2, image_size=31, patch_size=7)


def test_published_sizes() -> None:
    """729 patches of 384 x 384 pixels, 26 of 27 layers."""
    with torch.device("meta"):
        tower = SiglipTower(SiglipSpec())
    assert tower.positions.weight.shape == (729, 1152)
    assert len(tower.encoder.layers) == 26


@torch.no_grad()
def test_hidden_states_before_the_last_layer_of_transformers_model() -> None:
    torch.manual_seed(0)
    config = SiglipVisionConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=31,
        patch_size=7,
        attn_implementation="sdpa",
    )
    theirs, ours = SiglipVisionModel(config).eval(), SiglipTower(SIZES)
    kept = {
        name.removeprefix("vision_model."): weight
        for name, weight in theirs.state_dict().items()
        if ".layers.2." not in name and "head." not in name
    }
    names = {"patches": "embeddings.patch_embedding", "positions": "embeddings.position_embedding"}
    for name, parameter in ours.named_parameters():
        part, _, rest = name.partition(".")
        parameter.copy_(kept.pop(f"{names.get(part, part)}.{rest}"))
    assert not kept
    pixels = torch.rand(2, 3, 31, 31) * 2 - 1
    expected = theirs(pixels, output_hidden_states=True).hidden_states[-2]
    torch.testing.assert_close(ours(pixels), expected, rtol=0, atol=1e-6)
