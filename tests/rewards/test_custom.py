"""A user's own reward: found, called with prompt and response, and held to a finite number."""

from pathlib import Path

import pytest

from unmask.rewards.custom import load_reward
from unmask.runs.stopped import Stopped
from unmask.types import Message, Prompt

PROMPT = Prompt("toy", 1, (Message("user", "2+2="),), reference={"answer": "4"})
MODULE = """
def right(prompt, response):
    return response == prompt.reference["answer"]

def nothing(prompt, response):
    return None

def nan(prompt, response):
    return float("nan")

def buggy(prompt, response):
    return prompt.no_such_field

number = 3
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "toy_reward.py").write_text(MODULE)
    (tmp_path / "toy_import.py").write_text("import no_such_package")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")


def test_a_function_in_the_working_directory_is_the_reward():
    reward = load_reward("toy_reward:right")
    assert (reward(PROMPT, "4"), reward(PROMPT, "5")) == (1.0, 0.0)


@pytest.mark.parametrize("path", ["toy_reward", "toy_reward:", ":right"])
def test_a_path_without_module_or_function_is_refused(path: str):
    with pytest.raises(ValueError, match=r"task\.reward = .*module:function"):
        load_reward(path)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("no_such_module:f", "no module 'no_such_module'"),
        ("toy_reward.inner:f", "no module 'toy_reward.inner'"),
        ("toy_reward:wrong", "no function 'wrong'"),
        ("toy_reward:number", "no function 'number'"),
    ],
)
def test_what_cannot_be_found_is_named(path: str, message: str):
    with pytest.raises(ValueError, match=rf"task\.reward = '{path}': .*{message}"):
        load_reward(path)


def test_an_import_that_fails_inside_the_users_module_is_theirs():
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        load_reward("toy_import:f")


@pytest.mark.parametrize("name", ["nothing", "nan"])
def test_a_result_that_is_no_finite_number_is_refused(name: str):
    reward = load_reward(f"toy_reward:{name}", key="task.reward")
    with pytest.raises(ValueError, match=rf"task\.reward = 'toy_reward:{name}' returned"):
        reward(PROMPT, "4")


def test_an_exception_of_the_users_function_is_one_line_that_names_it():
    said = r"task\.reward = 'toy_reward:buggy' raised AttributeError\(.*no_such_field.*toy_reward\.py:12 "
    with pytest.raises(ValueError, match=said) as it:
        load_reward("toy_reward:buggy")(PROMPT, "4")
    assert isinstance(it.value.__cause__, AttributeError)


@pytest.mark.parametrize("ending", [KeyboardInterrupt(), Stopped(15, 3)])
def test_what_ends_the_run_is_not_taken_for_an_error_of_the_function(
    ending: BaseException, monkeypatch: pytest.MonkeyPatch
):
    def interrupted(prompt: Prompt, response: str) -> float:
        raise ending

    reward = load_reward("toy_reward:right")
    monkeypatch.setattr("toy_reward.right", interrupted)
    assert reward(PROMPT, "4") == 1.0  # found once, when it was loaded
    with pytest.raises(type(ending)):
        load_reward("toy_reward:right")(PROMPT, "4")
