"""Files of dLLM-RL: its rollouts and data as our trajectory records, its YAML as a table.

Three forms of JSON are read, each a list (or JSON Lines) of objects:

    rollouts   one per task: lists `full_output`, `step_map` and, once judged, `extracted_output`,
               `correctness`, `rewards`, with one entry per response
    rl_data    one per response: `prompt`, `response`, `step_map`, `reward`
    SFT data   one per example: `prompt`, `response`, and `step_map` or not

These files keep text and step map but no token ids, and text does not give the ids back (a sampled
response is often not what the tokenizer would make of its text). So the records have none: they can
be looked at (`unmask show FILE.json`), not trained on along the trajectory. Steps are taken as they
stand; the full-attention samplers of dLLM-RL count them from 0, ours from 1.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from unmask.json_records import read_records

Item = Mapping[str, Any]


def records_of_file(path: Path) -> list[dict[str, Any]]:
    """Return the responses of a dLLM-RL file in the form of our `trajectories.jsonl`.

    Token ids and log-probabilities are empty, `step` is None, and the reward is None where the file
    has no judgement yet.

    Raises:
        ValueError: the file is missing, is not JSON or has none of the three forms; names the
            record and the key.
    """
    records: list[dict[str, Any]] = []
    for number, (place, item) in enumerate(read_records(path, "FILE"), start=1):
        if not isinstance(item, dict):
            raise ValueError(f"{place}: expected an object, found {type(item).__name__}")
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
    return records


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML table; nothing in it can make or run anything.

    Raises:
        ValueError: the file is missing, is not YAML, or holds no table.
    """
    import yaml

    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        table = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(table, dict):
        raise ValueError(f"{path}: expected a table of sections, found {type(table).__name__}")
    return table


def _rollout_records(item: Item, number: int, place: str) -> Iterator[dict[str, Any]]:
    """Yield one record per response of a task, and check that its lists are of one length."""
    texts = _list(item, "full_output", place)
    names = ("step_map", "extracted_output", "correctness", "rewards")
    lists = {name: _list(item, name, place) for name in names if name in item}
    wrong = [name for name, values in lists.items() if len(values) != len(texts)]
    if wrong:
        raise ValueError(
            f"{place}: {wrong[0]} has {len(lists[wrong[0]])} entries, full_output {len(texts)}"
        )
    if "step_map" not in lists:
        raise ValueError(f"{place}: has no step_map")
    question = item.get("prompt", item.get("question", ""))
    for index, text in enumerate(texts):
        judged = {name: values[index] for name, values in lists.items()}
        reward, parts = _judgement(judged)
        record = _record(question, text, judged["step_map"], number, place)
        record |= {"reward": reward, "parts": parts}
        if "extracted_output" in judged:
            record["answer"] = str(judged["extracted_output"])
        yield record


def _example_record(item: Item, number: int, place: str) -> dict[str, Any]:
    text, reward = item["response"], item.get("reward")
    record = _record(item.get("prompt", ""), text, item.get("step_map", []), number, place)
    return record | {"reward": reward}


def _judgement(judged: Item) -> tuple[float | None, dict[str, float]]:
    """Return the reward (what training was given, else the share judged right) and its parts."""
    verdict = judged.get("correctness")
    right: float | None = None
    if isinstance(verdict, list):  # code: one verdict per test
        right = sum(map(bool, verdict)) / len(verdict) if verdict else 0.0
    elif verdict is not None:
        right = float(verdict)
    reward = judged.get("rewards", right)
    return reward, {} if right is None else {"correct": right}


def _record(question: Any, text: Any, step_map: Any, number: int, place: str) -> dict[str, Any]:
    if not isinstance(text, str) or not isinstance(question, str):
        raise ValueError(f"{place}: prompt and response must be texts")
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
