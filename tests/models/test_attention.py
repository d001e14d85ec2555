"""Attention in rows is the dense mask it stands for."""

import torch

from tests.models.heads import random_heads
from unmask.models.attention import attend_rows, plan_rows, round_up


def test_rows_that_see_nothing_see_themselves() -> None:
    allowed = torch.zeros(2, 5, 5, dtype=torch.bool)
    allowed[1] = True
    q, k, v = random_heads(16, 4, 2)
    mixed = plan_rows(allowed, 16)(0, q, k, v)
    assert mixed.shape == q.shape and mixed.isfinite().all()
    torch.testing.assert_close(mixed[:5], v[:5].repeat_interleave(2, 1))
    alone = attend_rows(q[None, 5:10], k[None, 5:10], v[None, 5:10], allowed[1, None, None])
    torch.testing.assert_close(mixed[5:10], alone[0])


def test_round_up() -> None:
    assert [round_up(count, 16) for count in (0, 1, 16, 17)] == [0, 16, 16, 32]
