"""Every key of a dLLM-RL file becomes a line or a comment, and the lines are a configuration."""

import re
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from tests.architecture.source import ROOT
from unmask.configs.eval import EvalConfig
from unmask.configs.foreign import (
    IMPLIED,
    PRESET_OF,
    RULES,
    Kind,
    kind_of_foreign,
    markdown_table,
    translate,
)
from unmask.configs.keys import keys
from unmask.configs.load import flatten
from unmask.configs.rl import RLConfig
from unmask.configs.section import Section
from unmask.configs.sft import SFTConfig
from unmask.presets import PRESETS

FILE = Path(__file__).with_name("rl_sdar.yaml")
CLASSES: dict[Kind, type[Section]] = {"sft": SFTConfig, "rl": RLConfig, "eval": EvalConfig}
SFT = {
    "model": {"pretrained_model": "m"},
    "dataset": {"optimization_data": "sft"},
    "training": {"batch_size_lm": 1, "gradient_accumulation_steps": 16, "lower_p": 0.1},
}
EVAL = {"model": "m", "dataset": {"eval_dataset": "MATH500"}, "rollout": {"top_k": 1}}


def rl_table() -> dict[str, Any]:
    return yaml.safe_load(FILE.read_text())


def lines_and_comments(table: dict[str, Any], kind: Kind) -> tuple[dict[str, Any], str]:
    text = translate(table, kind)
    comments = text.partition("# Without a line above:")[2]
    return dict(flatten(tomllib.loads(text))), comments


def test_the_result_is_a_configuration() -> None:
    lines, _ = lines_and_comments(rl_table(), "rl")
    config = RLConfig.model_validate(tomllib.loads(translate(rl_table(), "rl")))
    assert config.model.path == "JetLM/SDAR-4B-Chat"
    assert (config.steps, config.eval.every, config.rollout.prompts) == (80, 5, 64)
    assert (config.objective.clip_low, config.objective.clip_high) == (0.2, 0.2)
    assert (config.optimizer.lr, config.optimizer.betas) == (1e-6, (0.9, 0.98))
    assert (config.sampling.strategy, config.sampling.max_tokens) == ("dynamic", 2000)
    assert (config.filter.low, config.filter.high) == (0.2, 0.8)
    assert config.eval.sampling is not None
    assert (config.eval.split, config.eval.sampling.max_tokens) == ("test", 2000)
    assert lines["task.train"] == "data/MATH_train.json"
    assert (config.value.enabled, config.value.path) == (True, "JetLM/SDAR-4B-Chat")
    assert (lines["value.gamma"], "value.lam" in lines) == (1.0, False)


def test_a_critic_is_trained_where_it_has_a_base() -> None:
    table = rl_table()
    del table["model"]["value_base_model"], table["training"]["gam"]
    lines, _ = lines_and_comments(table, "rl")
    assert not [key for key in lines if key.startswith("value.")]


def test_no_key_is_dropped() -> None:
    text = translate(rl_table(), "rl")
    for name, _ in flatten(rl_table()):
        assert re.search(rf"(?m)(^| # |, )(# )?{re.escape(name)}\b", text), name


def test_what_has_no_line_has_a_reason() -> None:
    _, comments = lines_and_comments(rl_table(), "rl")
    assert (
        "# rollout.reward_model.k_sample = 3: write a [[reward]] table of kind process (docs/rewards.md)"
        in comments
    )
    assert "# system.HTTP_PROXY = null: " in comments
    assert "a_key_of_a_later_version = 7: unknown here" in comments
    assert "# training.block_size = 4: " in comments  # the reference was followed
    assert "# evaluation.top_k = [0, 1]: one evaluation at a time" in comments
    assert '# optimizer.params.policy_learning_rate = "2e-6": optimizer.lr stands above' in comments
    assert all(line.startswith("# ") for line in comments.splitlines()[1:])


def test_sft_and_eval_are_configurations() -> None:
    sft = SFTConfig.model_validate(tomllib.loads(translate(SFT, "sft")))
    assert (sft.data.batch_size, sft.data.path) == (16, Path("data/sft.json"))
    assert (sft.noise.low, sft.noise.noise) == (0.1, "per_token")
    evaluation = EvalConfig.model_validate(tomllib.loads(translate(EVAL, "eval")))
    assert (evaluation.model.path, evaluation.sampling.top_k) == ("m", 1)


def test_the_kind_is_in_the_file() -> None:
    assert [kind_of_foreign(table) for table in (rl_table(), SFT, EVAL)] == ["rl", "sft", "eval"]
    with pytest.raises(ValueError, match=r"say which kind .* --kind rl"):
        kind_of_foreign({"experiment": {}})


def test_the_sampler_of_a_model_is_its_preset() -> None:
    """What dLLM-RL's rollout engine does without a key: quotas of slots, filtered confidence."""
    lines, _ = lines_and_comments(rl_table(), "rl")
    assert lines["sampling.preset"] == lines["eval.sampling.preset"] == "dllm_rl_jetengine"
    config = RLConfig.model_validate(tomllib.loads(translate(rl_table(), "rl")))
    assert (config.sampling.schedule, config.sampling.confidence) == ("block", "filtered")
    assert (config.sampling.strategy, config.sampling.temperature) == ("dynamic", 1.0)


def rl_with(base: str = "sdar", **training: Any) -> tuple[dict[str, Any], str]:
    """Translate an RL file with these training keys, check the result, return lines and comments."""
    table = rl_table()
    table["model"]["model_base"] = base
    table["training"] |= training
    table["rollout"]["block_size"] = 4
    RLConfig.model_validate(tomllib.loads(translate(table, "rl")))
    return lines_and_comments(table, "rl")


