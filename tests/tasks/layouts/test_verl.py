"""The layout `verl`: rows as its preprocessing writes them; what another grader would grade is refused."""

import importlib
from pathlib import Path
from typing import Any

import pytest

from tests.tasks.own_files import prompts, rewards
from unmask.configs.task import JsonTaskConfig
from unmask.tasks.build import build_task


def row(truth: Any, style: str = "rule") -> dict[str, Any]:
    """Return a row of verl's GSM8K preprocessing, cut down."""
    return {
        "data_source": "openai/gsm8k",
        "prompt": [
            {"role": "user", "content": 'Half of 48? Output the final answer after "####".'}
        ],
        "ability": "math",
        "reward_model": {"style": style, "ground_truth": truth},
        "extra_info": {"split": "train", "index": 0},
    }


def test_rows_are_whole_prompts_and_graded_in_the_form_that_they_ask_for(tmp_path: Path):
    (prompt,) = prompts(tmp_path, [row("24")])
    assert prompt.messages[0].content.startswith("Half of 48? Output")
    assert prompt.reference == {"answer": "24"}
    found = rewards(tmp_path, [row("24")] * 3, ["24 of them\n#### 24", r"\boxed{24}", "#### 25"])
    assert found == [1.0, 1.0, 0.0]


def test_parquet_and_json_lines_hold_the_same_prompts(tmp_path: Path):
    pyarrow: Any = pytest.importorskip("pyarrow")
    parquet = importlib.import_module("pyarrow.parquet")
    parquet.write_table(pyarrow.Table.from_pylist([row("24")]), tmp_path / "train.parquet")
    task = build_task(JsonTaskConfig(train=tmp_path / "train.parquet"))
    assert task.prompts("train") == prompts(tmp_path, [row("24")])


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (row(None), "'ground_truth' must be a text or a number; for others set task.reward"),
        (row({"target": 24, "numbers": [4, 6]}), "'ground_truth' must be a text or a number"),
        (row('{"inputs": ["1"], "outputs": ["2"]}'), "'ground_truth' is JSON.*task.reward"),
        (row(""), "'ground_truth' must be a text or a number"),
        (row("24", "model"), "'style' must be 'rule'"),
        (row("24") | {"reward_model": "24"}, "'reward_model' must be a table"),
    ],
)
def test_a_row_that_mathematics_cannot_grade_is_refused(
    tmp_path: Path, record: dict[str, Any], message: str
):
    with pytest.raises(ValueError, match=rf"own\.jsonl, line 2.*{message}"):
        prompts(tmp_path, [row("24"), record])


def test_an_own_reward_gets_the_tables_of_the_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    code = (
        "def score(prompt, response): return prompt.reference['reward_model']['ground_truth']['t']"
    )
    (tmp_path / "verl_reward.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    assert rewards(tmp_path, [row({"t": 0.5})], [""], reward="verl_reward:score") == [0.5]
