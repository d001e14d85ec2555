"""Checkpoints that a loader once accepted silently, refused without a reason, or answered with a traceback."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.cases.command import edit_json, refused, tiny_model, unmask
from unmask import LLM, SamplingParams, load_model

WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def sdar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("sdar") / "model")


@pytest.fixture
def model(sdar: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sdar, tmp_path / "model"))


def generate(model: Path) -> Any:
    return unmask("generate", model, "3+4=", "--max-tokens", "8", "--temperature", "0")


@pytest.mark.parametrize(
    "values", [{"num_attention_heads": None}, {"rope_scaling": "yarn"}, {"architectures": -1}]
)
def test_a_config_of_wrong_types_is_one_line(values: dict[str, Any], model: Path) -> None:
    edit_json(model / "config.json", **values)
    result = generate(model)
    assert "Traceback" not in result.stderr
    assert result.returncode in (0, 2)


def test_a_template_with_a_syntax_error_is_one_line(model: Path) -> None:
    edit_json(
        model / "tokenizer_config.json", chat_template="{% for m in messages %}{{ m.content }"
    )
    refused(generate(model))


@pytest.mark.parametrize(
    ("family", "values"),
    [
        ("dream", {"attention_dropout": 0.1}),
        ("llada", {"residual_dropout": 0.1, "embedding_dropout": 0.1}),
    ],
)
def test_dropout_in_a_config_is_accepted(
    family: str, values: dict[str, float], tmp_path: Path
) -> None:
    model = tiny_model(tmp_path / "model", family)
    edit_json(model / "config.json", **values)
    load_model(model)


def test_integer_weights_are_refused(model: Path) -> None:
    tensors = {name: (t * 127).to(torch.int32) for name, t in load_file(model / WEIGHTS).items()}
    save_file(tensors, model / WEIGHTS, metadata={"format": "pt"})
    refused(generate(model))


def test_a_tensor_in_two_shards_is_refused_or_read_as_the_index_names_it(model: Path) -> None:
    expected = generate(model).stdout
    tensors = load_file(model / WEIGHTS)
    (model / WEIGHTS).unlink()
    names = sorted(tensors)
    shards = {"m-1.safetensors": names[::2], "m-2.safetensors": names[1::2]}
    index = {name: shard for shard, held in shards.items() for name in held}
    for shard, held in shards.items():
        save_file({name: tensors[name] for name in held}, model / shard)
    second = {name: tensors[name] for name in shards["m-2.safetensors"]}
    save_file(second | {names[0]: -tensors[names[0]]}, model / "m-2.safetensors")
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    result = generate(model)
    if result.returncode == 0:
        assert result.stdout == expected
    else:
        refused(result)


def test_a_stop_text_that_is_a_special_token_stops(sdar: Path) -> None:
    llm = LLM(str(sdar))
    free = SamplingParams(temperature=3.0, max_tokens=40, stop_token_ids=())
    asked = [replace(free, seed=seed) for seed in range(60)]
    for params, written in zip(asked, llm.generate(["Hello there"] * 60, asked), strict=True):
        if 0 in written.token_ids[:-5]:  # `<eos>`; near the end it could be past the stop
            (stopped,) = llm.generate(["Hello there"], replace(params, stop=("<eos>",)))
            assert stopped.finish == "stop"
            assert stopped.text == llm.decode(written.token_ids[: written.token_ids.index(0)])
            return
    pytest.fail("no seed wrote the special token")


@pytest.mark.parametrize("family", ["sdar", "llada2", "llada", "dream"])
def test_a_response_has_the_same_bits_alone_and_in_company(family: str, tmp_path: Path) -> None:
    llm = LLM(str(tiny_model(tmp_path / "model", family)))
    sampling = SamplingParams(max_tokens=17, seed=3)
    prompts = ["a", "b" * 90, "c" * 40]
    together = llm.generate(prompts, sampling)
    alone = [llm.generate([prompt], sampling)[0] for prompt in prompts]
    for one, other in zip(together, alone, strict=True):
        assert (one.token_ids, one.logprobs) == (other.token_ids, other.logprobs)


def demonstrations(folder: Path) -> Path:
    file = folder / "data.jsonl"
    records = [{"prompt": f"{i}+1=", "response": f"{i + 1}"} for i in range(8)]
    file.write_text("\n".join(map(json.dumps, records)))
    return file


def test_a_flipped_byte_of_a_checkpoint_is_found(model: Path, tmp_path: Path) -> None:
    data = demonstrations(tmp_path)
    words = [
        *("sft", f"model.path={model}", f"data.path={data}", f"run.dir={tmp_path / 'run'}"),
        *("data.batch_size=2", "eval.problems=0", "save_every=2", "optimizer.lr=1e-3"),
    ]
    first = unmask(*words, "steps=2")
    assert first.returncode == 0, first.stderr
    weights = tmp_path / "run/checkpoints/step-000002/model" / WEIGHTS
    damaged = bytearray(weights.read_bytes())
    damaged[-43] ^= 0x40
    weights.write_bytes(damaged)
    assert WEIGHTS in refused(unmask(*words, "steps=4", "--resume"))


LM_EVAL_TASK = """
task: held_task
dataset_path: json
dataset_kwargs:
  data_files:
    test: DATA
test_split: test
output_type: generate_until
doc_to_text: "Q: {{question}}\\nA:"
doc_to_target: "{{answer}}"
generation_kwargs:
  until: ["\\n"]
  do_sample: false
  max_gen_toks: 8
metric_list:
  - metric: exact_match
"""


def test_lm_eval_of_a_model_with_adapters(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("lm_eval")
    trained = unmask(
        *("sft", f"model.path={model}", f"run.dir={tmp_path / 'run'}", "steps=1"),
        *(f"data.path={demonstrations(tmp_path)}", "data.batch_size=2", "eval.problems=0"),
        *("lora.rank=4", "lora.alpha=8"),
    )
    assert trained.returncode == 0, trained.stderr
    (tmp_path / "q.jsonl").write_text('{"question": "What is 2+3?", "answer": "5"}')
    task = LM_EVAL_TASK.replace("DATA", str(tmp_path / "q.jsonl"))
    (tmp_path / "t.yaml").write_text(task)
    measured = unmask(
        *("lm-eval", "run", "--model", "unmask", "--tasks", "held_task"),
        *("--include_path", tmp_path),
        *("--model_args", f"pretrained={model},adapter={tmp_path / 'run/adapter'}"),
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    assert measured.returncode == 0, measured.stderr
