"""A user's own reward: `module:function` in the config.

It runs in the training process, with whatever the user's module holds, because it is the user's own
code and not a verifier of foreign text. What it raises ends the run with a line that names key,
prompt and error; so does a result that is no number, before it turns a gradient into NaN.
"""

import math
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from numbers import Real
from pathlib import Path

from unmask.types import Prompt

RewardFunction = Callable[[Prompt, str], float]


def load_reward(path: str, key: str = "task.reward") -> RewardFunction:
    """Load `module:function`, looking in the working directory last, and check what it returns.

    Args:
        path: where the function is; called as `function(prompt, response) -> float`.
        key: the config key that `path` stands under, for messages.

    Raises:
        ValueError: there is no such function; or, when called, it raised something or did not
            return a finite number.
    """
    function = _find(path, key)

    def reward(prompt: Prompt, response: str) -> float:
        asked = f"a response to prompt {prompt.uid} of task {prompt.task!r}"
        try:
            value: object = function(prompt, response)
        except Exception as error:  # the user's code may raise anything
            place = traceback.extract_tb(error.__traceback__)[-1]
            raise ValueError(
                f"{key} = {path!r} raised {' '.join(repr(error).split())} at {place.filename}:"
                f"{place.lineno} for {asked}; mend it, or run with --debug for the traceback"
            ) from error
        if not isinstance(value, Real) or not math.isfinite(value):
            raise ValueError(
                f"{key} = {path!r} returned {value!r} for {asked}: a reward must be a finite number"
            )
        return float(value)

    return reward


def _find(path: str, key: str) -> Callable[[Prompt, str], object]:
    module_name, _, name = path.partition(":")
    if not module_name or not name:
        raise ValueError(f"{key} = {path!r}: write it as `module:function`")
    # A console script does not see the directory it was started in.
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise ValueError(
            f"{key} = {path!r}: there is no module {error.name!r}; "
            "it must be installed, on PYTHONPATH or in the working directory"
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        raise ValueError(f"{key} = {path!r}: module {module_name!r} has no function {name!r}")
    return function
