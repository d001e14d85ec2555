"""Grouped products against the loop over groups, and where each is used."""

import pytest
import torch

from tests.models.toy import family_model
from unmask.models.stacked_linear import (
    is_groupable,
    project_groups,
    project_groups_in_loop,
    waits_for_router,
)


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


@pytest.mark.parametrize(("major", "waits"), [(8, True), (9, False), (10, False), (12, True)])
def test_experts_wait_for_the_router_without_a_grouped_kernel(
    major: int, waits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (major, 0))
    experts = family_model("sdar_moe")
    assert waits_for_router(experts)  # fp32
    assert waits_for_router(experts.bfloat16()) == waits
    assert not waits_for_router(family_model("sdar"))
