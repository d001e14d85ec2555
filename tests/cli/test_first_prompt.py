"""The prompt is shown as the engine gets it, and tokens as the text they add."""

import re
from pathlib import Path

import pytest

from tests.toy import toy_checkpoint
from tests.trainers.toy_runs import rl_config, sft_config
from unmask.checkpoints.random_init import init
from unmask.cli.first_prompt import (
    describe_prompt,
    find_tokenizer,
    first_prompt,
    tokenizer_of,
)
from unmask.configs.eval import EvalConfig
from unmask.configs.load import load_config
from unmask.configs.sft import SFTConfig
from unmask.configs.task import PictureTaskConfig
from unmask.tasks.build import build_task


def test_the_first_prompt_of_a_task(tmp_path: Path) -> None:
    lines = first_prompt(rl_config(tmp_path)).splitlines()
    assert lines == [
        "task math, train split, first of 6 prompts; no chat template; 4 tokens",
        "",
        "1+2=",
        "",
        "tokens  '1' '+' '2' '='",
        "ids     3 12 4 14",
    ]


def test_an_evaluation_shows_its_split_and_a_template_its_tokens(tmp_path: Path) -> None:
    config = rl_config(tmp_path)
    tokenizer = tokenizer_of(config.model.path)
    tokenizer.chat_template = "<eos>{{ messages[0].content }}<mask>"
    tokenizer.save_pretrained(config.model.path)  # pyright: ignore
    task = ["task.kind=json", f"task.test={config.task.train}", "task.template={question}"]
    asked = load_config(EvalConfig, [], [f"model.path={config.model.path}", *task])[0]
    text = first_prompt(asked)
    assert text.startswith(
        "task math, test split, first of 6 prompts; the model's chat template; 6"
    )
    assert "\n<eos>1+2=<mask>\n" in text
    assert "tokens  '<eos>' '1' '+' '2' '=' '<mask>'\nids     0 3 12 4 14 1" in text


@pytest.fixture
def seeing(tmp_path: Path) -> Path:
    """Return a tiny LLaDA-V whose characters are those of a picture task."""
    task = build_task(PictureTaskConfig(name="counting", size=10, compact=True))
    init(tmp_path / "seeing", "lladav", alphabet=task.alphabet)
    return tmp_path / "seeing"


PICTURES = ["task.kind=pictures", "task.name=counting", "task.size=10", "task.compact=true"]


def test_the_vectors_of_an_image_are_one_piece(seeing: Path) -> None:
    config = load_config(EvalConfig, [], [f"model.path={seeing}", *PICTURES])[0]
    text = first_prompt(config)
    assert "no chat template; 22 tokens\n\n<17 image vectors>" in text
    assert "tokens  '<17 image vectors>' '\\n' 'r' 'e' 'd' '?'\nids     -1..-17 " in text
    assert re.search(r"\nimage    counting-\d+\.png, \d+ x \d+, 17 vectors\ntokens  ", text)


def test_a_demonstration_has_its_image(seeing: Path) -> None:
    config = load_config(SFTConfig, [], [f"model.path={seeing}", *PICTURES])[0]
    text = first_prompt(config)
    assert "22 tokens are read, 2 are trained\n\n<17 image vectors>" in text
    assert "<eos>" in text and "⟧" in text  # with the colour of the trained text
    assert re.search(r"\nimage    counting-\d+\.png, \d+ x \d+, 17 vectors\ntokens   ", text)
    assert "\ntrained  " in text and text.endswith(" 0")


def test_a_text_model_shows_no_pictures(tmp_path: Path) -> None:
    toy_checkpoint(tmp_path / "text")
    config = load_config(EvalConfig, [], [f"model.path={tmp_path / 'text'}", *PICTURES])[0]
    with pytest.raises(ValueError, match=r"counting-\d+\.png: this model reads text only"):
        first_prompt(config)


def test_without_a_task_there_is_no_demonstration(tmp_path: Path) -> None:
    config = sft_config(tmp_path)
    no_data = config.data.model_copy(update={"path": None})
    config = config.model_copy(update={"task": None, "data": no_data})
    with pytest.raises(ValueError, match=r"no demonstrations: give data\.path"):
        first_prompt(config)


def test_the_tokenizer_of_a_run_is_its_models_or_the_one_it_started_from(tmp_path: Path) -> None:
    start = toy_checkpoint(tmp_path / "start", alphabet="ab")
    assert find_tokenizer(tmp_path, "some/hub-id") is None
    found = find_tokenizer(tmp_path, str(start))
    assert found is not None
    assert found.get_vocab()["b"] == 3
    toy_checkpoint(tmp_path / "model", alphabet="ba")
    found = find_tokenizer(tmp_path, str(start))
    assert found is not None
    assert found.get_vocab()["b"] == 2


def test_a_prompt_is_described_with_its_length(tmp_path: Path) -> None:
    tokenizer = tokenizer_of(str(toy_checkpoint(tmp_path)))
    codes = describe_prompt("here", [3, 900, 901, 0], tokenizer)
    assert "<2 image codes>" in codes and codes.endswith("ids     3 900..901 0")
    assert describe_prompt("here", [3, 0], tokenizer).startswith("here; no chat template; 2 tokens")
