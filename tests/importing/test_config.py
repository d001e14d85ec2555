"""A dLLM-RL file becomes a configuration that runs alike, or is refused with all that differs."""

import copy
import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.architecture.source import ROOT
from unmask.configs.keys import keys, to_toml
from unmask.configs.load import flatten, load_config
from unmask.importing.config import CLASSES, IMPLIED, RULES, kind_of_foreign, translate
from unmask.importing.rules import Kind
from unmask.importing.table import PRESET_OF
from unmask.presets import PRESETS

FILE = Path(__file__).with_name("rl_sdar.yaml")
SFT: dict[str, Any] = {
    "experiment": {"project": "sft_sdar"},
    "model": {"pretrained_model": "m"},
    "dataset": {"optimization_data": "sft"},
    "training": {
        "method": "semi-ar",
        "block_size": 4,
        "batch_size_lm": 2,
        "gradient_accumulation_steps": 4,
        "num_train_epochs": 3,
        "lower_p": 0.1,
        "upper_p": 0.9,
        "post_num": 0,
    },
}
EVAL: dict[str, Any] = {
    "model": "m",
    "model_base": "llada",
    "dataset": {"eval_dataset": "MATH500", "data_type": "math"},
    "rollout": {
        "steps": 512,
        "max_gen_length": 512,
        "block_size": 32,
        "temperature": 0.1,
        "remasking_strategy": "low_confidence_static",
    },
}
FULL_ROLLOUT = {
    **{"num_task_per_step": 8, "num_response_per_task": 4, "temperature": 1.0, "steps": 64},
    **{"max_gen_length": 64, "block_size": 32, "remasking_strategy": "low_confidence_static"},
}


def rl_table() -> dict[str, Any]:
    return yaml.safe_load(FILE.read_text())


def full_table(base: str = "llada") -> dict[str, Any]:
    """An RL file of a full-attention model that has an exact counterpart."""
    table = rl_table()
    table["model"] |= {"model_base": base}
    del table["model"]["value_base_model"], table["training"]["gam"], table["evaluation"]
    table["rollout"] = {**FULL_ROLLOUT}
    table["training"] |= {"post_num": 1, "max_gen_length": 64}
    return table


