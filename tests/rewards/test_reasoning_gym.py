"""Verifiers of `reasoning_gym`: an answer that is a program never runs, a broken verifier is no bad answer."""

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import reasoning_gym
from reasoning_gym.factory import DATASETS

from unmask.rewards.reasoning_gym import alphabet_of, load_entry_verifier

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
    assert {name for name in DATASETS if alphabet_of(name)} == set(EVALUATING)


@pytest.mark.parametrize("name", EVALUATING)
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
