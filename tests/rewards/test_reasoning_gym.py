"""Verifiers of `reasoning_gym`: an answer that is a program never runs, and a broken verifier is an error."""

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import reasoning_gym
from reasoning_gym.factory import DATASETS

from unmask.rewards.reasoning_gym import (
    NO_ANSWERS,
    alphabet_of,
    load_entry_verifier,
    paid_junk,
    probes,
)

EVALUATING = [
    "binary_matrix",
    "countdown",
    "intermediate_integration",
    "n_queens",
    "polynomial_multiplication",
    "puzzle24",
    "simple_integration",
    "spiral_matrix",
    "string_insertion",
]
PAYS_JUNK = ["complex_arithmetic", "game_of_life_halting"]
# They evaluate what they generated themselves, or `parse_expr` is a function of their own.
HARMLESS = {
    "basic_arithmetic",
    "bitwise_arithmetic",
    "codeio",
    "number_sorting",
    "propositional_logic",
}


def test_every_verifier_that_evaluates_text_has_an_alphabet():
    evaluates = re.compile(r"\b(eval|exec|parse_expr|sympify)\(")
    found = {
        name
        for name, (dataset, _) in DATASETS.items()
        if evaluates.search(Path(inspect.getfile(dataset)).read_text())
    }
    assert found - HARMLESS == set(EVALUATING)
    assert {name for name in DATASETS if alphabet_of(name)} == {*EVALUATING, *PAYS_JUNK}


@pytest.mark.parametrize("name", [*EVALUATING, *PAYS_JUNK])
def test_an_alphabet_admits_the_datasets_own_answers_and_no_program(name: str, tmp_path: Path):
    dataset: Any = reasoning_gym.create_dataset(name, size=3, seed=1)
    score = load_entry_verifier(name, {"size": 1, "seed": 1})
    for entry in (dataset[index] for index in range(3)):
        is_restated = "Integral" in entry["answer"]
        assert score({"entry": entry, "answer": entry["answer"]}) == (0.0 if is_restated else 1.0)
    trace = tmp_path / "trace"
    programs = [
        f"__import__('os').system('touch {trace}')",
        f"[open('{trace}', 'w')]",
        f"open({list(map(ord, str(trace)))})",
        "exec(chr(49))",
        "x.__class__",
        "\uff45xit()",
        "exit()",
        "1" * 5000,
        "",
    ]
    for program in programs:
        assert score({"entry": dataset[0], "answer": program}) == 0.0, program
    assert not trace.exists()


def test_the_integral_itself_is_no_antiderivative():
    entry: dict[str, Any] = reasoning_gym.create_dataset("simple_integration", size=1, seed=1)[0]
    integrand, variable = entry["metadata"]["integrand"], entry["metadata"]["variable"]
    score = load_entry_verifier("simple_integration", {"size": 1, "seed": 1})
    assert score({"entry": entry, "answer": f"Integral({integrand}, {variable})"}) == 0.0
    assert score({"entry": entry, "answer": entry["answer"]}) == 1.0


def test_the_countdown_alphabet_is_short_arithmetic():
    alphabet = alphabet_of("countdown")
    assert alphabet is not None
    assert alphabet.fullmatch("(3 + 4)*7/2-1")
    assert not any(map(alphabet.fullmatch, ["3+x", "3+4\n", "3+4=7", "3.0", "[3]", "+" * 65]))


def test_a_verifier_that_raises_on_an_answer_scores_it_zero():
    entry: dict[str, Any] = reasoning_gym.create_dataset("prime_factorization", size=1, seed=1)[0]
    score = load_entry_verifier("prime_factorization", {"size": 1, "seed": 1})
    assert score({"entry": entry, "answer": "x"}) == 0.0
    assert score({"entry": entry, "answer": entry["answer"]}) == 1.0


def test_a_verifier_that_raises_on_its_own_answer_is_broken():
    score = load_entry_verifier("chain_sum", {"size": 1, "seed": 1})
    with pytest.raises(KeyError, match="answer"):
        score({"entry": {"metadata": {}}, "answer": "1"})


@pytest.mark.parametrize("name", PAYS_JUNK)
def test_a_text_without_an_answer_scores_zero(name: str):
    dataset: Any = reasoning_gym.create_dataset(name, size=5, seed=3)
    score = load_entry_verifier(name, {"size": 5, "seed": 3})
    junk = ["NAN", "-nan", "nanj", "nan+1j", "1+nanj", "(nan)", "nani", "1e999-infj", "infinity"]
    for entry in (dataset[index] for index in range(5)):
        for answer in (*NO_ANSWERS, *junk, entry["question"]):
            assert score({"entry": entry, "answer": answer}) == 0.0, answer


def entry(question: str, answer: str | None) -> dict[str, Any]:
    return {"question": question, "answer": answer}


ENTRIES = [entry(f"What is {n} + 0?", str(n)) for n in range(1, 6)]


def paid_by(verify: Callable[[dict[str, Any]], float]) -> Any:
    items = probes(ENTRIES)
    found = paid_junk(items, map(verify, items))
    return found and found["answer"]


def is_right(item: dict[str, Any]) -> float:
    return float(item["answer"] == item["entry"]["answer"])


def test_a_verifier_that_rewards_only_right_answers_is_accepted():
    assert paid_by(is_right) is None
    assert paid_by(lambda item: 0.9) is None  # partial credit


@pytest.mark.parametrize("junk", NO_ANSWERS)
def test_a_text_without_an_answer_is_never_rewarded(junk: str):
    def verify(item: dict[str, Any]) -> float:
        return float(item["answer"] == junk and item["entry"] is ENTRIES[3])

    assert paid_by(verify) == junk


@pytest.mark.parametrize("guess", ["0", "True", "What is 1 + 0?"])
def test_a_guess_may_be_right_by_chance_but_not_on_most_problems(guess: str):
    def pays(times: int) -> Callable[[dict[str, Any]], float]:
        lucky = [id(one) for one in ENTRIES[:times]]
        is_question = guess not in ("0", "True")
        return lambda item: float(
            item["answer"] == (item["entry"]["question"] if is_question else guess)
            and id(item["entry"]) in lucky
        )

    assert paid_by(pays(2)) is None
    assert paid_by(pays(3)) == guess


def test_an_answer_that_is_the_problems_own_is_no_junk():
    own = [entry("?!", text) for text in ("none", " 0.0", "NaN", "yes", "1")]
    asked = {(item["entry"]["answer"], item["answer"]) for item in probes(own)}
    assert not asked & {("none", "None"), (" 0.0", "0"), ("NaN", "nan"), ("yes", "Yes"), ("1", "1")}
    assert ("none", "nan") in asked and ("1", "0") in asked
    assert len(probes([entry("?!", None)])) == len(probes([entry("?!", "7")]))