def edited(table: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The table with `section__key` set."""
    table = copy.deepcopy(table)
    for name, value in changes.items():
        section, _, key = name.partition("__")
        if key:
            table.setdefault(section, {})[key] = value
        else:
            table[section] = value
    return table


def lines_of(table: dict[str, Any], **options: Any) -> dict[str, Any]:
    """The lines of an exact import."""
    return dict(flatten(tomllib.loads(translate(table, **options)[0])))


def losses(table: dict[str, Any], **options: Any) -> list[str]:
    """What a refusal names; checks that the lossy import is a configuration that marks each loss."""
    with pytest.raises(ValueError, match="--lossy") as refusal:
        translate(table, **options)
    named = str(refusal.value).splitlines()[1:]
    text, summary = translate(table, is_lossy=True, **options)
    CLASSES[kind_of_foreign(table)].model_validate(tomllib.loads(text))
    assert [line for line in summary if line.startswith("lost: ")] == [
        f"lost: {it}" for it in named
    ]
    assert all(f"LOST {loss}" in text for loss in named)
    return named


@pytest.fixture
def with_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Write ten demonstrations that end in a text where the import looks for them."""
    monkeypatch.chdir(tmp_path)

    def write(end: str) -> None:
        Path("data").mkdir(exist_ok=True)
        records = [{"prompt": "a", "response": f"b{end}"}] * 10
        Path("data/sft.json").write_text(json.dumps(records))

    return write


def test_the_result_is_a_configuration(tmp_path: Path) -> None:
    text, summary = translate(rl_table())
    path = tmp_path / "mine.toml"
    path.write_text(text)
    config = load_config(CLASSES["rl"], [path], [])[0].model_dump()
    assert (config["model"]["path"], config["steps"]) == ("JetLM/SDAR-4B-Chat", 80)
    assert config["loss"]["clip"] == (0.2, 0.2)
    assert (config["optimizer"]["lr"], config["optimizer"]["betas"]) == (2e-6, (0.9, 0.98))
    assert (config["sampling"]["schedule"], config["sampling"]["confidence"]) == (
        "block",
        "filtered",
    )
    assert (config["eval"]["split"], config["eval"]["sampling"]["max_tokens"]) == ("test", 2000)
    assert (config["advantage"]["kind"], config["advantage"]["clip"]) == ("value", 0.2)
    assert (config["filter"]["low"], config["shaping"]["forfeit_tokens"]) == (0.2, 5)
    assert config["loss"]["max_log_ratio"] == 10
    assert not any(line.startswith("lost") for line in summary)


def test_every_key_is_a_line_or_in_the_summary() -> None:
    text, summary = translate(rl_table())
    for name, _ in flatten(rl_table()):
        if name not in ("optimizer.params.beta2",):  # one line holds both
            assert f"# {name}" in text or any(name in line for line in summary), name


def test_keys_without_effect_are_summed_up_by_reason() -> None:
    _, summary = translate(edited(rl_table(), optimizer__name="adamw"))
    groups = dict(line.split(": ") for line in summary)
    assert "wandb.entity" in groups["no effect on results"]
    unread = groups["the published code does not read it for such a file"]
    assert "optimizer.params.learning_rate" in unread and "k_sample" in unread


@pytest.mark.parametrize("name", ["training__later", "rollout__later", "later", "experiment__x"])
def test_unknown_keys_are_refused(name: str) -> None:
    (loss,) = losses(edited(rl_table(), **{name: 7}))
    assert loss == f"{name.replace('__', '.')} = 7: dLLM-RL has no such key"


def test_a_refusal_is_one_list_of_all_that_differs() -> None:
    table = edited(rl_table(), training__later=7, training__post_num=2, dataset__data_type="code")
    assert [loss.split(":")[0] for loss in losses(table)] == [
        'dataset.data_type = "code"',
        "training.post_num = 2",
        "training.later = 7",
    ]


def test_a_critic_is_trained_where_it_has_a_base() -> None:
    table = rl_table()
    del table["model"]["value_base_model"], table["training"]["gam"]
    lines = lines_of(table)
    assert not [key for key in lines if key.startswith("value.")]
    assert lines["optimizer.lr"] == 1e-6
    # With one, the published scripts train TraceRL whatever is written.
    (loss,) = losses(edited(rl_table(), training__method="coupled"))
    assert loss.startswith('training.method = "coupled": ')


def test_process_rewards_are_refused() -> None:
    named = losses(edited(rl_table(), model__process_reward_model="judge"))
    assert [loss.split(" = ")[0] for loss in named] == [
        "model.process_reward_model",
        "rollout.reward_model.k_sample",
    ]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"dataset__data_type": "mmu"}, 'dataset.data_type = "mmu"'),
        ({"dataset__image_root": "images"}, 'dataset.image_root = "images"'),
        ({"model__vq_model_path": "vq"}, 'model.vq_model_path = "vq"'),
        ({"dataset__data_type": "code"}, 'dataset.data_type = "code"'),
        ({"evaluation__data_type": "code"}, 'evaluation.data_type = "code"'),
    ],
)
def test_images_and_programs_are_refused(changes: dict[str, Any], named: str) -> None:
    assert any(loss.startswith(f"{named}: ") for loss in losses(edited(full_table(), **changes)))


def image_table(base: str) -> dict[str, Any]:
    """An RL file of a model that reads images, with the values of the published ones."""
    table = full_table(base)
    table["dataset"] = {"train_dataset": "SEED", "data_type": "mmu", "image_root": "data/images"}
    table["model"] |= {"vq_model_path": "magvitv2", "image_resolution": 512}
    table["reward"] = {"answer_must_in_box": True, "strict_len_check": True}
    table["training"] |= {"beta": 0.0}
    return table


@pytest.mark.parametrize("base", ["mmada", "lladav"])
def test_images_of_rl_are_imported(base: str) -> None:
    lines = lines_of(image_table(base))
    assert lines["task.image_root"] == "data/images"
    assert lines.get("model.image_codec") == ("magvitv2" if base == "mmada" else None)
    assert (lines["filter.low"], lines["filter.high"]) == (0.05, 0.95)
    assert lines["shaping.forfeit_tokens"] == 5
    assert lines["sampling.preset"] == f"{base}_official"
    assert lines["task.template"].startswith("You need to put your final answer in")
    lenient = lines_of(edited(image_table(base), reward__strict_len_check=False))
    assert "shaping.forfeit_tokens" not in lenient
    valued = image_table(base)
    valued["model"]["value_base_model"] = "m"
    assert lines_of(valued)["loss.max_log_ratio"] == 10
    assert "loss.max_log_ratio" not in lines


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model__image_resolution", 256),
        ("model__clip_model_path", "clip"),
        ("reward__answer_must_in_box", False),
        ("reward__other", True),
        ("dataset__add_think_prompt", True),
        ("training__beta", 0.01),
    ],
)
def test_what_images_would_differ_in_is_refused(name: str, value: Any) -> None:
    (loss,) = losses(edited(image_table("mmada"), **{name: value}))
    assert loss.startswith(name.replace("__", "."))


