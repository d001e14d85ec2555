"""Responses that several ranks make are written as those of one process, byte for byte."""

import io
from pathlib import Path

import pytest
import torch

from tests.distributed.ranks import on_ranks
from tests.toy import toy_checkpoint
from unmask.checkpoints.checkpoint import load_model, save_model
from unmask.cli.answers import answer
from unmask.distributed.world import ALONE, World
from unmask.engine.llm import LLM
from unmask.sampling_params import SamplingParams
from unmask.types import Message, Prompt

SAMPLING_PARAMS = SamplingParams(max_tokens=9, n=3, seed=4)


def answers(world: World, model: Path, num_prompts: int) -> tuple[str, str]:
    """Return the lines that rank 0 writes, and the error."""
    llm, file = LLM(model), io.StringIO()
    asked = [Prompt("generate", n, (Message("user", f"{n}+{n}="),)) for n in range(num_prompts)]
    prompts = llm.tokenize(asked)
    try:
        answer(llm, prompts, SAMPLING_PARAMS, file, world)
    except ValueError as error:
        return file.getvalue(), str(error)
    return file.getvalue(), ""


@pytest.mark.parametrize(("size", "num_prompts"), [(2, 12), (3, 1), (3, 5)])
def test_responses_are_those_of_one_process(size: int, num_prompts: int, tmp_path: Path) -> None:
    model = toy_checkpoint(tmp_path / "model")
    expected = answers(ALONE, model, num_prompts)
    assert expected[0].count("\n") == 3 * num_prompts and not expected[1]
    first, *others = on_ranks(answers, model, num_prompts, size=size)
    assert first == expected
    assert others == [("", "")] * (size - 1)


def test_a_broken_response_leaves_those_of_all_ranks_written(tmp_path: Path) -> None:
    model = toy_checkpoint(tmp_path / "model")
    broken = load_model(model)
    with torch.no_grad():
        broken.backbone.embedding.weight[9] = torch.nan  # the token "7"
        broken.head.projection.weight[9] = 0
    save_model(broken, model)
    expected, message = answers(ALONE, model, 9)
    (first, own), (_, other) = on_ranks(answers, model, 9)
    assert first == expected
    # Requests are numbered by each rank.
    assert own.partition(": ")[0] == message.partition(": ")[0] == other.partition(": ")[0]
    assert "generate prompt 7" in own
