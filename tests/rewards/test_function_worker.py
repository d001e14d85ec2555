"""The process of a reward function: arguments that fit, and results as JSON."""

import inspect
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from unmask.rewards.function_worker import argument_problem, plain


def of_trl(completions: Any, answer: Any, **kwargs: Any) -> None: ...


def narrow(prompts: Any, completions: Any) -> None: ...


def optional(completions: Any, *, level: int = 3, **kwargs: Any) -> None: ...


@pytest.mark.parametrize(
    ("function", "given", "is_whole", "problem"),
    [
        (of_trl, ("prompts", "completions"), False, ""),
        (of_trl, ("prompts", "completions"), True, "it needs answer, and there are prompts, comp"),
        (of_trl, ("prompts", "completions", "answer"), True, ""),
        (optional, ("prompts", "completions"), True, ""),
        (narrow, ("prompts", "completions"), True, ""),
        (narrow, ("prompts", "completions", "answer"), True, "it takes no answer, a column: add"),
    ],
)
def test_arguments_that_do_not_fit_are_named(
    function: Callable[..., None], given: tuple[str, ...], is_whole: bool, problem: str
) -> None:
    found = argument_problem(inspect.signature(function), given, is_whole, "a column")
    assert found.startswith(problem) and bool(found) == bool(problem)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([1, 0.5, None, True], [1, 0.5, None, True]),
        (np.array([0.5, 1.0]), [0.5, 1.0]),
        (torch.tensor([1, 0]), [1, 0]),
        ([np.float32(0.5), torch.tensor(2.0)], [0.5, 2.0]),
        (Fraction(1, 2), 0.5),
        ({"score": np.float64(1.0), "acc": True, "pred": "4", "raw": None}, {"score": 1, "acc": 1}),
        ([{"score": 1}, "x"], [{"score": 1}, "x"]),
        (("x", object), ["x", repr(object)]),
    ],
)
def test_results_are_json(value: Any, expected: Any) -> None:
    assert plain(value) == expected
