"""The prompt is shown as the engine gets it, and tokens as the text they add."""

from pathlib import Path
from typing import Any

import pytest

from tests.toy import toy_checkpoint
from tests.trainers.toy_runs import rl_config, sft_config
from unmask.configs.eval import EvalConfig
from unmask.configs.load import load_config
from unmask.evaluation.reading import (
    describe_prompt,
    find_tokenizer,
    first_prompt,
    token_pieces,
    tokenizer_of,
)
from unmask.models.tokenizer import Tokenizer


def byte_tokenizer() -> Tokenizer:
    """Return a tokenizer with one token per byte: characters of several bytes are spread."""
    from tokenizers import Tokenizer as Backend
    from tokenizers.decoders import ByteLevel as Decoder
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(ByteLevel.alphabet())
    backend = Backend(BPE({letter: index for index, letter in enumerate(alphabet)}, []))
    backend.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = Decoder()
    made: Any = PreTrainedTokenizerFast(tokenizer_object=backend)
    return made


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


def test_without_a_task_there_is_no_prompt(tmp_path: Path) -> None:
    config = sft_config(tmp_path).model_copy(update={"task": None})
    with pytest.raises(ValueError, match=r"no prompt in the train split: set \[task\]"):
        first_prompt(config)


def test_characters_stand_whole_on_their_last_token() -> None:
    tokenizer = byte_tokenizer()
    ids = tokenizer("aé€😀b", add_special_tokens=False).input_ids
    assert token_pieces(ids, tokenizer) == ["a", "", "é", "", "", "€", "", "", "", "😀", "b"]
    assert token_pieces(ids[:2], tokenizer) == ["a", "\ufffd"]
    assert token_pieces([], tokenizer) == []
    broken = token_pieces([ids[1]] * 5 + [ids[0]], tokenizer)
    assert len(broken) == 6
    assert "".join(broken).endswith("a")


def test_special_tokens_are_visible(tmp_path: Path) -> None:
    tokenizer = tokenizer_of(str(toy_checkpoint(tmp_path)))
    assert token_pieces([3, 1, 0], tokenizer) == ["1", "<mask>", "<eos>"]
    assert describe_prompt("here", [3, 0], tokenizer).startswith("here; no chat template; 2 tokens")


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
