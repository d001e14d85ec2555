"""LLaDA-V checkpoints: the released config, and what is refused before a weight is read."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from tests.checkpoints.test_magvit_files import change_config, copy_of
from tests.models.toy import GOLDEN
from unmask.checkpoints.checkpoint import load_model, read_spec, save_model
from unmask.models.families import family_of
from unmask.models.vision.siglip import SiglipSpec

LLADAV, MASK = GOLDEN / "lladav", 147


def test_the_published_lladav_config(tmp_path: Path) -> None:
    """No sizes of the tower, and the grids as a list or as a string."""
    config = json.loads((LLADAV / "config.json").read_text())
    del config["vision_config"]
    grids = tuple((384 * i, 384 * j) for i in range(1, 7) for j in range(1, 7))
    for stated in ([list(size) for size in grids], "(1x1),...,(6x6)"):
        (tmp_path / "config.json").write_text(
            json.dumps(config | {"hidden_size": 4096, "image_grid_pinpoints": stated})
        )
        spec = read_spec(tmp_path, MASK).vision
        assert spec is not None and spec.tower == SiglipSpec() and spec.tower.side == 27
        assert (spec.width, spec.grids, spec.most_tiles) == (4096, grids, 4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"mm_vision_tower": "openai/clip"},
            "mm_vision_tower = 'openai/clip': only SigLIP is read",
        ),
        ({"image_aspect_ratio": "anyres"}, "must be pad or anyres_max_N"),
        ({"image_aspect_ratio": "anyres_max_0"}, "must be pad or anyres_max_N"),
        ({"image_grid_pinpoints": [[56, 57]]}, "must be pairs of multiples of 56"),
        ({"image_grid_pinpoints": [[56]]}, "must be pairs of multiples of 56"),
        ({"image_grid_pinpoints": []}, "must be pairs of multiples of 56"),
        ({"image_grid_pinpoints": "none"}, "must be pairs of multiples of 56"),
        ({"image_grid_pinpoints": None}, "must be pairs of multiples of 56"),
        ({"vision_config": {"hidden_size": 30, "num_attention_heads": 4}}, "must be a multiple of"),
        ({"vision_config": {"num_hidden_layers": 2**20}}, "vision_config.num_hidden_layers = "),
        ({"hidden_size": 65}, "has shape .* config.json asks for"),
    ],
)
def test_refuses_other_lladav_configs(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    change_config(copy_of(LLADAV, tmp_path), **changes)
    with pytest.raises(ValueError, match=message):
        load_model(tmp_path, mask_id=MASK)


def test_refuses_a_tower_with_its_last_layer_and_one_that_is_missing(tmp_path: Path) -> None:
    tower = "model.vision_tower.vision_tower.vision_model"
    extra = {f"{tower}.encoder.layers.2.layer_norm1.bias": torch.zeros(32)}
    with pytest.raises(ValueError, match=r"unexpected tensor .*layers\.2\.layer_norm1"):
        load_model(copy_of(LLADAV, tmp_path, **extra), mask_id=MASK)
    missing = {name: None for name in load_file(LLADAV / "model.safetensors") if tower in name}
    with pytest.raises(ValueError, match=rf"missing tensor '{tower}"):
        load_model(copy_of(LLADAV, tmp_path, **missing), mask_id=MASK)


def test_every_weight_is_loaded_and_saved_again(tmp_path: Path) -> None:
    model = load_model(LLADAV, mask_id=MASK)
    save_model(model, tmp_path)
    stored, saved = (load_file(folder / "model.safetensors") for folder in (LLADAV, tmp_path))
    assert stored.keys() == saved.keys()
    assert all(torch.equal(stored[name], saved[name]) for name in stored)
    assert not any(p.requires_grad for p in nn.Module.parameters(model.backbone.vision))


def test_a_text_class_with_the_model_type_is_this_family() -> None:
    """Released checkpoints state LLaDA's text class."""
    config = {"architectures": ["LLaDAModelLM"], "model_type": "llava_llada"}
    assert family_of(config).name == "lladav"
    assert family_of(config | {"model_type": "llada"}).name == "llada"


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"mm_projector_type": "linear"}, "mm_projector_type = 'linear'"),
    ({"mm_patch_merge_type": "flat"}, "mm_patch_merge_type = 'flat'"),
    ({"vision_config": {"hidden_act": "relu"}}, "hidden_act = 'relu'"),
]

TOWER_LAYER = "model.vision_tower.vision_tower.vision_model.encoder.layers.3"
STORED_NAMES = {
    "backbone.layers.3.attention.out.weight": "model.layers.3.self_attn.o_proj.weight",
    "backbone.vision.tower.encoder.layers.3.mlp.fc1.bias": f"{TOWER_LAYER}.mlp.fc1.bias",
    "backbone.vision.tower.encoder.layers.3.layer_norm2.weight": f"{TOWER_LAYER}.layer_norm2.weight",
    "backbone.vision.projector.2.bias": "model.mm_projector.2.bias",
    "backbone.vision.newline": "model.image_newline",
}