def test_method_and_estimator_have_our_names() -> None:
    lines, _ = rl_with(method="TraceRL", use_kl_estimator_k3=False, num_train_epochs=2)
    assert (lines["objective.method"], lines["objective.kl_estimator"]) == ("trace", "k1")
    assert (lines["epochs"], lines["optimizer.reset_every_step"]) == (2, True)
    assert "objective.mask_level" not in lines and "objective.train_block" not in lines


def test_masks_are_drawn_as_its_two_kinds_of_models_do() -> None:
    masks = {"lower_p": 0.2, "upper_p": "8e-1", "mask_times_per_sample": 35, "shrink": 8}
    lines, comments = rl_with(method="random_masking", **masks)
    assert (lines["objective.method"], lines["objective.mask_level"]) == ("random", "per_token")
    assert (lines["objective.mask_low"], lines["objective.mask_high"]) == (0.2, 0.8)
    assert "objective.mask_views" not in lines and "mask_times_per_sample = 35: " in comments
    assert "# training.shrink = 8: only TraceRL merges reveals" in comments
    assert lines["objective.reduction"] == "constant"

    lines, _ = rl_with("llada", method="coupled", **masks)
    assert (lines["objective.method"], lines["objective.mask_views"]) == ("coupled", 35)
    assert "objective.mask_level" not in lines  # one level per view there
    assert lines["objective.reduction"] == "view"


def test_larger_training_blocks_are_lines() -> None:
    lines, comments = rl_with(block_size=8)
    assert lines["objective.train_block"] == 8
    assert "# training.block_size = 8: written as objective.train_block" in comments


LLADA = {"steps": 512, "max_gen_length": 512, "block_size": 32, "temperature": 0.1}


@pytest.mark.parametrize(
    ("keys_", "expected"),
    [
        ({"remasking_strategy": "low_confidence_static"}, "static"),
        ({"remasking_strategy": "low_confidence_static", "target": "confidence"}, "static"),
        ({"target": "margin_confidence", "remasking_strategy": "low_confidence_static"}, "margin"),
        ({"target": "neg_entropy", "remasking_strategy": ["low_confidence_static"]}, "entropy"),
        ({"target": "random", "remasking_strategy": "low_confidence_static"}, "random"),
        ({"target": "neg_entropy", "remasking_strategy": "low_confidence_dynamic"}, "dynamic"),
        ({"remasking_strategy": "sequential"}, "left_to_right"),
    ],
)
def test_what_ranks_the_slots_is_the_strategy(keys_: dict[str, Any], expected: str) -> None:
    table = {"model": "m", "model_base": "llada", "rollout": {**LLADA, **keys_, "alg_temp": 0.5}}
    table["dataset"] = {"eval_dataset": "MATH500"}
    lines, comments = lines_and_comments(table, "eval")
    assert (lines["sampling.strategy"], lines["sampling.preset"]) == (expected, "llada_official")
    assert (lines["sampling.denoising_steps"], lines["sampling.temperature"]) == (32, 0.1)
    assert "# rollout.steps = 512: of a whole response; written per block" in comments
    assert "# rollout.alg_temp = 0.5: slots are ranked, not drawn" in comments
    assert "not there yet" not in translate(table, "eval").partition("\n\n")[0]
    EvalConfig.model_validate(tomllib.loads(translate(table, "eval")))


def test_every_preset_of_a_model_exists() -> None:
    assert set(PRESET_OF.values()) <= PRESETS.keys()


def test_families_that_are_not_there_are_said_to_be() -> None:
    table = {"model": {"pretrained_model": "m", "model_base": "lladav"}}
    assert "# lladav models are not there yet" in translate(table, "rl")
    table["model"]["model_base"] = "llada"
    assert "models are not there yet" not in translate(table, "rl")


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"eps": "a lot"}, "training.eps = 'a lot': is not a number"),
        ({"eps": "${a.b}"}, r"training.eps = \$\{a.b\}: the file has no key a.b"),
        ({"eps": "${training.eps}"}, "has no key training.eps"),
    ],
)
def test_values_that_are_none_are_refused(section: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        translate({"training": section}, "rl")


def test_odd_keys_stay_in_their_comment() -> None:
    text = translate({True: {1: "a\nb"}, "x\ny = 3": 2}, "rl")
    assert set(dict(flatten(tomllib.loads(text)))) <= {implied.new for implied in IMPLIED["rl"]}
    assert '# True.1 = "a\\nb": unknown here' in text


@pytest.mark.parametrize("kind", get_args(Kind))
def test_the_tables_name_keys_that_exist_once(kind: Kind) -> None:
    ours = {key.name for key in keys(CLASSES[kind])}
    named = {key for rule in RULES[kind] for key in rule.new} | {i.new for i in IMPLIED[kind]}
    assert named <= ours
    old = [rule.old for rule in RULES[kind]]
    assert len(old) == len(set(old))
    assert all(rule.new or rule.note for rule in RULES[kind])


@pytest.mark.parametrize("kind", get_args(Kind))
def test_the_documentation_has_the_tables(kind: Kind) -> None:
    text = (ROOT / "docs" / "coming-from-dllm-rl.md").read_text()
    assert markdown_table(kind) in text, (
        f"put it there: python -c 'from unmask.configs.foreign import markdown_table as t; "
        f'print(t("{kind}"))\''
    )
