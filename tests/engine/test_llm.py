"""`LLM`: prompts in, generations out in their order, each with a seed of its own."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.engine.writers import by_engine, prompt_of
from tests.toy import toy_checkpoint, toy_model
from unmask.engine.llm import LLM, Generation
from unmask.seeds import derive_seed
from unmask.types import Message, SamplingParams, Trajectory

PARAMS = SamplingParams(max_tokens=9, seed=3, strategy="static")


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> LLM:
    return LLM(toy_checkpoint(tmp_path_factory.mktemp("toy")))


def ids(generations: list[Generation]) -> list[tuple[int, ...]]:
    return [generation.token_ids for generation in generations]


def test_results_come_in_the_order_of_prompts_and_samples(llm: LLM) -> None:
    prompts = [[5] * 13, [6], [7, 8]]
    results = llm.generate(prompts, replace(PARAMS, n=2))
    asks = [
        (prompt, replace(PARAMS, seed=derive_seed(3, index)))
        for prompt in prompts
        for index in range(2)
    ]
    expected = by_engine(llm.model, asks)
    assert [r.token_ids for r in results] == [t.response_ids for t in expected]
    assert [r.step_map for r in results] == [t.step_map[: t.num_response] for t in expected]
    assert [r.finish for r in results] == [t.finish for t in expected]
    assert results[0].token_ids != results[1].token_ids


def test_more_samples_leave_the_first_ones_as_they_are(llm: LLM) -> None:
    five = llm.generate([[5, 6]], replace(PARAMS, n=5))
    assert ids(llm.generate([[5, 6]], replace(PARAMS, n=2))) == ids(five)[:2]
    assert ids(llm.generate([[5, 6]], PARAMS)) == ids(five)[:1]
    assert len(set(ids(five))) > 1


def test_another_prompt_in_the_batch_changes_nothing(llm: LLM) -> None:
    alone = ids(llm.generate([[5, 6]], PARAMS))
    assert ids(llm.generate([[9] * 20, [5, 6]], PARAMS))[1:] == alone
    assert ids(llm.generate([[5, 6]], replace(PARAMS, seed=4))) != alone


def test_fields_are_as_long_as_the_response(llm: LLM) -> None:
    for result in llm.generate([[5] * i for i in range(6)], PARAMS):
        length = len(result.token_ids)
        assert 1 <= length <= 9
        assert len(result.step_map) == len(result.logprobs) == length
        assert min(result.step_map) >= 1 and max(result.logprobs) < 0
        assert result.num_forwards >= max(result.step_map)


def test_text_is_the_response_without_special_tokens(llm: LLM) -> None:
    (from_text,) = llm.generate(["1+2="], PARAMS)
    (from_ids,) = llm.generate([[3, 12, 4, 14]], PARAMS)
    assert from_text == from_ids
    assert from_text.text == llm.decode(from_text.token_ids)
    assert "<" not in from_text.text
    assert len(from_text.text) == sum(token > 1 for token in from_text.token_ids)


def test_a_conversation_without_a_template_is_its_text(llm: LLM) -> None:
    conversation = [Message("user", "1+"), Message("user", "2=")]
    assert llm.chat([conversation], PARAMS) == llm.generate(["1+2="], PARAMS)
    (prompt,) = llm.tokenize([replace(prompt_of([]), messages=tuple(conversation))])
    assert prompt.token_ids == (3, 12, 4, 14)


def test_a_model_without_tokenizer_takes_ids_and_refuses_text() -> None:
    llm = LLM(toy_model())
    assert llm.generate([[5]], PARAMS)[0].text == ""
    with pytest.raises(ValueError, match="no tokenizer files"):
        llm.generate(["1"], PARAMS)


def test_a_batch_with_one_bad_prompt_leaves_nothing_behind(llm: LLM) -> None:
    with pytest.raises(ValueError, match="token id 99"):
        llm.generate([[5], [99]], PARAMS)
    assert llm.engine.is_idle
    llm.engine.update_weights()


def test_trajectories_are_told_of_as_they_end_and_returned_in_order(llm: LLM) -> None:
    lengths = (20, 2, 9)
    params = [replace(PARAMS, max_tokens=m, stop_token_ids=()) for m in lengths]
    seen: list[Trajectory] = []
    results = llm.complete([prompt_of([5])] * 3, params, seen.append)
    assert [t.num_response for t in results] == [20, 2, 9]
    assert [t.num_response for t in seen] == [2, 9, 20]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_whatever_ends_it_early_leaves_nothing_behind(error: type[BaseException], llm: LLM) -> None:
    def fail(trajectory: Trajectory) -> None:
        raise error

    prompts = [prompt_of([5, n]) for n in range(4)]
    params = [replace(PARAMS, max_tokens=3 + 5 * n, stop_token_ids=()) for n in range(4)]
    expected = llm.complete(prompts, params)
    with pytest.raises(error):
        llm.complete(prompts, params, fail)
    assert llm.engine.is_idle
    assert llm.complete(prompts, params) == expected


def test_a_checkpoint_is_loaded_by_path(tmp_path: Path) -> None:
    assert LLM(str(toy_checkpoint(tmp_path))).tokenizer is not None