def test_evaluations_of_images_are_imported() -> None:
    table: dict[str, Any] = {**EVAL, "model_base": "mmada", "vq_model_path": "vq"}
    table |= {"image_resolution": 512, "answer_must_in_box": True}
    table["dataset"] = {"eval_dataset": "SEED", "data_type": "mmu", "image_root": "images"}
    table["rollout"] = {**EVAL["rollout"], "num_response_per_task": 3}
    lines = lines_of(table)
    assert (lines["task.test"], lines["task.image_root"]) == ("data/SEED.json", "images")
    assert (lines["model.image_codec"], lines["samples"]) == ("vq", 1)
    table["rollout"] |= {"remasking_strategy": "low_confidence_dynamic", "dynamic_threshold": 0.9}
    assert lines_of(table)["samples"] == 3


def test_sft_of_images_is_refused() -> None:
    table = {**SFT, "experiment": {"project": "sft_lladav"}}
    table["dataset"] = {"optimization_data": "sft", "data_type": "mmu", "image_root": "images"}
    named = losses(table)
    for key in ("dataset.data_type", "dataset.image_root"):
        assert any(loss.startswith(f"{key} = ") for loss in named)


def test_masks_are_drawn_as_its_two_kinds_of_models_do() -> None:
    masks: dict[str, Any] = {
        **{"training__lower_p": 0.2, "training__upper_p": "8e-1", "training__shrink": 8},
        "training__mask_times_per_sample": 35,
    }
    block = rl_table()
    del block["model"]["value_base_model"]
    lines = lines_of(edited(block, training__method="random_masking", **masks))
    assert (lines["views.kind"], lines["views.level"]) == ("random", "token")
    assert (lines["views.low"], lines["views.high"]) == (0.2, 0.8)
    assert (lines["loss.reduction"], "views.count" in lines) == ("constant", False)

    lines = lines_of(edited(full_table(), training__method="coupled", **masks))
    assert (lines["views.kind"], lines["views.count"]) == ("coupled", 35)
    assert (lines["loss.reduction"], "views.level" in lines) == ("view", False)


@pytest.mark.parametrize("base", ["llada", "dream", "mmada"])
def test_log_ratios_are_not_clamped_under_full_attention(base: str) -> None:
    assert "loss.max_log_ratio" not in lines_of(full_table(base))


@pytest.mark.parametrize("base", ["llada", "dream", "mmada"])
def test_pads_are_counted_from_the_stop_token_on(base: str) -> None:
    assert lines_of(full_table(base))["views.post_num"] == 0
    assert lines_of(edited(full_table(base), training__post_num=4))["views.post_num"] == 3
    for value in (0, None):
        (loss,) = losses(edited(full_table(base), training__post_num=value))
        assert loss.startswith(f"training.post_num = {'null' if value is None else value}: ")
    # Of block models the stop token is no pad, and a row trains pads that no sampler wrote.
    assert lines_of(rl_table())["views.post_num"] == 0
    assert losses(edited(rl_table(), training__post_num=1))


def test_blocks_of_training_are_a_multiple_or_refused() -> None:
    assert lines_of(edited(rl_table(), training__block_size=8))["views.train_block"] == 8
    assert "views.train_block" not in lines_of(rl_table())
    assert losses(edited(rl_table(), training__block_size=6))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("experiment__start_from_scratch", False),
        ("experiment__current_epoch", 7),
        ("training__max_gen_length", 10),
        ("training__mixed_precision", "fp16"),
        ("training__use_kl_estimator_k3", "k2"),
        ("rollout__start_with_think", True),
        ("optimizer__name", "lion"),
        ("training__eps", [0.1, 0.2]),
    ],
)
def test_values_that_would_train_differently_are_refused(name: str, value: Any) -> None:
    (loss,) = losses(edited(rl_table(), **{name: value}))
    assert loss.startswith(name.replace("__", "."))


