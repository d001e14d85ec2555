"""Structured output from a pattern to a text, through the tokenizers of models."""

import json
import random
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.toy import toy_checkpoint
from unmask.checkpoints.random_init import init
from unmask.engine import structured
from unmask.engine.llm import LLM
from unmask.engine.structured import automata_of, byte_automaton
from unmask.sampling_params import SamplingParams

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
from constrained import random_params
from random_schemas import is_valid, random_schema


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> LLM:
    """Return a random model with a token per byte."""
    place = tmp_path_factory.mktemp("bytes") / "model"
    init(place, "sdar", "tiny")
    return LLM(place)


@pytest.mark.parametrize(
    "pattern",
    [
        "[0-9]{1,3}-[a-z]+",
        "(yes|no|maybe)",
        "é{2}|日本",
        r"^[\da-z]+@[a-z]+\.com$",
        "a|ab|abc",
        '"[^"]*"',
    ],
)
def test_texts_match_the_regular_expression(llm: LLM, pattern: str) -> None:
    params = [
        SamplingParams(regex=pattern, max_tokens=24, temperature=temperature, seed=seed)
        for temperature in (0.0, 0.7, 1.5)
        for seed in range(3)
    ]
    for written in llm.generate([[7]] * len(params), params):
        assert re.fullmatch(pattern, written.text), written.text


def test_texts_are_valid_under_random_schemas(llm: LLM) -> None:
    rng = random.Random(1)
    asked = []
    while len(asked) < 25:
        schema = random_schema(rng)
        params = random_params(rng, json.dumps(schema))
        try:
            llm.engine.constraint(replace(params, stop_token_ids=llm.model.spec.eos_ids))
        except ValueError as error:
            assert str(error).startswith("json_schema"), error
            continue
        asked.append((schema, params))
    written = llm.generate([[5, 6]] * len(asked), [params for _, params in asked])
    for (schema, _), generation in zip(asked, written, strict=True):
        assert is_valid(generation.text, schema), (schema, generation.text)


def test_a_template_and_a_pattern_go_together(llm: LLM) -> None:
    params = llm.template(
        "Name: [[5]] Age: [[2]]", SamplingParams(regex="Name: [a-z]+ Age: [0-9]+")
    )
    for seed in range(4):
        (written,) = llm.generate([[9]], replace(params, seed=seed))
        assert re.fullmatch("Name: [a-z]{5} Age: [0-9]{2}", written.text)
    with pytest.raises(
        ValueError, match=r"regex: no response of 19 tokens .* holds the pinned tokens"
    ):
        llm.generate([[9]], replace(params, regex="Name: [a-z]+ Years: [0-9]+"))


def test_a_stream_is_the_text(llm: LLM) -> None:
    params = SamplingParams(regex="[a-c]{10}", max_tokens=16)
    text = "".join(llm.stream([5], params))
    assert re.fullmatch("[a-c]{10}", text)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"regex": "("}, r"regex = '\(': not a regular expression of Rust"),
        ({"regex": "(?=a)b"}, "regex = .*not a regular expression"),
        ({"regex": "a$b"}, "no text matches"),
        ({"regex": "[a-z]{30}"}, "regex: needs at least 30 tokens, and max_tokens = 20"),
        ({"regex": "a{3000}"}, "regex = .* states, more than 2,000"),
        ({"json_schema": "{"}, "json_schema = '{': is not JSON"),
        (
            {"json_schema": '{"type": "integer", "minimum": 1}'},
            "json_schema = .*#: minimum next to",
        ),
        ({"json_schema": '{"type": "string", "pattern": "."}'}, "allows a quotation mark"),
        (
            {"json_schema": '{"type": "string", "minLength": 2, "maxLength": 1}'},
            "maxLength must be",
        ),
        ({"json_schema": '{"type": "string", "minLength": 30}'}, "json_schema: needs at least 32"),
        ({"json_schema": '{"$ref": "#"}'}, "[Rr]ec"),
        ({"regex": "a", "stop_token_ids": ()}, "ends with a stop token"),
    ],
)
def test_patterns_that_cannot_be_met_are_refused_before_a_pass(
    llm: LLM, changes: dict, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        llm.add([5], SamplingParams(max_tokens=20, **changes))
    assert llm.engine.is_idle


def test_automata_are_kept_by_pattern(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[str] = []

    def counted(key: str, pattern: str):
        built.append(pattern)
        return byte_automaton(key, pattern)

    monkeypatch.setattr(structured, "byte_automaton", counted)
    drawable = llm.engine._conventions.drawable
    automaton = automata_of(llm.require_tokenizer(), drawable)
    first = SamplingParams(regex="ab", stop_token_ids=(0,))
    assert automaton(first) is automaton(replace(first, seed=3, max_tokens=5))
    assert automaton(replace(first, regex="abc")) is not automaton(first)
    assert built == ["ab", "abc"]


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structured, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'unmask\[serve\]'"):
        byte_automaton("regex", "a")


def test_a_checkpoint_of_characters(tmp_path: Path) -> None:
    llm = LLM(toy_checkpoint(tmp_path))
    (written,) = llm.generate(["1+1="], SamplingParams(regex="[0-9]{3};", max_tokens=8))
    assert re.fullmatch("[0-9]{3};", written.text) and written.finish == "stop"
