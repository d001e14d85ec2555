"""Files of dLLM-RL: rollouts and data as unmask's trajectory records, YAML as a table.

Three forms of JSON are read, each a list (or JSON Lines) of objects:

    rollouts   one per task: lists `full_output`, `step_map` and, once graded, `extracted_output`,
               `correctness`, `rewards`, with one entry per response
    rl_data    one per response: `prompt`, `response`, `step_map`, `reward`
    SFT data   one per example: `prompt`, `response`, and `step_map` or not

These files hold text and step map but no token ids, and text does not determine the ids (a sampled
response often differs from the tokenization of its text). So the records have none: they can be viewed
(`unmask show FILE.json`), not trained on along the trajectory. Steps are unchanged; the full-attention
samplers of dLLM-RL count them from 0, unmask's from 1. Scored evaluations have an empty list in place of
their step maps.

Other keys of a file are not part of a record, and are reported.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from unmask.json_files import MAX_DEPTH, read_records

Item = Mapping[str, Any]

KEY = re.compile(r"[\w-]+")
# One entry per response of a task; the reward is the first of the last three that is there.
LISTS = ("step_map", "extracted_output", "rewards", "process_reward", "correctness")
READ = {"full_output", "prompt", "question", "response", "reward", *LISTS}


def records_of_file(path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the responses of a dLLM-RL file as records of `trajectories.jsonl`.

    Token ids and log-probabilities are empty, `step` is None, and the reward is None where the file
    has no grade.

    Returns:
        The records, and the keys of the file that are not in them.

    Raises:
        ValueError: the file is missing, is not JSON or has none of the three forms; names the
            record and the key.
    """
    records: list[dict[str, Any]] = []
    unread: set[str] = set()
    for number, (place, item) in enumerate(read_records(path, "FILE"), start=1):
        if not isinstance(item, dict):
            raise ValueError(f"{place}: expected an object, found {type(item).__name__}")
        unread |= item.keys() - (READ - {"process_reward"} if "rewards" in item else READ)
        if "full_output" in item:
            records += _rollout_records(item, number, place)
        elif "response" in item:
            records.append(_example_record(item, number, place))
        else:
            raise ValueError(
                f"{place}: has neither full_output (a rollout of dLLM-RL) nor response (its data); "
                f"it has {', '.join(item) or 'nothing'}"
            )
    if not records:
        raise ValueError(f"FILE = {path}: holds no response")
    return records, sorted(unread)


def read_yaml(path: Path) -> dict[str, Any]:
    """Return a YAML table, read by the safe loader.

    Raises:
        ValueError: the file is missing, is not YAML, or holds no table; or a key is not a name or occurs twice.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        table = yaml.load(path.read_text(encoding="utf-8-sig"), _Loader)
    except (yaml.YAMLError, ValueError) as error:  # a date of the 13th month is no YAMLError
        raise ValueError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(table, dict):
        raise ValueError(f"{path}: expected a table of sections, found {type(table).__name__}")
    return table


class _Loader(yaml.SafeLoader):
    """Refuses nesting that would exhaust the parser, aliases, and keys that are not names or occur twice."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()
        place = f"line {event.start_mark.line + 1}"
        if isinstance(event, yaml.AliasEvent):  # a few lines of them expand to gigabytes
            raise ValueError(f"{place}: *{event.anchor} is an alias; write out what it stands for")
        if isinstance(event, yaml.CollectionStartEvent) and self.depth == MAX_DEPTH:
            raise ValueError(f"{place}: nested deeper than {MAX_DEPTH}")
        self.depth += 1
        node: Any = super().compose_node(parent, index)
        self.depth -= 1
        keys = [key for key, _ in node.value] if isinstance(node, yaml.MappingNode) else []
        names = [str(key.value) for key in keys]
        for key, name in zip(keys, names, strict=True):
            is_name = key.tag.endswith(":str") and KEY.fullmatch(name)
            if not is_name or names.count(name) > 1:  # the parser keeps only the last value
                reason = "occurs twice" if is_name else "is not a name"
                problem = f"key {name!r} {reason}"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
        return node


def _rollout_records(item: Item, number: int, place: str) -> Iterator[dict[str, Any]]:
    """Yield one record per response of a task, and check that its lists are of one length."""
    texts = _list(item, "full_output", place)
    lists = {name: _list(item, name, place) for name in LISTS if name in item}
    if "step_map" not in lists:
        raise ValueError(f"{place}: has no step_map")
    lists["step_map"] = lists["step_map"] or [[] for _ in texts]
    wrong = [name for name, values in lists.items() if len(values) != len(texts)]
    if wrong:
        raise ValueError(
            f"{place}: {wrong[0]} has {len(lists[wrong[0]])} entries, full_output {len(texts)}"
        )
    question = item.get("prompt", item.get("question", ""))
    for index, text in enumerate(texts):
        graded = {name: values[index] for name, values in lists.items()}
        reward, parts = _grade(graded, place)
        record = _record(question, text, graded["step_map"], number, place)
        record |= {"reward": reward, "parts": parts}
        if "extracted_output" in graded:
            record["answer"] = str(graded["extracted_output"])
        yield record


def _example_record(item: Item, number: int, place: str) -> dict[str, Any]:
    text, reward = item["response"], _reward(item, "reward", place)
    record = _record(item.get("prompt", ""), text, item.get("step_map", []), number, place)
    return record | {"reward": reward}


def _grade(graded: Item, place: str) -> tuple[Any, dict[str, float]]:
    """Return the reward (of training, else the share of right verdicts) and its parts."""
    verdict = graded.get("correctness")
    # Code has one verdict per test.
    verdicts: list[Any] = verdict if isinstance(verdict, list) else [verdict]
    if "correctness" not in graded:
        right = None
    elif all(isinstance(one, bool | int | float) for one in verdicts):
        right = sum(map(float, verdicts)) / len(verdicts) if verdicts else 0.0
    else:
        raise ValueError(f"{place}: correctness = {verdict!r}: must be verdicts")
    names = [name for name in ("rewards", "process_reward") if name in graded]
    reward = _reward(graded, names[0], place) if names else right
    return reward, {} if right is None else {"correct": right}


def _reward(item: Item, name: str, place: str) -> Any:
    """Return a reward: a number, one per token, or None."""
    reward = item.get(name)
    numbers = reward if isinstance(reward, list) else [reward or 0]
    if not all(isinstance(number, int | float) for number in numbers):
        raise ValueError(f"{place}: {name} = {reward!r}: must be a number, or a number per token")
    return reward


def _record(question: Any, text: Any, step_map: Any, number: int, place: str) -> dict[str, Any]:
    if not isinstance(text, str) or not isinstance(question, str):
        raise ValueError(f"{place}: prompt and response must be strings")
    if not isinstance(step_map, list) or not all(isinstance(step, int) for step in step_map):
        raise ValueError(f"{place}: step_map must be a list of whole numbers")
    return {
        "step": None,
        "text": text,
        "reward": None,
        "parts": {},
        "num_denoising_steps": len(set(step_map)),
        "prompt": {
            "task": "dLLM-RL",
            "uid": number,
            "messages": [{"role": "prompt", "content": question}],
            "token_ids": [],
        },
        "canvas_ids": [],
        "step_map": step_map,
        "behavior_logprobs": [],
        "num_response": len(step_map),
        "finish": None,
        "sampling": {},
    }


def _list(item: Item, name: str, place: str) -> list[Any]:
    value = item[name]
    if not isinstance(value, list):
        raise ValueError(f"{place}: {name} must be a list with one entry per response")
    return value