@pytest.mark.parametrize(
    ("schedule", "warmup", "share", "is_exact"),
    [("cosine", 0, 1.0, True), ("cosine", 0, 0.1, False), ("constant_with_warmup", 9, 1, False)],
)
def test_a_schedule_that_begins_anew_at_each_step_is_refused(
    schedule: str, warmup: int, share: float, is_exact: bool
) -> None:
    params = {"warmup_steps": warmup, "min_lr_scale": share}
    table = edited(rl_table(), lr_scheduler={"scheduler": schedule, "params": params})
    if is_exact:
        assert lines_of(table)["optimizer.final_lr_share"] == 1.0
    else:
        assert losses(table)


def test_epochs_of_sft_are_steps(with_data: Callable[[str], None]) -> None:
    with_data("<|im_end|>")
    lines = lines_of(SFT, devices=1)
    # 10 demonstrations in batches of 8 are 2 steps, 3 times.
    assert (lines["data.batch_size"], lines["steps"], lines["data.path"]) == (8, 6, "data/sft.json")
    assert (lines["views.level"], lines["model.block_size"]) == ("token", 4)
    assert lines["loss.reduction"] == "constant" and "data.canvas_tokens" not in lines


@pytest.mark.usefixtures("with_data")
def test_epochs_of_absent_data_are_refused() -> None:
    named = losses(SFT, devices=1)
    assert [loss.split(" = ")[0] for loss in named] == [
        "training.num_train_epochs",
        "training.post_num",
    ]
    assert all("data/sft.json" in loss for loss in named)


def test_batches_of_unknown_devices_are_refused(with_data: Callable[[str], None]) -> None:
    with_data("<|im_end|>")
    assert "--devices" in losses(SFT)[0]


@pytest.mark.parametrize(
    ("end", "post_num", "is_exact"),
    [
        ("<|im_end|>", 0, True),
        ("<|endoftext|>", 1, True),
        ("<|endoftext|>", 0, False),
        ("<|im_end|>", 1, False),
        ("<|endoftext|>", 2, False),
        ("<|im_end|>", None, False),
    ],
)
def test_pads_of_sft_are_those_in_the_text(
    end: str, post_num: int | None, is_exact: bool, with_data: Callable[[str], None]
) -> None:
    with_data(end)
    table = edited(SFT, training__post_num=post_num)
    if is_exact:
        assert not any("post_num" in key for key in lines_of(table, devices=1))
    else:
        assert losses(table, devices=1)[0].startswith("training.post_num")


def is_random_masking(lines: dict[str, Any]) -> bool:
    """One noise level and one mean a row, as long as the longest, and no blocks."""
    found = [lines[key] for key in ("views.level", "loss.reduction", "data.canvas_tokens")]
    return found == ["response", "view", "longest"] and "model.block_size" not in lines


@pytest.mark.parametrize("base", ["llada", "mmada", "dream"])
def test_random_masking_under_full_attention_is_exact(
    base: str, with_data: Callable[[str], None]
) -> None:
    with_data("")
    masks = {"training__mask_times_per_sample": 2, "training__max_gen_length": 1024}
    table = edited(SFT, training__method="random_masking", model__model_base=base, **masks)
    lines = lines_of(table, devices=1)
    assert is_random_masking(lines)
    # Two rows a demonstration: 4 of the 10 fill the 8 rows of a step, 3 times.
    assert (lines["views.count"], lines["data.batch_size"], lines["steps"]) == (2, 4, 9)


@pytest.mark.parametrize("base", ["llada", "dream"])
@pytest.mark.parametrize("method", ["semi-ar", "trace", "ar"])
def test_other_sft_under_full_attention_is_refused(
    base: str, method: str, with_data: Callable[[str], None]
) -> None:
    with_data("")
    table = edited(SFT, training__method=method, experiment__project=f"sft_{base}")
    (loss,) = losses(table, devices=2)
    assert loss.startswith(f'training.method = "{method}": ')
    lines = dict(flatten(tomllib.loads(translate(table, devices=2, is_lossy=True)[0])))
    assert is_random_masking(lines)


