"""Tables of targets: read by where a target came from, whatever pack it is in."""

import torch

from unmask.diffusion.target_table import TargetTable, tables_of


def test_a_table_is_read_where_it_was_written() -> None:
    tables = [torch.arange(6.0).view(2, 3), torch.arange(10.0, 14).view(1, 4)]
    table = TargetTable(tables)
    origin = torch.tensor([[0, 1, 0, 1], [1, 0, 0, 0], [2, 3, 1, 0]])
    assert table.read(origin).tolist() == [5, 13, 1, 10]
    table.write(origin[:, :2], torch.tensor([-1.0, -2.0]))
    assert [t.tolist() for t in table.tables()] == [[[0, 1, 2], [3, 4, -1]], [[10, 11, 12, -2]]]
    assert tables[0][1, 2] == 5


def test_a_table_may_hold_several_numbers_of_a_target() -> None:
    tables = [torch.arange(12.0).view(2, 3, 2), torch.arange(20.0, 28).view(1, 4, 2)]
    table = TargetTable(tables)
    origin = torch.tensor([[0, 1], [1, 0], [2, 3]])
    assert table.read(origin).tolist() == [[10, 11], [26, 27]]
    table.write(origin, torch.tensor([[-1.0, -2.0], [-3.0, -4.0]]))
    found = table.tables()
    assert [t.shape for t in found] == [(2, 3, 2), (1, 4, 2)]
    assert found[0][1, 2].tolist() == [-1, -2] and found[1][0, 3].tolist() == [-3, -4]


def test_a_table_of_no_trajectory_is_empty() -> None:
    assert TargetTable([]).tables() == []
    assert tables_of([]) == {}


def test_columns_become_one_table_each() -> None:
    rows = [
        {"a": torch.ones(1, 2), "b": torch.zeros(1, 2)},
        {"a": torch.ones(2, 3), "b": torch.ones(2, 3)},
    ]
    found = tables_of(rows)
    assert found.keys() == {"a", "b"}
    assert [t.shape for t in found["b"].tables()] == [(1, 2), (2, 3)]
