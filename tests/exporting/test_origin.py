"""Where an export comes from: chains of runs, models of the Hub, conversions, licences."""

import json
from pathlib import Path

import huggingface_hub
import pytest

from tests.exporting.past_models import adapted_run, evaluation, trained_run
from tests.toy import toy_checkpoint
from unmask.exporting.origin import find_origin


def test_a_model_has_no_past(tmp_path: Path) -> None:
    found = find_origin(str(toy_checkpoint(tmp_path / "model")))
    assert (found.model, found.adapter) == (tmp_path / "model", None)
    assert (found.runs, found.base, found.licence) == ([], None, None)


def test_runs_are_followed_to_the_model_on_the_hub(tmp_path: Path) -> None:
    first = trained_run(tmp_path / "sft", "them/base")
    second = trained_run(tmp_path / "rl", str(first / "model"))
    for place in (second, second / "model"):
        found = find_origin(str(place))
        assert found.model == second / "model" and found.base == "them/base"
        assert [run.path for run in found.runs] == [second, first]
    assert find_origin(str(second), "other/base").base == "other/base"


def test_a_conversion_names_its_source(tmp_path: Path) -> None:
    start = toy_checkpoint(tmp_path / "start")
    config = json.loads((start / "config.json").read_text())
    (start / "config.json").write_text(json.dumps(config | {"converted_from": "them/qwen"}))
    assert find_origin(str(start)).base == "them/qwen"
    assert find_origin(str(trained_run(tmp_path / "run", str(start)))).base == "them/qwen"


def test_adapters_are_those_of_the_run_that_is_named(tmp_path: Path) -> None:
    base = toy_checkpoint(tmp_path / "base")
    run, _ = adapted_run(tmp_path / "run", base, "them/base")
    assert find_origin(str(run)).adapter == run / "adapter"
    assert find_origin(str(run / "model")).adapter is None


def test_the_licence_is_that_of_a_card_at_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = toy_checkpoint(tmp_path / "start")
    (start / "README.md").write_text("---\nlicense: mit\n---\n")
    assert find_origin(str(start)).licence == "mit"
    assert find_origin(str(trained_run(tmp_path / "one", str(start)))).licence == "mit"
    card = tmp_path / "card.md"
    card.write_text("---\nlicense: apache-2.0\n---\n")
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: str(card))
    assert find_origin(str(trained_run(tmp_path / "two", "them/base"))).licence == "apache-2.0"


def test_an_evaluation_holds_no_model(tmp_path: Path) -> None:
    run = evaluation(tmp_path / "eval", tmp_path / "model")
    with pytest.raises(ValueError, match=r"an evaluation holds no model; export .*model"):
        find_origin(str(run))
