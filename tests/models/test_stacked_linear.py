"""Grouped products against the loop over groups, and where each is used."""

import pytest
import torch

from unmask.models.stacked_linear import is_groupable, project_groups, project_groups_in_loop


@pytest.mark.parametrize(
    ("widths", "dtype", "expected"),
    [
        ((24, 32), torch.bfloat16, True),
        ((24, 12), torch.bfloat16, False),
        ((24, 12), torch.float32, True),
        ((6, 24), torch.float32, False),
        ((24, 32), torch.float64, False),
    ],
)
def test_grouped_products_take_whole_16_bytes_and_no_fp64(
    widths: tuple[int, int], dtype: torch.dtype, expected: bool
) -> None:
    weight = torch.ones(3, *widths, dtype=dtype)
    assert is_groupable(weight) == expected
    x, ends = torch.ones(24, widths[1], dtype=dtype), torch.tensor([8, 8, 16], dtype=torch.int32)
    products = [
        project(x, weight, ends)[:16] for project in (project_groups, project_groups_in_loop)
    ]
    assert products[0].equal(products[1]) and products[0].eq(widths[1]).all()
