"""A user's own reward: its function is found, called with prompt and response, and must return a finite number."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from unmask.images import Image, image_from
from unmask.rewards.custom import load_process_reward, load_reward, score_custom
from unmask.rewards.weighted import Answer
from unmask.runs.signals import Stopped
from unmask.sampling_params import SamplingParams
from unmask.types import Message, Prompt, Reward, Score, Trajectory

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
PROCESS = """
import torch

def of_response(prompt, response, trajectory):
    return response == prompt.reference["answer"]

def of_tokens(prompt, response, trajectory):
    return list(trajectory.response_ids)

def of_array(prompt, response, trajectory):
    return torch.tensor(trajectory.response_ids).numpy()

def of_tensor(prompt, response, trajectory):
    return torch.tensor(trajectory.response_ids)

def of_mean(prompt, response, trajectory):
    return torch.tensor(trajectory.response_ids, dtype=torch.float64).mean()

def of_steps(prompt, response, trajectory):
    return {2: 0.5}

def too_many(prompt, response, trajectory):
    return [1.0] * len(trajectory.canvas_ids)

def no_such_step(prompt, response, trajectory):
    return {3: 0.5}

def nan_token(prompt, response, trajectory):
    return [0.0, float("nan"), 0.0]

def nan_step(prompt, response, trajectory):
    return {2: float("nan")}

def text(prompt, response, trajectory):
    return "good"

def buggy(prompt, response, trajectory):
    return 1 / 0
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "toy_reward.py").write_text(MODULE)
    (tmp_path / "toy_process.py").write_text(PROCESS)
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
def test_a_missing_function_is_named(path: str, message: str):
    with pytest.raises(ValueError, match=rf"task\.reward = '{path}': .*{message}"):
        load_reward(path)


def test_an_import_error_inside_the_users_module_is_raised():
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
def test_exceptions_that_end_the_run_are_not_errors_of_the_function(
    ending: BaseException, monkeypatch: pytest.MonkeyPatch
):
    def interrupted(prompt: Prompt, response: str) -> float:
        raise ending

    reward = load_reward("toy_reward:right")
    monkeypatch.setattr("toy_reward.right", interrupted)
    assert reward(PROMPT, "4") == 1.0  # found once, when it was loaded
    with pytest.raises(type(ending)):
        load_reward("toy_reward:right")(PROMPT, "4")


def trajectory() -> Trajectory:
    """Return three tokens written in two steps."""
    return Trajectory(
        prompt=PROMPT,
        canvas_ids=(5, 6, 7, 1),
        step_map=(1, 2, 1, 0),
        behavior_logprobs=(0.0,) * 4,
        num_response=3,
        finish="stop",
        policy_version=0,
        sampling=SamplingParams(block_size=4),
        num_forwards=2,
    )


def process_reward(name: str) -> Reward:
    return load_process_reward(f"toy_process:{name}", "reward")(PROMPT, "4", trajectory())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("of_response", 1.0),
        ("of_tokens", (5.0, 6.0, 7.0)),
        ("of_array", (5.0, 6.0, 7.0)),
        ("of_tensor", (5.0, 6.0, 7.0)),
        ("of_mean", 6.0),
        ("of_steps", (0.0, 0.5, 0.0)),
    ],
)
def test_a_process_reward_is_for_the_response_its_tokens_or_steps(name: str, expected: Reward):
    assert process_reward(name) == expected


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("too_many", "returned 4 numbers for a response to prompt 1 .* has 3 tokens"),
        ("no_such_step", "a reward for denoising step 3 of a response to prompt 1 .*, 1 to 2"),
        ("nan_token", "returned nan for token 1 for a response to prompt 1 .*finite"),
        ("nan_step", "returned nan for step 2 for a response to prompt 1 .*finite"),
        ("text", "returned 'good' for a response to prompt 1 .*finite"),
        ("buggy", r"raised ZeroDivisionError\(.*toy_process\.py:"),
    ],
)
def test_a_process_reward_of_the_wrong_shape_is_named(name: str, said: str):
    with pytest.raises(ValueError, match=rf"^reward = 'toy_process:{name}' .*{said}"):
        process_reward(name)


def test_the_arguments_of_a_function_are_checked_before_the_run():
    said = r"'toy_process:of_tokens': it is called as f\(prompt, response\), but takes .*trajectory"
    with pytest.raises(ValueError, match=said):
        load_reward("toy_process:of_tokens")
    said = r"'toy_reward:right': it is called as f\(prompt, response, trajectory\), but takes"
    with pytest.raises(ValueError, match=said):
        load_process_reward("toy_reward:right", "reward")


def test_the_documented_reward_looks_at_the_image_of_its_prompt(tmp_path: Path) -> None:
    from PIL import Image as pillow

    page = (Path(__file__).parents[2] / "docs" / "rewards.md").read_text()
    (program,) = re.findall(r"```python\n(# my_rewards\.py.*?)```", page, re.DOTALL)
    (tmp_path / "my_rewards.py").write_text(program)
    reward = load_process_reward("my_rewards:names_the_colour", "reward.function")
    for colour, value in (("red", (200, 30, 30)), ("blue", (0, 0, 90))):
        image = image_from(pillow.new("RGB", (8, 6), value))
        prompt = replace(PROMPT, messages=(Message.of("user", image, "Which colour?"),))
        paid = [reward(prompt, text, trajectory()) for text in ("It is Red.", "blue", "")]
        assert paid == [colour == "red", colour == "blue", False]


def test_a_drawing_is_passed_in_place_of_a_text(tmp_path: Path) -> None:
    (tmp_path / "toy_drawn.py").write_text(
        "def size(prompt, response, trajectory):\n    return len(getattr(response, 'data', response))\n"
    )
    function = load_process_reward("toy_drawn:size", "reward.function")
    written = Answer(trajectory(), "four", Score(0.0))
    drawn = replace(written, drawing=Image("drawn.png", b"123456"))
    (scores,) = score_custom([[written, drawn]], function)
    assert [score.reward for score in scores] == [4.0, 6.0]