@pytest.mark.parametrize("method", ["random_masking", "trace"])
def test_other_sft_of_block_models_is_refused(
    method: str, with_data: Callable[[str], None]
) -> None:
    with_data("")
    (loss,) = losses(edited(SFT, training__method=method), devices=1)
    assert loss.startswith(f'training.method = "{method}": ')


def test_lists_of_an_evaluation_are_variations() -> None:
    table = edited(
        EVAL,
        rollout__remasking_strategy=["low_confidence_static", "low_confidence_dynamic"],
        rollout__dynamic_threshold=[0.9, 0.8],
        rollout__block_size=[32],
    )
    text, _ = translate(table)
    config = CLASSES["eval"].model_validate(tomllib.loads(text)).model_dump()
    found = {
        name: (one["strategy"], one["threshold"], one["denoising_steps"], one["block_size"])
        for name, one in config["variations"].items()
    }
    assert found == {"static": ("static", 0.9, 32, 32), "dynamic": ("dynamic", 0.8, None, 32)}
    twice = lines_of(edited(EVAL, rollout__block_size=[16, 32]))
    assert twice["variations.static_1.block_size"] == 16
    assert twice["variations.static_2.denoising_steps"] == 32
    with pytest.raises(ValueError, match="must have equal lengths"):
        translate(edited(table, rollout__block_size=[8, 16, 32]))


def test_the_evaluation_of_a_run_can_be_imported_alone() -> None:
    strategies = ["low_confidence_static", "low_confidence_dynamic"]
    table = edited(rl_table(), evaluation__remasking_strategy=strategies)
    summary = translate(table)[1]
    assert any(line.startswith("unmask rl measures the first") for line in summary)
    text, _ = translate(table, "eval")
    config = CLASSES["eval"].model_validate(tomllib.loads(text)).model_dump()
    found = {name: one["top_k"] for name, one in config["variations"].items()}
    assert found == {"static": 0, "dynamic": 1}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "static"),
        ({"target": "confidence"}, "static"),
        ({"target": "margin_confidence"}, "margin"),
        ({"target": "neg_entropy"}, "entropy"),
        ({"target": "random"}, "random"),
        ({"remasking_strategy": "low_confidence_dynamic", "dynamic_threshold": 0.8}, "dynamic"),
    ],
)
def test_the_target_that_ranks_positions_is_the_strategy(
    changes: dict[str, Any], expected: str
) -> None:
    lines = lines_of(edited(EVAL, rollout={**EVAL["rollout"], **changes}))
    assert (lines["sampling.strategy"], lines["sampling.preset"]) == (expected, "llada_official")
    assert (lines["sampling.temperature"], lines["sampling.max_tokens"]) == (0.1, 512)
    assert lines.get("sampling.denoising_steps") == (None if expected == "dynamic" else 32)


@pytest.mark.parametrize(
    ("base", "changes"),
    [
        ("llada", {"steps": 100}),
        ("llada", {"remasking_strategy": "sequential"}),
        ("llada", {"remasking_strategy": "entropy_bounded"}),
        ("llada", {"remasking_strategy": "low_confidence_dynamic", "target": "neg_entropy"}),
        ("dream", {"target": "random"}),
        ("dream", {"alg_temp": 0.5}),
        ("dream", {"pad_target_penalty": 2.0}),
    ],
)
def test_samplers_that_are_not_there_are_refused(base: str, changes: dict[str, Any]) -> None:
    (loss,) = losses(edited(EVAL, model_base=base, rollout={**EVAL["rollout"], **changes}))
    assert loss.startswith(f"rollout.{list(changes)[-1]} = ")


@pytest.mark.parametrize(
    ("section", "of_config"), [("rollout", "sampling"), ("evaluation", "eval.sampling")]
)
@pytest.mark.parametrize(("stated", "bound"), [({}, 0.35), ({"eb_threshold": 2}, 2.0)])
def test_the_entropy_bound_is_that_of_its_engine(
    section: str, of_config: str, stated: dict[str, float], bound: float
) -> None:
    table = rl_table()
    del table["evaluation"]["top_k"]
    table[section] |= {"remasking_strategy": "entropy_bounded", **stated}
    config = CLASSES["rl"].model_validate(tomllib.loads(translate(table)[0])).model_dump()
    found = dict(flatten(config))
    keys = ("strategy", "entropy_sum", "entropy_bound")
    assert [found[f"{of_config}.{key}"] for key in keys] == ["entropy_bounded", "inclusive", bound]


