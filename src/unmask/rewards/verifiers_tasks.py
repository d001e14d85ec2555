"""Tasks and rewards of `verifiers` environments (the package's version 0.4 and later, `verifiers.v1`).

A taskset is a list of tasks. A task has a prompt, and rewards of the trace of a conversation. `records` writes the
prompts as rows in verl's layout, whose ground truth is the task's whole data, and `score` is a reward function in
verl's form that builds the task again and has it score the trace of one turn: the prompt and the response. It
runs in a process of its own, with a time limit for each call (`rewards/other_libraries.py`).

Refused are tasks that one turn cannot play: with tools, several agents, a container, files or steps in a runtime, or a
user who begins. They run against `unmask serve` by `vf-eval`, which evaluates; training needs a trajectory of one
turn.
"""

import importlib
import inspect
import json
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import islice
from typing import Any

SCORE = f"{__name__}:score"
EXTRA = "verifiers"
# Steps of a task in a runtime, which only its own package runs.
RUNTIME_STEPS = ("setup", "finalize", "stage_verifier")


def records(name: str, arguments: Mapping[str, Any], count: int | None) -> Iterator[dict[str, Any]]:
    """Yield the tasks of a taskset as rows in verl's layout.

    Args:
        name: the taskset's id: an installed package or a module that can be imported.
        arguments: keys of its config.
        count: the most tasks that are read; None reads all.

    Raises:
        ValueError: the package is missing or has no such taskset, or one turn cannot play its tasks.
    """
    taskset = _taskset(name, json.dumps(dict(arguments), sort_keys=True))
    if count is None and not taskset.bounded:
        raise ValueError(f"{name}: its tasks have no end: give a number of them")
    if _vf("envs.single_agent").SingleAgentEnv is not _vf("utils.loaders").environment_class(name):
        raise _unfit(name, "it has several agents")
    if type(taskset).toolsets(taskset.config):
        raise _unfit(name, "it has tools")
    for task in islice(taskset, count):
        _check(task, name)
        data = task.data.model_dump(mode="json", exclude_defaults=True)
        if type(task.data).model_validate(data) != task.data:
            raise _unfit(name, "its data is not JSON")
        yield {
            "prompt": [{"role": turn.role, "content": turn.content} for turn in _turns(task)],
            "data_source": name,
            "reward_model": {"style": "rule", "ground_truth": data},
            "extra_info": {"arguments": dict(arguments)},
        }


async def score(
    data_source: str, solution_str: str, ground_truth: Mapping[str, Any], extra_info: dict[str, Any]
) -> dict[str, float]:
    """Return the reward of a response to a task as `score`, and its parts before their weights.

    Args:
        data_source: the taskset's id.
        solution_str: the response.
        ground_truth: the task's data.
        extra_info: `arguments`, the keys of the taskset's config.
    """
    taskset = _taskset(data_source, json.dumps(extra_info["arguments"], sort_keys=True))
    task_type = type(taskset).task_type()
    data = task_type.data_type().model_validate(ground_truth)
    task = task_type(data, taskset.config.task)
    trace = _trace(task, solution_str)
    await task.score(trace)
    parts = {name: reward.score for name, reward in trace.rewards.items() if reward is not None}
    metrics = {name: value for name, value in trace.metrics.items() if value is not None}
    return {**metrics, **parts, "score": trace.reward}


def _trace(task: Any, response: str) -> Any:
    """Return the trace of one turn, as a rollout of the package leaves it."""
    traces, types, graph = _vf("trace"), _vf("types"), _vf("graph")
    answer = types.AssistantMessage(content=response)
    nodes = [
        graph.MessageNode(parent=place - 1 if place else None, message=message)
        for place, message in enumerate([*_turns(task), answer])
    ]
    nodes[-1].sampled = True
    return traces.Trace(
        task=traces.TraceTask(
            type=type(task).__name__, data=task.data, key=task.key, hash=task.hash
        ),
        state=_vf("state").state_cls(type(task))(),
        agent=traces.AgentInfo(config=_vf("configs.agent").AgentConfig()),
        nodes=nodes,
        is_completed=True,
        ok=True,
    )


def _turns(task: Any) -> list[Any]:
    """Return the messages that a task begins with."""
    types, data = _vf("types"), task.data
    prompt = data.prompt or []
    if isinstance(prompt, str):
        prompt = [types.UserMessage(content=prompt)]
    system = [types.SystemMessage(content=data.system_prompt)] if data.system_prompt else []
    return [*system, *prompt]


def _check(task: Any, name: str) -> None:
    """Refuse a task that one turn cannot play.

    Raises:
        ValueError: naming the taskset and the reason.
    """
    kind, base, data = type(task), _vf("task").Task, task.data
    runtime_rewards = [
        hook.__name__
        for sort in ("reward", "metric")
        for hook in task.hooks(sort)
        if _needs_runtime(hook)
    ]
    reasons = {
        "a user begins the conversation": not data.prompt,
        "its prompt has parts that are no text": not all(map(_is_text, _turns(task))),
        "it has tools": bool(kind.toolsets(task.config)),
        "it needs a container": kind.NEEDS_CONTAINER or data.image is not None,
        "it has skills or files": bool(data.skills or data.artifacts),
        f"{', '.join(runtime_rewards)} need a runtime": bool(runtime_rewards),
        **{
            f"it has {step}()": getattr(kind, step) is not getattr(base, step)
            for step in RUNTIME_STEPS
        },
    }
    if found := [reason for reason, holds in reasons.items() if holds]:
        raise _unfit(name, found[0])


def _is_text(turn: Any) -> bool:
    is_plain = turn.role != "tool" and not getattr(turn, "tool_calls", None)
    return is_plain and isinstance(turn.content, str)


def _needs_runtime(hook: Any) -> bool:
    parameter = inspect.signature(hook).parameters.get("runtime")
    return parameter is not None and parameter.default is inspect.Parameter.empty


def _unfit(name: str, reason: str) -> ValueError:
    return ValueError(
        f"verifiers:{name}: {reason}, which a single response cannot play: evaluate it with `vf-eval` "
        "against `unmask serve` (docs/rewards.md)"
    )


@cache
def _taskset(name: str, arguments: str) -> Any:
    loaders = _vf("utils.loaders")
    try:
        config = loaders.taskset_config_type(name)
        return loaders.load_taskset(config.model_validate({"id": name, **json.loads(arguments)}))
    except (ModuleNotFoundError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"verifiers:{name}: {error}") from error


def _vf(module: str) -> Any:
    """Import a module of the package.

    Raises:
        ValueError: it is not installed, or is a version before 0.4.
    """
    try:
        return importlib.import_module(f"verifiers.v1.{module}")
    except ImportError as error:
        raise ValueError(
            f"verifiers: needs the package verifiers, version 0.4 or later ({error}); install the extra "
            f"{EXTRA!r}"
        ) from None
