"""Rollouts and data of dLLM-RL become records that `show` prints; what is not of that form is named."""

import io
import json
from codecs import BOM_UTF8
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from unmask.importing.data import read_yaml, records_of_file
from unmask.runs.print import choose, print_trajectories

TASK = {
    "question": "1+1?",
    "prompt": "<|im_start|>user\n1+1?",
    "full_output": ["2<|im_end|>", "3"],
    "step_map": [[1, 1], [2]],
    "extracted_output": ["2", "3"],
    "correctness": [True, False],
}


def write(folder: Path, value: Any) -> Path:
    path = folder / "rollouts.json"
    path.write_text(json.dumps(value))
    return path


def read(folder: Path, value: Any) -> list[dict[str, Any]]:
    """The records of a file of which nothing is left out."""
    records, unread = records_of_file(write(folder, value))
    assert not unread
    return records


def test_a_rollout_is_a_record_per_response(tmp_path: Path) -> None:
    first, second = read(tmp_path, [TASK])
    assert (first["text"], first["step_map"], first["reward"]) == ("2<|im_end|>", [1, 1], 1.0)
    assert (first["num_denoising_steps"], first["num_response"]) == (1, 2)
    assert (second["reward"], second["parts"], second["answer"]) == (0.0, {"correct": 0.0}, "3")
    assert first["canvas_ids"] == []
    assert first["prompt"]["messages"] == [{"role": "prompt", "content": TASK["prompt"]}]


def test_records_are_shown(tmp_path: Path) -> None:
    stream = io.StringIO()
    records = choose(read(tmp_path, [TASK]), "best", 1)
    print_trajectories(records, console=Console(file=stream, highlight=False))
    assert stream.getvalue() == (
        "#1  reward 1, correct 1, 2 tokens in 1 denoising steps, dLLM-RL 1\n"
        "prompt\n  <|im_start|>user\n  1+1?\n"
        "answer    2\n"
        "response  2<|im_end|>\n"
        "order     1 1\n\n"
    )


def test_rewards_of_training_go_before_verdicts_and_tests_are_a_share(tmp_path: Path) -> None:
    (a, b) = read(tmp_path, [TASK | {"rewards": [1.5, -0.5]}])
    assert (a["reward"], a["parts"], b["reward"]) == (1.5, {"correct": 1.0}, -0.5)
    (a, b) = read(tmp_path, [TASK | {"correctness": [[True, False], []]}])
    assert (a["reward"], b["reward"]) == (0.5, 0.0)
    bare = {name: TASK[name] for name in ("question", "full_output", "step_map")}
    assert read(tmp_path, [bare])[0]["reward"] is None


def test_data_of_training_is_read_as_well(tmp_path: Path) -> None:
    path = tmp_path / "rl_data.jsonl"
    items = [
        {"prompt": "a", "response": "b", "step_map": [1, 2], "reward": [0.5, 1.0]},
        {"prompt": "c", "response": "d"},
    ]
    path.write_text("\n".join(json.dumps(item) for item in items))
    (first, second), unread = records_of_file(path)
    assert not unread
    assert (first["text"], first["step_map"], first["reward"]) == ("b", [1, 2], [0.5, 1.0])
    assert (second["step_map"], second["reward"], second["prompt"]["uid"]) == ([], None, 2)


def test_a_scored_evaluation_has_an_empty_step_map(tmp_path: Path) -> None:
    first, second = read(tmp_path, [TASK | {"step_map": []}])
    assert (first["step_map"], second["step_map"], first["reward"]) == ([], [], 1.0)


def test_keys_that_no_record_holds_are_named(tmp_path: Path) -> None:
    items = [TASK | {"level": 3, "rewards": [1, 0], "process_reward": [1, 0]}, TASK | {"b": 1}]
    records, unread = records_of_file(write(tmp_path, items))
    assert (len(records), unread) == (4, ["b", "level", "process_reward"])
    (first, _) = read(tmp_path, [TASK | {"process_reward": [0.5, 0.25]}])
    assert (first["reward"], first["parts"]) == (0.5, {"correct": 1.0})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "holds no response"),
        ([3], "item 1: expected an object, found int"),
        ([{"question": "a"}], "neither full_output .* nor response .*; it has question"),
        ([TASK | {"full_output": "a"}], "full_output must be a list"),
        ([TASK | {"step_map": [[1]]}], "step_map has 1 entries, full_output 2"),
        ([TASK | {"correctness": [True]}], "correctness has 1 entries, full_output 2"),
        ([TASK | {"rewards": [1.0]}], "rewards has 1 entries, full_output 2"),
        ([TASK | {"rewards": ["a", "b"]}], "rewards = 'a': must be a number"),
        ([TASK | {"correctness": ["yes", "no"]}], "correctness = 'yes': must be verdicts"),
        ([{"prompt": "a", "response": "b", "reward": "c"}], "reward = 'c': must be a number"),
        ([{"full_output": ["a"]}], "has no step_map"),
        ([TASK | {"step_map": [["a"], [1]]}], "step_map must be a list of whole numbers"),
        ([{"prompt": "a", "response": 3}], "prompt and response must be strings"),
    ],
)
def test_records_of_another_form_are_refused(value: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"rollouts.json.*{message}"):
        records_of_file(write(tmp_path, value))


def test_yaml_is_a_table_and_runs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a:\n  b: [1, 2]\n")
    assert read_yaml(path) == {"a": {"b": [1, 2]}}
    for text, message in (
        ("a: !!python/object/apply:os.getcwd []", "not valid YAML: could not determine"),
        ("a: b: c", "not valid YAML"),
        ("- 1", "expected a table of sections, found list"),
        ("a:\n  b: 1\n  b: 2", "not valid YAML: key 'b' occurs twice"),
        ("1: 2", "not valid YAML: key '1' is not a name"),
        ("'a.b': 2", "not valid YAML: key 'a.b' is not a name"),
        ("a: " + "[" * 50_000, "not valid YAML: line 1: nested deeper than 100"),
        ("".join(f"{'  ' * n}a:\n" for n in range(200)), "not valid YAML: line 101: nested deeper"),
        ("a: &x [1]\nb: [*x, *x]", r"not valid YAML: line 2: \*x is an alias; write out"),
        ("a: 2024-13-45", "not valid YAML: month must be"),
        ("a: " + "9" * 5000, "not valid YAML: Exceeds the limit"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=f"a.yaml: {message}"):
            read_yaml(path)
    path.write_bytes(BOM_UTF8 + b"a: 1")
    assert read_yaml(path) == {"a": 1}
    with pytest.raises(ValueError, match=r"absent\.yaml: no such file"):
        read_yaml(tmp_path / "absent.yaml")
