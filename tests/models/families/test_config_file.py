"""`config.json` with any value in any place: a spec, or one line that names file and key."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.models.toy import GOLDEN
from unmask.checkpoints.checkpoint import load_model, read_spec
from unmask.checkpoints.weights import WEIGHTS
from unmask.models.families import families
from unmask.models.families.config_file import ConfigKeys, read_config

NAMES = [family.name for family in families()]
KEYS = sorted(ConfigKeys.model_fields)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.text(max_size=4),
    st.sampled_from([-1, 0, 1, 2, 3, 7, 65, 2**31, 10**12, 10**30]),
    st.floats(),
    st.sampled_from([[], [1], [None], {}, {"a": 1}, {"rope_type": "llama3"}, {"factor": 2.0}]),
)


def place(family: str, directory: Path, **changes: Any) -> Path:
    """Copy a golden checkpoint, with other values in its config."""
    directory.mkdir(exist_ok=True)
    config = json.loads((GOLDEN / family / "config.json").read_text()) | changes
    (directory / "config.json").write_text(json.dumps(config))
    shutil.copyfile(GOLDEN / family / WEIGHTS, directory / WEIGHTS)
    return directory


@pytest.mark.filterwarnings("ignore:no mask id")
@pytest.mark.parametrize("family", NAMES)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(key=st.sampled_from(KEYS), value=VALUES)
def test_any_value_loads_or_is_refused(
    family: str, key: str, value: object, tmp_path: Path
) -> None:
    directory = place(family, tmp_path / "model", **{key: value})
    try:
        model = load_model(directory)
    except ValueError as error:
        assert any(name in str(error) for name in ("config.json", ".safetensors", str(directory)))
    else:
        assert model.spec == read_spec(directory)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 10**12}, r"hidden_size = 1000000000000: must be less than"),
        ({"hidden_size": "64"}, r"hidden_size = '64': must be a valid integer"),
        ({"hidden_size": 64.0}, r"hidden_size = 64\.0: must be a valid integer"),
        ({"hidden_size": True}, r"hidden_size = True: must be a valid integer"),
        ({"num_hidden_layers": 10**6}, r"num_hidden_layers = 1000000: must be less than"),
        ({"rope_theta": float("nan")}, r"rope_theta = nan: must be a finite number"),
        ({"rope_scaling": "yarn"}, r"rope_scaling = 'yarn': must be"),
        ({"rope_scaling": {"factor": -1.0}}, r"rope_scaling\.factor = -1\.0: must be greater"),
        ({"architectures": -1}, r"architectures = -1: must be a valid list"),
        ({"architectures": [3]}, r"architectures\.0 = 3: must be a valid string"),
        ({"eos_token_id": [1, None]}, r"eos_token_id\.1 = None: must be a valid integer"),
        ({"num_key_value_heads": 3}, r"heads .* must be a multiple of the 3"),
        ({"head_dim": 7}, r"7 dimensions of a head are rotated .* even number"),
    ],
)
def test_a_wrong_key_is_named_with_its_file(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    directory = place("sdar", tmp_path / "model", **changes)
    with pytest.raises(ValueError, match=rf"model/config\.json: .*{message}") as caught:
        read_spec(directory)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_experts_per_tok": 100}, r"num_experts_per_tok = 100: only"),
        ({"n_group": 3}, r"is not shared out over n_group = 3"),
        ({"topk_group": 1000}, r"topk_group = 1000: there are n_group"),
    ],
)
def test_experts_that_contradict_each_other(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        read_spec(place("llada2", tmp_path / "model", **changes))


@pytest.mark.filterwarnings("ignore:no mask id")
@pytest.mark.parametrize("family", NAMES)
def test_dropouts_of_any_name_change_nothing(family: str, tmp_path: Path) -> None:
    names = ("attention_dropout", "residual_dropout", "embedding_dropout", "output_dropout")
    names += ("hidden_dropout_prob", "resid_pdrop", "attn_pdrop", "classifier_dropout")
    plain = read_spec(place(family, tmp_path / "plain"))
    assert read_spec(place(family, tmp_path / "model", **dict.fromkeys(names, 0.1))) == plain


def test_keys_that_are_not_used_may_hold_anything(tmp_path: Path) -> None:
    directory = place("sdar", tmp_path / "model", transformers_version=[float("inf")], other={})
    assert read_config(directory)["other"] == {}
