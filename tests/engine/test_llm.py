"""`LLM`: prompts in, generations out in their order, each with a seed of its own."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.engine.writers import by_engine, prompt_of, results_of
from tests.toy import toy_checkpoint, toy_model
from unmask.checkpoints.random_init import init
from unmask.engine.broken_responses import BrokenResponses
from unmask.engine.events import Written
from unmask.engine.llm import LLM, Generation
from unmask.sampling_params import SamplingParams
from unmask.seeds import derive_seed
from unmask.types import Message, Trajectory

PARAMS = SamplingParams(max_tokens=9, seed=3, strategy="static")


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> LLM:
    return LLM(toy_checkpoint(tmp_path_factory.mktemp("toy")))


def each(results: list[Generation]) -> list[Generation]:
    """Return all responses to the first prompt, then to the second, and so on."""
    return [one for result in results for one in result.outputs]


def ids(results: list[Generation]) -> list[tuple[int, ...]]:
    return [one.token_ids for one in each(results)]


def test_results_come_in_the_order_of_prompts_and_samples(llm: LLM) -> None:
    prompts = [[5] * 13, [6], [7, 8]]
    results = each(llm.generate(prompts, replace(PARAMS, n=2)))
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


def test_a_prompt_has_one_result_with_all_its_responses(llm: LLM) -> None:
    first, second = llm.generate(["1+", [5, 6]], [hot(0, n=3), PARAMS])
    assert len(first.outputs) == 3 and first.outputs[0] is first and second.outputs == (second,)
    assert [one.outputs for one in first.others] == [(one,) for one in first.others]
    assert len({one.token_ids for one in first.outputs}) > 1
    assert first.outputs[1].prompt == first.prompt == "1+" and first.prompt_token_ids == (3, 12)
    assert second.prompt == llm.decode([5, 6]) and second.prompt_token_ids == (5, 6)
    for one in first.outputs:
        assert one.finish_reason == one.finish
        assert one.cumulative_logprob == pytest.approx(sum(one.logprobs), abs=1e-12)
    players = first._repr_html_()  # pyright: ignore[reportPrivateUsage]
    assert players.count("<unmask-player ") == 3


def test_without_a_tokenizer_a_prompt_has_no_text() -> None:
    assert LLM(toy_model()).generate([[5]], PARAMS)[0].prompt is None


def test_without_a_seed_every_response_is_drawn_anew(llm: LLM) -> None:
    asked = replace(PARAMS, seed=None, max_tokens=20, stop_token_ids=(), temperature=3.0)
    results = llm.generate([[5]] * 3, asked) + llm.generate([[5]] * 3, asked)
    assert len(set(ids(results))) == 6
    numbers = [llm.add([5], asked) for _ in range(2)]
    assert len({one.token_ids for one in until_idle(llm).values()}) == len(numbers)  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="seed = None: LLM draws a seed in its place"):
        llm.complete([prompt_of([5])], [asked])


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
        assert len(result.raw_logprobs) == len(result.entropies) == length
        assert result.policy_version == 0


def test_raw_logprobs_are_returned_next_to_those_of_the_proposal(llm: LLM) -> None:
    cold = replace(PARAMS, temperature=0.5)
    (one,) = llm.generate([[5, 6]], cold)
    (t,) = by_engine(llm.model, [([5, 6], replace(cold, seed=derive_seed(3, 0)))])
    length = t.num_response
    assert one.logprobs == t.behavior_logprobs[:length]
    assert one.raw_logprobs == t.raw_logprobs[:length] != one.logprobs
    assert one.entropies == t.entropies[:length] and min(one.entropies) > 0
    assert one.confidences == tuple(math.exp(x) for x in one.raw_logprobs)
    assert one.tokens_per_forward == length / t.num_forwards


def test_responses_say_which_weights_wrote_them(tmp_path: Path) -> None:
    llm = LLM(toy_checkpoint(tmp_path))
    llm.engine.update_weights(version=4)
    assert llm.generate([[5]], PARAMS)[0].policy_version == 4


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


def test_on_finish_is_called_as_trajectories_end_and_results_are_in_order(llm: LLM) -> None:
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


def test_responses_can_be_asked_for_one_by_one(llm: LLM) -> None:
    prompts = [[5] * 13, "1+2=", [7, 8]]
    params = [replace(PARAMS, max_tokens=n, stop_token_ids=(), seed=n) for n in (12, 4, 8)]
    numbers = [llm.add(prompt, asked) for prompt, asked in zip(prompts, params, strict=True)]
    finished: dict[int, Generation | ValueError] = {}
    while not llm.engine.is_idle:
        finished |= results_of(llm.tick())
    assert llm.tick() == []
    assert list(finished) == [numbers[1], numbers[2], numbers[0]], "as they end"
    ids = [[5] * 13, [3, 12, 4, 14], [7, 8]]
    params = [replace(asked, seed=derive_seed(asked.seed, 0)) for asked in params]
    expected = by_engine(llm.model, list(zip(ids, params, strict=True)))
    for number, trajectory in zip(numbers, expected, strict=True):
        one = finished[number]
        assert isinstance(one, Generation) and one.token_ids == trajectory.response_ids


def test_added_requests_can_be_dropped(llm: LLM) -> None:
    first, second = (llm.add([5, n], PARAMS) for n in (6, 7))
    llm.abort(first)
    with pytest.raises(ValueError, match=f"request {first}: neither waiting nor running"):
        llm.abort(first)
    assert not llm.engine.is_idle
    llm.tick()
    llm.abort(second)
    assert llm.engine.is_idle and llm.tick() == []
    llm.add([5], PARAMS)
    llm.abort()
    assert llm.engine.is_idle


@pytest.mark.parametrize("seed", [3, -1, 2**64 - 1])
def test_what_is_added_is_what_generate_writes(seed: int, llm: LLM) -> None:
    asked = replace(PARAMS, seed=seed)
    number = llm.add([5, 6], asked)
    assert until_idle(llm) == {number: llm.generate([[5, 6]], asked)[0]}


def test_several_responses_are_several_requests(llm: LLM) -> None:
    several = replace(PARAMS, n=2)
    with pytest.raises(ValueError, match="n = 2: a request here is one response; ask 2 times"):
        llm.add([5], several)
    with pytest.raises(ValueError, match="n = 2: a request here is one response; ask 2 times"):
        llm.complete([prompt_of([5])] * 2, [PARAMS, several])
    assert llm.engine.is_idle


def test_generate_refuses_while_added_requests_run(llm: LLM) -> None:
    """Its result would have ended in a call that does not return it."""
    (expected,) = llm.generate([[5, 6]], PARAMS)
    number = llm.add([5, 6], PARAMS)
    for write in (
        lambda: llm.generate([[7]], PARAMS),
        lambda: llm.chat([[Message("user", "1+")]], PARAMS),
        lambda: llm.complete([prompt_of([7])], [PARAMS]),
    ):
        with pytest.raises(ValueError, match="requests that were added still run: tick until"):
            write()
        llm.tick()
    assert until_idle(llm) == {number: expected}
    assert len(llm.generate([[7]], PARAMS)) == 1


def until_idle(llm: LLM) -> dict[int, Generation | ValueError]:
    finished: dict[int, Generation | ValueError] = {}
    while not llm.engine.is_idle:
        finished |= results_of(llm.tick())
    return finished


@pytest.fixture(scope="module")
def byte_llm(tmp_path_factory: pytest.TempPathFactory) -> LLM:
    """Return a random model whose tokens are bytes: most of what it writes is broken characters."""
    directory = tmp_path_factory.mktemp("bytes") / "m"
    init(directory, "sdar")
    return LLM(directory)


@pytest.mark.parametrize("stop", [(), ("e", "no such text"), ("\ufffd\ufffd",)])
def test_streamed_pieces_are_the_text_that_generate_returns(
    stop: tuple[str, ...], byte_llm: LLM
) -> None:
    num_pieces = 0
    for seed in range(4):
        asked = SamplingParams(
            temperature=2.0, max_tokens=45, stop_token_ids=(), stop=stop, seed=seed
        )
        (expected,) = byte_llm.generate(["Hi"], asked)
        pieces = list(byte_llm.stream("Hi", asked))
        assert "".join(pieces) == expected.text
        num_pieces += len(pieces)
    assert num_pieces > (3 if stop else 30)


def test_pieces_come_while_the_response_is_written(llm: LLM) -> None:
    asked = replace(PARAMS, max_tokens=20, stop_token_ids=())
    pieces = llm.stream([5, 6, 7], asked)
    assert next(pieces) and not llm.engine.is_idle
    with pytest.raises(ValueError, match="requests that were added still run"):
        llm.generate([[5]], PARAMS)
    pieces.close()
    assert llm.engine.is_idle, "a reader that stops early leaves nothing behind"
    assert len(llm.generate([[5]], PARAMS)) == 1


def test_the_canvas_of_one_response_is_streamed_and_last_the_response(llm: LLM) -> None:
    (expected,) = llm.generate([[5, 6]], PARAMS)
    *writes, response = llm.stream_canvas([5, 6], PARAMS)
    assert response == expected
    canvas: dict[int, tuple[int, int, float, float]] = {}
    for event in writes:
        assert isinstance(event, Written)
        written = zip(event.token_ids, event.logprobs, event.confidences, strict=True)
        for position, values in zip(event.positions, written, strict=True):
            canvas[position] = (event.step, *values)
    measured = expected.token_ids, expected.logprobs, expected.confidences
    columns = zip(expected.step_map, *measured, strict=True)
    assert [canvas[position] for position in range(len(expected.token_ids))] == list(columns)


def test_a_reader_of_the_canvas_may_stop_early(llm: LLM) -> None:
    events = llm.stream_canvas([5, 6, 7], PARAMS)
    assert isinstance(next(events), Written) and not llm.engine.is_idle
    events.close()
    assert llm.engine.is_idle
    assert isinstance([*LLM(toy_model()).stream_canvas([5], PARAMS)][-1], Generation)


def test_a_stream_has_one_response_and_a_tokenizer(llm: LLM) -> None:
    with pytest.raises(ValueError, match="n = 2: a request here is one response"):
        next(llm.stream([5], replace(PARAMS, n=2)))
    with pytest.raises(ValueError, match="has no tokenizer files"):
        next(LLM(toy_model()).stream([5], PARAMS))
    assert llm.engine.is_idle


def test_an_error_ends_a_stream(tmp_path: Path) -> None:
    llm = LLM(toy_checkpoint(tmp_path))
    with torch.no_grad():
        llm.model.head.projection.weight.fill_(torch.nan)
    with pytest.raises(ValueError, match="the model's logits are not numbers"):
        list(llm.stream([5], PARAMS))
    assert llm.engine.is_idle


def test_one_text_is_one_prompt_and_numbers_are_none(llm: LLM) -> None:
    assert llm.generate("2-7=", PARAMS) == llm.generate(["2-7="], PARAMS)
    with pytest.raises(ValueError, match=r"the prompt 5 is a number: give its token ids, \[5\]"):
        llm.generate([5, 6], PARAMS)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"token id '1\+' of the prompt is a str"):
        llm.add(["1+", "2="], PARAMS)  # pyright: ignore[reportArgumentType]


def hot(seed: int, **changes: object) -> SamplingParams:
    sampling = SamplingParams(strategy="static", max_tokens=24, stop_token_ids=(), temperature=3)
    return replace(sampling, seed=seed, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("length", [1, 2, 5])
def test_a_stop_text_ends_the_response_wherever_it_stands(length: int, llm: LLM) -> None:
    """In the middle of a block, over the border of two, over token borders; its text is cut before it."""
    places: set[int] = set()
    for seed, plain in enumerate(llm.generate([[5] * 3] * 6, [hot(seed) for seed in range(6)])):
        starts = range(0, len(plain.text) - length, 3)
        stops = [plain.text[start : start + length] for start in starts]
        asked = [hot(seed, stop=(stop,)) for stop in stops]
        for stop, cut in zip(stops, llm.generate([[5] * 3] * len(asked), asked), strict=True):
            begin = plain.text.index(stop)
            assert cut.text == plain.text[:begin] and cut.finish == "stop"
            # R counts the tokens up to the one that completes it.
            assert cut.token_ids == plain.token_ids[: len(cut.token_ids)]
            assert stop in llm.decode(cut.token_ids)
            assert stop not in llm.decode(cut.token_ids[:-1])
            assert len(cut.step_map) == len(cut.logprobs) == len(cut.token_ids)
            places.add((3 + len(cut.token_ids)) % 4)
    assert places == {0, 1, 2, 3}


def test_the_first_of_several_stop_texts_counts(llm: LLM) -> None:
    (plain,) = llm.generate([[5] * 3], hot(1))
    early, late = plain.text[3:5], plain.text[-2:]
    (cut,) = llm.generate([[5] * 3], hot(1, stop=(late, early)))
    assert cut.text == plain.text[: min(plain.text.index(early), plain.text.index(late))]


def test_a_stop_text_that_does_not_come_up_changes_nothing(llm: LLM) -> None:
    (plain,) = llm.generate([[5] * 3], hot(1))
    (same,) = llm.generate([[5] * 3], hot(1, stop=("no such text",)))
    assert same == plain
    prompt = llm.decode([5] * 3)
    (also,) = llm.generate([[5] * 3], hot(2, stop=(prompt * 2,)))
    assert also.finish == "length", "the prompt's own text does not count"


def test_a_stop_text_needs_a_tokenizer() -> None:
    with pytest.raises(ValueError, match=r"stop = \('x',\): without a tokenizer"):
        LLM(toy_model()).generate([[5]], replace(PARAMS, stop=("x",)))


def breaking_llm(directory: Path) -> LLM:
    """Return a model whose logits are NaN where id 9 was read, which it never writes."""
    llm = LLM(toy_checkpoint(directory))
    with torch.no_grad():
        llm.model.backbone.embedding.weight[9] = torch.nan
        llm.model.head.drawable[9] = False
    return llm


def test_a_broken_response_is_raised_after_the_others_have_ended(tmp_path: Path) -> None:
    llm = breaking_llm(tmp_path)
    seen: list[Trajectory] = []
    prompts = [prompt_of(ids) for ids in ([5], [9], [6])]
    with pytest.raises(ValueError, match="request 1: the model's logits are not numbers") as info:
        llm.complete(prompts, [replace(PARAMS, stop_token_ids=())] * 3, seen.append)
    assert [t.prompt.token_ids for t in seen] == [(5,), (6,)]
    assert llm.engine.is_idle
    assert isinstance(info.value, BrokenResponses)
    assert info.value.trajectories == [seen[0], None, seen[1]]


def test_a_broken_response_does_not_lose_the_others(tmp_path: Path) -> None:
    llm = breaking_llm(tmp_path)
    asked = replace(PARAMS, n=2)
    alone = [each(llm.generate([prompt], asked)) for prompt in ([5], [6])]
    message = r"^4 of 8 .* \(generate prompt 1, generate prompt 3\): request \d+: .* not numbers"
    with pytest.raises(BrokenResponses, match=message):
        llm.generate([[5], [9], [6], [9]], asked)
    with pytest.raises(BrokenResponses) as info:
        llm.generate([[5], [9], [6]], asked)
    alone = [[replace(one, others=()) for one in some] for some in alone]
    assert info.value.generations == [*alone[0], None, None, *alone[1]]
    assert list(info.value.errors) == [2, 3]
    assert all("not numbers" in str(error) for error in info.value.errors.values())
    assert ids(llm.generate([[5]], asked)) == [one.token_ids for one in alone[0]]
