"""AdamW is torch's, with decay on matrices only."""

from pathlib import Path

import pytest
import torch

from tests.toy import toy_model
from tests.trainers.optimizers.resume import assert_resumes_to_the_bit, config_of
from unmask.trainers.optimizers import build_optimizer


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_resumes_to_the_bit(dtype: torch.dtype, tmp_path: Path) -> None:
    assert_resumes_to_the_bit("adamw", dtype, tmp_path)


def test_matrices_alone_decay_and_a_rate_is_a_share() -> None:
    named = list(toy_model().named_parameters())
    (part,) = build_optimizer(named, config_of("adamw"), {"head.projection.weight": 5e-3})
    names = {weight: name for name, weight in named}
    shares = {
        names[weight]: (group["weight_decay"], group["share"])
        for group in part.optimizer.param_groups
        for weight in group["params"]
    }
    assert shares.keys() == dict(named).keys()
    assert shares["backbone.norm.weight"] == (0.0, 1.0)
    assert shares["backbone.embedding.weight"] == (0.1, 1.0)
    assert shares["head.projection.weight"] == (0.1, 0.5)
