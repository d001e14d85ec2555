"""Keys of other libraries point to ours, and to none that does not exist."""

import pytest

from unmask.configs.eval import EvalConfig
from unmask.configs.keys import keys
from unmask.configs.load import load_config
from unmask.configs.other_names import KEYS, ours
from unmask.configs.rl import RLConfig
from unmask.configs.section import Section
from unmask.configs.sft import SFTConfig

LISTED = {kind: {key.name for key in keys(kind)} for kind in (SFTConfig, RLConfig, EvalConfig)}


def test_every_pointer_leads_to_a_key() -> None:
    there = set().union(*LISTED.values())
    assert all(key in there for meant in KEYS.values() for key in meant)
    assert all(any(ours(name, listed) for listed in LISTED.values()) for name in KEYS)


@pytest.mark.parametrize(
    ("kind", "written", "key"),
    [
        (SFTConfig, "learning_rate", "optimizer.lr"),
        (SFTConfig, "bf16", "model.dtype"),
        (SFTConfig, "fp16", "model.dtype"),
        (SFTConfig, "batch_size", "data.batch_size or engine.max_sequences"),
        (RLConfig, "per_device_train_batch_size", "rollout.prompts or engine.max_sequences"),
        (SFTConfig, "num_train_epochs", "steps or epochs"),
        (RLConfig, "num_train_epochs", "steps or epochs"),
        (RLConfig, "optimizer.Learning_Rate", "optimizer.lr"),
        (EvalConfig, "output_dir", "run.dir"),
        (EvalConfig, "model.model_name_or_path", "model.path"),
        (EvalConfig, "sampling.max_new_tokens", "sampling.max_tokens"),
        (SFTConfig, "max_new_tokens", "eval.sampling.max_tokens"),
    ],
)
def test_the_error_names_our_key(kind: type[Section], written: str, key: str) -> None:
    with pytest.raises(ValueError) as caught:
        load_config(kind, [], [f"{written}=1"])
    expected = f"unknown key {written} (command line); here that is {key}"
    assert expected in str(caught.value).splitlines()


def test_a_key_without_a_successor_is_refused_in_one_sentence() -> None:
    with pytest.raises(ValueError, match=r"unknown key model\.matmul .*model\.matmul is gone: "):
        load_config(SFTConfig, [], ["model.matmul=packed"])


def test_what_no_configuration_has_is_not_pointed_to() -> None:
    assert ours("num_generations", LISTED[SFTConfig]) == []
    assert ours("steps_", LISTED[SFTConfig]) == []
