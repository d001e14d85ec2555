"""Preference pairs from records, and what is refused."""

from pathlib import Path
from typing import Any, get_args

import pytest

from tests.data.toy_pairs import EXPECTED, GOOD, read_pairs
from unmask.configs.pairs import FieldName, PairsConfig
from unmask.configs.sft_data import PAIRS, RecordsConfig
from unmask.data.examples import all_layouts, layout_of
from unmask.data.record_images import COLUMNS


def test_names_of_fields_are_mapped(tmp_path: Path) -> None:
    record = {"question": "1+1", "better": "2", "worse": {"text": "3"}}
    names = {"prompt": "question", "chosen": "better", "rejected": "worse.text"}
    assert read_pairs(tmp_path, record, fields=names) == [EXPECTED]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({**GOOD, "rejected": "2"}, "line 2: the two answers are equal: remove the record"),
        ({"prompt": "1", "chosen": "2"}, "line 2: 'rejected' is missing: a record of the layout"),
        ({**GOOD, "tools": ["x"]}, "line 2: 'tools' is not read"),
        ([1], "line 2: a record must be an object"),
    ],
)
def test_a_wrong_record_is_named_by_its_line(record: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        read_pairs(tmp_path, GOOD, record)


def test_an_unknown_layout_names_those_of_pairs(tmp_path: Path) -> None:
    message = r"no layout that is read \(chosen_rejected: chosen, rejected; group"
    with pytest.raises(ValueError, match=message):
        read_pairs(tmp_path, {"question": "1"})


def test_records_of_the_other_kind_name_the_command_that_trains_them(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the keys of what `unmask sft` trains: run that"):
        read_pairs(tmp_path, {"prompt": "1", "response": "2"})
    message = "the keys of what `unmask dpo` or `unmask reward-model` trains"
    with pytest.raises(ValueError, match=message):
        layout_of(GOOD)


def test_the_layouts_of_demonstrations_and_of_pairs_name_each_other() -> None:
    with pytest.raises(ValueError, match="holds what `unmask sft` trains"):
        PairsConfig(path=Path("a"), layout="alpaca")
    with pytest.raises(ValueError, match="holds what `unmask dpo` or `unmask reward-model` trains"):
        RecordsConfig(path=Path("a"), layout="prompt_chosen_rejected")
    with pytest.raises(ValueError, match="there is no layout 'other'; there are chosen_rejected"):
        PairsConfig(path=Path("a"), layout="other")


def test_the_configuration_lists_the_fields_of_all_layouts() -> None:
    layouts = all_layouts(PAIRS).values()
    read_by_layouts = {key for layout in layouts for key in (*layout.KEYS, *layout.OPTIONAL)}
    assert set(get_args(FieldName)) == read_by_layouts | {*COLUMNS}
