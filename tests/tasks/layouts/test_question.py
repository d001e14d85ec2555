"""The layout `question`: the published fields, and any names that `task.fields` maps to them."""

from pathlib import Path

from tests.tasks.own_files import prompts, rewards
from unmask.configs.task import BOXED_TEMPLATE

FIELDS = {"question": "problem", "ground_truth_answer": "meta.gold"}


def test_fields_are_mapped_also_from_inside_a_table(tmp_path: Path):
    record = {"problem": "2+3?", "answer": "a solution", "meta": {"gold": 5}}
    (prompt,) = prompts(tmp_path, [record], fields=FIELDS)
    assert prompt.messages[0].content == BOXED_TEMPLATE.format(question="2+3?")
    assert prompt.reference == {"answer": "5"}
    found = rewards(tmp_path, [record, record], [r"\boxed{5}", "It is 5."], fields=FIELDS)
    assert found == [1.0, 0.0]
