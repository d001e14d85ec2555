"""Templates with gaps as pinned tokens."""

from pathlib import Path

import pytest

from tests.toy import toy_checkpoint
from unmask.engine.infilling import with_template
from unmask.engine.llm import LLM
from unmask.sampling_params import SamplingParams


def ordinals(text: str) -> list[int]:
    return [ord(letter) for letter in text]


def test_texts_are_pinned_and_gaps_are_free() -> None:
    params = with_template("ab[[3]]c[[1]]", ordinals, SamplingParams(seed=5))
    assert params.pinned == ((0, ord("a")), (1, ord("b")), (5, ord("c")))
    assert params.max_tokens == 7 and params.seed == 5
    assert with_template("[[4]]z", ordinals, SamplingParams()).pinned == ((4, ord("z")),)
    assert with_template("[[4]][[5]]", ordinals, SamplingParams()).max_tokens == 9


@pytest.mark.parametrize("template", ["", "Name:", "a[[0]]", "[8]", "[[x]]"])
def test_templates_without_a_gap_are_refused(template: str) -> None:
    with pytest.raises(ValueError, match=r"must hold gaps of at least one token; \[\[8\]\]"):
        with_template(template, ordinals, SamplingParams())


def test_a_template_and_pinned_tokens_are_refused_together() -> None:
    with pytest.raises(ValueError, match="give one of the two"):
        with_template("a[[2]]", ordinals, SamplingParams(pinned=((0, 1),)))


def test_a_response_is_the_template_with_its_gaps_filled(tmp_path: Path) -> None:
    llm = LLM(toy_checkpoint(tmp_path))
    params = llm.template("1+2=[[3]] a [[2]]b", SamplingParams(n=4, temperature=1.5))
    for generation in llm.generate(["8"], params)[0].outputs:
        assert len(generation.token_ids) == 13 and generation.finish == "length"
        for position, token in params.pinned:
            assert generation.token_ids[position] == token
            assert generation.step_map[position] == 0 and generation.logprobs[position] == 0
        assert all(generation.step_map[p] for p in (4, 5, 6, 10, 11))
        # End-of-text tokens in a gap leave it shorter; they end nothing.
        assert generation.text.startswith("1+2=") and generation.text.endswith("b")
        assert " a " in generation.text