def test_evaluations_under_an_entropy_bound_are_those_of_its_engine() -> None:
    strategies = ["low_confidence_dynamic", "entropy_bounded"]
    table = edited(rl_table(), evaluation__remasking_strategy=strategies)
    config = CLASSES["eval"].model_validate(tomllib.loads(translate(table, "eval")[0]))
    found = config.model_dump()["variations"]["entropy_bounded"]
    assert (found["entropy_sum"], found["entropy_bound"]) == ("inclusive", 0.35)


def test_filters_that_rl_refuses_are_refused() -> None:
    table = edited(full_table("dream"), rollout__top_p=0.9, rollout__top_k=50)
    assert [loss.split(":")[0] for loss in losses(table)] == [
        "rollout.top_p = 0.9",
        "rollout.top_k = 50",
    ]
    assert lines_of(edited(full_table("dream"), rollout__top_p=1.0, rollout__top_k=0))
    # LLaDA's sampler has none, whatever is written.
    assert lines_of(edited(full_table(), rollout__top_p=0.9))


def test_the_kind_and_the_model_are_in_the_file_or_asked_for() -> None:
    assert [kind_of_foreign(table) for table in (rl_table(), SFT, EVAL)] == ["rl", "sft", "eval"]
    with pytest.raises(ValueError, match=r"give the kind: --kind rl"):
        kind_of_foreign({"experiment": {}})
    unnamed = {name: value for name, value in EVAL.items() if name != "model_base"}
    with pytest.raises(ValueError, match="give --base"):
        translate(unnamed)
    assert lines_of(unnamed, base="dream")["sampling.preset"] == "dream_official"
    with pytest.raises(ValueError, match="--base dream: the file has"):
        translate(EVAL, base="dream")


@pytest.mark.parametrize("value", ["${a.b}", "${training.eps}", "x${training.beta}"])
def test_references_lead_to_a_value(value: str) -> None:
    with pytest.raises(ValueError, match=r"training\.eps = .*: must name one other key"):
        translate(edited(rl_table(), training__eps=value))


@pytest.mark.parametrize("value", ["a lot", -1])
def test_values_that_are_not_allowed_are_named(value: Any) -> None:
    with pytest.raises(ValueError, match=r"loss\.clip.*training\.eps"):
        translate(edited(rl_table(), training__eps=value))


def test_the_rows_name_keys_that_exist() -> None:
    kinds: tuple[Kind, ...] = ("sft", "rl", "eval")
    ours = {kind: {key.name for key in keys(CLASSES[kind])} for kind in kinds}
    for row in (*RULES, *IMPLIED):
        named = (row.new,) if isinstance(row.new, str) else row.new
        words = row.readers.split()
        trained = ("sft", "rl") if "trains" in words else kinds
        readers = [kind for kind in kinds if kind in words] or trained
        assert all(set(named) <= ours[kind] for kind in readers), row
    assert all(rule.new or rule.note for rule in RULES)
    assert set(PRESET_OF.values()) <= PRESETS.keys()


def markdown_tables() -> str:
    """What becomes of each key, and what is implied, as the documentation shows it."""
    readers: dict[tuple[str, str, str], list[str]] = {}
    for rule in RULES:
        # Both sections that sample have the same rows; one is shown.
        if not (rule.old.startswith("evaluation.") and rule.new and "sampling." in rule.new[0]):
            new = ", ".join(f"`{key}`" for key in rule.new) or f"({rule.fate})"
            readers.setdefault((rule.old, new, rule.note), []).append(rule.readers or "all")
    rows = ["| dLLM-RL | of files | unmask | remark |", "|---|---|---|---|"]
    for (old, new, note), names in readers.items():
        rows.append(f"| `{old}` | {', '.join(dict.fromkeys(names))} | {new} | {note} |")
    rows += ["", "| of files | line | what it does without a key |", "|---|---|---|"]
    for row in IMPLIED:
        rows.append(f"| {row.readers} | `{row.new} = {to_toml(row.value)}` | {row.note} |")
    return "\n".join(rows)


def test_the_documentation_has_the_tables() -> None:
    text = (ROOT / "docs" / "coming-from-dllm-rl.md").read_text()
    assert markdown_tables() in text, (
        "put it there: python -c 'import tests.importing.test_config as t; print(t.markdown_tables())'"
    )
