"""The family of a config, and the round trip of every family's configs.

`test_NAME.py` states the refusals (`REFUSED`) and the easily confused names of tensors (`STORED_NAMES`)
of a family, and tests what is peculiar to it.
"""

import ast
import json
from importlib import import_module
from typing import Any

import pytest

from tests.architecture.source import PACKAGE, modules
from tests.models.toy import FAMILY_CHANGES, GOLDEN, toy_spec
from unmask.models.families import families, family_named, family_names, family_of
from unmask.models.families.family import Family, id_value, require, rope_theta, token_ids
from unmask.presets import PRESETS

every_family = pytest.mark.parametrize("family", families(), ids=[f.name for f in families()])


def test_the_architecture_decides_and_the_model_type_stands_in() -> None:
    assert family_of({"architectures": ["SDARForCausalLM"], "model_type": "x"}).name == "sdar"
    assert family_of({"model_type": "sdar"}).name == "sdar"
    for config in ({"architectures": ["Other"], "model_type": "sdar"}, {"model_type": "llama"}, {}):
        with pytest.raises(ValueError, match=r"supported: .*SDARForCausalLM"):
            family_of(config)


@pytest.mark.parametrize(
    ("architecture", "model_type", "name"),
    [
        ("LLaDAModelLM", "llada", "llada"),
        ("LLaDAModelLM", "mmada", "mmada"),
        ("LLaDAModelLM", None, "llada"),
        ("LLaDAModelLM", "other", "llada"),
        ("MMadaModelLM", "mmada", "mmada"),
        ("MMadaModelLM", "llada", "mmada"),
        ("LLaDAMoEModelLM", "llada", "llada_moe"),
        ("LLaDAMoEModel", "llada", "llada_moe"),
        (None, "llada", "llada"),
        (None, "mmada", "mmada"),
        (None, "Dream", "dream"),
    ],
)
def test_shared_names_are_distinguished(
    architecture: str | None, model_type: str | None, name: str
) -> None:
    config = {"architectures": [architecture] if architecture else None, "model_type": model_type}
    assert family_of(config).name == name


# As the released checkpoints have it: changing one would break those whose config leaves it out.
MASK_IDS = {
    "dream": 151666,
    "fast_dllm_v2": 151665,
    "llada": 126336,
    "llada2": 156895,
    "llada_moe": 156895,
    "lladav": 126336,
    "mmada": 126336,
    "sdar": 151669,
    "sdar_moe": 151669,
}


def stated(family: str, name: str) -> Any:
    """Return a constant of a family's own test."""
    return getattr(import_module(f"tests.models.families.test_{family}"), name)


@every_family
def test_every_family_has_its_file_its_sampler_and_its_mask(family: Family) -> None:
    assert family_named(family.name) is family and family.tiny.family == family.name
    assert {family.preset, *family.dllm_rl_presets.values()} <= PRESETS.keys()
    assert family.default_mask_id == MASK_IDS[family.name]


@pytest.mark.parametrize(
    ("family", "change", "message"),
    [(family, *case) for family in family_names() for case in stated(family, "REFUSED")],
)
def test_options_that_the_backbone_lacks_are_refused(
    family: str, change: dict[str, Any], message: str
) -> None:
    config = json.loads((GOLDEN / family / "config.json").read_text())
    with pytest.raises(ValueError, match=message):
        family_named(family).read_spec(config | change)


@every_family
def test_tensors_have_their_published_names(family: Family) -> None:
    expected = stated(family.name, "STORED_NAMES")
    assert {ours: family.weight_name(ours) for ours in expected} == expected


@every_family
def test_every_family_is_found_by_each_of_its_names(family: Family) -> None:
    for architecture in family.architectures:
        config = {"architectures": [architecture], "model_type": family.model_type}
        assert family_of(config) is family


@every_family
@pytest.mark.parametrize("eos_ids", [(), (3,), (3, 4)])
@pytest.mark.parametrize("is_tied", [False, True])
def test_a_new_config_reads_back(family: Family, eos_ids: tuple[int, ...], is_tied: bool) -> None:
    changes = FAMILY_CHANGES[family.name] | {"eos_ids": eos_ids, "is_tied": is_tied}
    spec = toy_spec(family=family.name, **changes)
    config = json.loads(json.dumps(family.new_config(spec)))
    assert family_of(config) is family
    assert family.read_spec(config) == spec


# Keys that a spec does not hold: code, versions, and the number of tokens of an image in MMaDA.
NOT_IN_A_SPEC = {"auto_map", "transformers_version", "torch_dtype", "dtype", "num_vq_tokens"}
# LLaDA-V's keys of videos, and of its training.
NOT_IN_A_SPEC |= {
    *("add_faster_video", "add_time_instruction", "faster_token_stride", "force_sample"),
    *("image_crop_resolution", "image_split_resolution", "mm_newline_position", "mm_projector_lr"),
    *("mm_resampler_type", "mm_spatial_pool_mode", "mm_spatial_pool_stride", "mm_tunable_parts"),
    *("mm_vision_tower_lr", "pretraining_tp", "tokenizer_model_max_length", "use_mm_proj"),
    *("tokenizer_padding_side", "use_cache", "vision_tower_pretrained"),
}
# Keys that released configs leave out, which a reader needs if they are not the default.
LEFT_OUT = {"mask_token_id", "block_size", "eos_token_id", "bos_token_id"}


@every_family
def test_a_new_config_has_the_fields_of_a_released_one(family: Family) -> None:
    released = json.loads((GOLDEN / family.name / "config.json").read_text())
    config = family.new_config(family.read_spec(released))
    unstated = NOT_IN_A_SPEC | {"bos_token_id"} if family.name == "lladav" else NOT_IN_A_SPEC
    assert released.keys() - config.keys() <= unstated
    assert config.keys() - released.keys() <= LEFT_OUT
    same = config.keys() & released.keys() - LEFT_OUT - {"pad_token_id", "max_window_layers"}
    different = {key for key in same - {"vision_config"} if config[key] != released[key]}
    assert different <= {"sliding_window", "use_cache"}  # of the published sampler


def test_token_ids() -> None:
    assert [token_ids(value) for value in (None, 0, [1, 2])] == [(), (0,), (1, 2)]
    assert [id_value(ids) for ids in ((), (0,), (1, 2))] == [None, 0, [1, 2]]


def test_require_refuses_another_value() -> None:
    require({"a": 1, "b": None, "d": 0.0}, a=1, b=2, c=3, d=0)
    require({"clip": None}, clip=None)
    with pytest.raises(ValueError, match=r"config\.json: a = 1: only 2 is supported"):
        require({"a": 1}, a=2)
    with pytest.raises(ValueError, match=r"clip = 8\.0: only None is supported"):
        require({"clip": 8.0}, clip=None)


def test_the_rotary_base_must_be_stated() -> None:
    with pytest.raises(KeyError, match="rope_theta"):
        rope_theta({})


# Literals that equal a family's name by chance: presets, dLLM-RL's names of models, and the
# spec that `unmask quickstart` trains.
OTHER_NAMES = {
    *("presets.py", "importing/rules.py", "importing/values.py", "cli/main.py"),
    "planning/published.py",
    "trainers/quickstart.py",
}


def test_no_module_outside_the_folder_names_a_family() -> None:
    names = family_names()
    found = {
        str(module.path.relative_to(PACKAGE))
        for module in modules()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Constant) and node.value in names
    }
    assert {path for path in found if not path.startswith("models/families/")} <= OTHER_NAMES
