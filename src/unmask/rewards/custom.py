"""A user's own reward: `module:function` in the config.

An *outcome* is a number for a prompt and a response; it grades in training and in evaluation
(`load_reward`). A *process reward* also receives the trajectory, and may reward tokens or denoising
steps (`load_process_reward`), as a term of the run's reward:

    a number                        for the response
    one number per response token   a list, an array: `trajectory.response_ids` are the tokens
    {step: number}                  for denoising steps of `trajectory.step_map`; 0 for the others

The images of a prompt are in `prompt.messages`. A response that is an image (text-to-image) is passed to a
process reward as an `images.Image` in place of a text.

It runs in the training process, because it is the user's own code and not foreign code. An exception
ends the run with a line that names key, prompt and error; so does a result that is no finite number, or
has another count than the response has tokens.
"""

import inspect
import math
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Real
from typing import Any

from unmask.configs.import_path import import_object
from unmask.images import Image
from unmask.rewards.weighted import AnswerGroup
from unmask.types import Prompt, Reward, Score, Trajectory

RewardFunction = Callable[[Prompt, str], float]
ProcessFunction = Callable[[Prompt, str | Image, Trajectory], Reward]


def load_reward(path: str, key: str = "task.reward") -> RewardFunction:
    """Load `module:function`, looking in the working directory last, and check what it returns.

    Args:
        path: `module:function`; called as `function(prompt, response) -> float`.
        key: config key of `path`, for messages.

    Raises:
        ValueError: there is no such function, or it takes other arguments; or a call raised an
            exception or did not return a finite number.
    """
    name = f"{key} = {path!r}"
    function = _load(path, name, "prompt, response")

    def reward(prompt: Prompt, response: str) -> float:
        value = function(prompt, response)
        return _finite(value, f"{name} returned {value!r}", prompt)

    return reward


def load_process_reward(path: str, key: str) -> ProcessFunction:
    """Load a `module:function` that rewards a trajectory, and check what it returns.

    Args:
        path: `module:function`; called as `function(prompt, response, trajectory)`.
        key: config key of `path`, for messages.

    Raises:
        ValueError: as `load_reward`; or it returned another number of rewards than the response has
            tokens, or a reward for a denoising step that wrote none of them.
    """
    name = f"{key} = {path!r}"
    function = _load(path, name, "prompt, response, trajectory")

    def reward(prompt: Prompt, response: str | Image, trajectory: Trajectory) -> Reward:
        value = function(prompt, response, trajectory)
        if isinstance(value, Mapping):
            return _of_steps(value, trajectory, name)
        if isinstance(value, Iterable) and not isinstance(value, str):
            return _of_tokens(list(value), trajectory, name)
        return _finite(value, f"{name} returned {value!r}", prompt)

    return reward


def score_custom(groups: Sequence[AnswerGroup], function: ProcessFunction) -> list[list[Score]]:
    """Return the score of a function for each answer."""
    return [
        [Score(function(a.prompt, a.drawing or a.text, a.trajectory)) for a in group]
        for group in groups
    ]


def _load(path: str, name: str, arguments: str) -> Callable[..., Any]:
    """Return a user's function, with its exceptions named and its tensors and arrays as lists."""
    function = import_object(path, name, "function")
    if not callable(function):
        raise ValueError(f"{name}: the module has no function {path.partition(':')[2]!r}")
    try:
        inspect.signature(function).bind(*arguments.split(", "))
    except TypeError as error:
        raise ValueError(
            f"{name}: it is called as f({arguments}), but takes {inspect.signature(function)}: {error}"
        ) from error
    except ValueError:  # written in C, without a signature
        pass

    def call(prompt: Prompt, *rest: object) -> Any:
        try:
            value: Any = function(prompt, *rest)
        except Exception as error:  # the user's code may raise anything
            place = traceback.extract_tb(error.__traceback__)[-1]
            raise ValueError(
                f"{name} raised {' '.join(repr(error).split())} at {place.filename}:{place.lineno} "
                f"for {_asked(prompt)}; run with --debug for the traceback"
            ) from error
        # Tensors and arrays of every package have this method.
        return value.tolist() if hasattr(value, "tolist") else value

    return call


def _of_tokens(values: list[Any], trajectory: Trajectory, name: str) -> tuple[float, ...]:
    """Return one reward per response token."""
    if len(values) != trajectory.num_response:
        raise ValueError(
            f"{name} returned {len(values)} numbers for {_asked(trajectory.prompt)}, which has "
            f"{trajectory.num_response} tokens: give one number, or one per token"
        )
    return tuple(
        _finite(value, f"{name} returned {value!r} for token {index}", trajectory.prompt)
        for index, value in enumerate(values)
    )


def _of_steps(values: Mapping[Any, Any], trajectory: Trajectory, name: str) -> tuple[float, ...]:
    """Return the reward of the denoising step of each response token; 0 for a step without one."""
    steps = trajectory.step_map[: trajectory.num_response]
    unknown = [step for step in values if step not in steps]
    if unknown:
        raise ValueError(
            f"{name} returned a reward for denoising step {unknown[0]!r} of "
            f"{_asked(trajectory.prompt)}, which wrote none of its tokens: "
            f"trajectory.step_map names those that did, {min(steps)} to {max(steps)}"
        )
    given = {
        step: _finite(value, f"{name} returned {value!r} for step {step}", trajectory.prompt)
        for step, value in values.items()
    }
    return tuple(given.get(step, 0.0) for step in steps)


def _finite(value: object, returned: str, prompt: Prompt) -> float:
    if not isinstance(value, Real) or not math.isfinite(value):
        raise ValueError(f"{returned} for {_asked(prompt)}: a reward must be a finite number")
    return float(value)


def _asked(prompt: Prompt) -> str:
    return f"a response to prompt {prompt.uid} of task {prompt.task!r}"
