"""Model cards: metadata as the Hub reads it, and a body that repeats what the run's files state."""

import json
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from tests.exporting.past_models import adapted_run, evaluation, trained_run
from tests.toy import toy_checkpoint
from unmask.exporting.export import ExportParams, export
from unmask.exporting.model_card import read_evaluations


def card_of(source: Path, out: Path, **params: object) -> ModelCard:
    export(ExportParams(str(source), **params), out)  # type: ignore[arg-type]
    return ModelCard.load(out / "README.md")


def test_a_trained_model(tmp_path: Path) -> None:
    words = (
        "optimizer.lr=0.25",
        "task.size=7000",
        "rollout.responses=5",
        "minibatches=2",
        "run.seed=77",
    )
    run = trained_run(tmp_path / "run", "them/base", *words)
    environment = json.loads((run / "environment.json").read_text())
    environment |= {"unmask": "9.9", "data": {"task.path = /home/me/secret/x.json": "abcdef"}}
    (run / "environment.json").write_text(json.dumps(environment))
    card = card_of(run, tmp_path / "named", licence="apache-2.0")
    data = card.data.to_dict()
    assert {name: data[name] for name in data if name != "model-index"} == {
        "base_model": "them/base",
        "base_model_relation": "finetune",
        "library_name": "unmask",
        "license": "apache-2.0",
        "pipeline_tag": "text-generation",
        "tags": ["unmask", "diffusion-language-model", "sdar", "rl"],
    }
    ((index,),) = ([model["results"] for model in data["model-index"]],)
    assert [(r["dataset"]["name"], r["metrics"][0]["value"]) for r in index] == [("chain_sum", 0.5)]
    for text in (
        "# named",
        "made from [them/base]",
        "block-causal attention in blocks of 4",
        'AutoModelForCausalLM.from_pretrained("named", trust_remote_code=True)',
        "### Reinforcement learning",
        "- Method: views `trace`, advantage `group_std`, loss `clipped`",
        "- Steps: 9; last reward 0.75, loss 0.125",
        "- Data: task `chain_sum`",
        "- Data: `x.json` (SHA-256 `abcdef`)",
        "- unmask 9.9",
        "| `optimizer.lr` | `0.25` |",
        "| `task.size` | `7000` |",
        "| chain_sum | - | 50 % | 25 % to 75 % |",
        "The weights: `apache-2.0`. `modeling_unmask.py`: Apache-2.0.",
    ):
        assert text in card.text
    assert str(tmp_path) not in card.content and "secret" not in card.content


def test_evaluations_replace_the_run_s_own(tmp_path: Path) -> None:
    run = trained_run(tmp_path / "run", "them/base")
    measured = evaluation(tmp_path / "eval", run / "model")
    card = card_of(run, tmp_path / "out", evaluations=(measured,))
    assert "| countdown | greedy | 62.5 % | 50 % to 75 % |" in card.text
    assert "| countdown | drawn | 50 % | - |" in card.text
    assert "| chain_sum |" not in card.text
    (index,) = card.data.to_dict()["model-index"]
    assert [result["metrics"][0]["value"] for result in index["results"]] == [0.625, 0.5]
    with pytest.raises(ValueError, match="is no finished run of `unmask eval`"):
        read_evaluations([run])


def test_runs_stand_in_the_order_in_which_they_ran(tmp_path: Path) -> None:
    first = trained_run(tmp_path / "first", "them/base", "optimizer.lr=0.5")
    second = trained_run(tmp_path / "second", str(first / "model"), "optimizer.lr=0.125")
    text = card_of(second, tmp_path / "out").text
    assert text.index("`0.5`") < text.index("`0.125`")


def test_what_no_file_states_is_left_out(tmp_path: Path) -> None:
    card = card_of(toy_checkpoint(tmp_path / "model"), tmp_path / "out")
    assert card.data.to_dict().keys() == {"library_name", "pipeline_tag", "tags"}
    assert "## Training" not in card.text and "## Evaluation" not in card.text
    assert "Not stated" in card.text


def test_adapters_name_their_base_and_peft(tmp_path: Path) -> None:
    run, _ = adapted_run(tmp_path / "run", toy_checkpoint(tmp_path / "base"), "them/base")
    card = card_of(run, tmp_path / "out")
    data = card.data.to_dict()
    assert (data["library_name"], data["base_model_relation"]) == ("peft", "adapter")
    assert 'PeftModel.from_pretrained(base, "out")' in card.text
    assert "| `lora.rank` | `2` |" in card.text
