"""8-bit AdamW: its state survives a checkpoint to the bit; it skips without torchao."""

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from tests.distributed.ranks import on_ranks
from tests.toy import toy_model
from tests.trainers.optimizers.resume import assert_resumes_to_the_bit, config_of, trained
from unmask.distributed.world import World
from unmask.trainers.learner import Learner
from unmask.trainers.optimizers import build_optimizer

needs_torchao = pytest.mark.skipif(not find_spec("torchao"), reason="torchao is not installed")
WIDE = {"width": 64, "ffn_width": 128}  # matrices of 4096 numbers and more are held in 8 bits


@needs_torchao
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_resumes_to_the_bit(dtype: torch.dtype, tmp_path: Path) -> None:
    assert_resumes_to_the_bit("adamw_8bit", dtype, tmp_path, **WIDE)


@needs_torchao
def test_moments_of_matrices_are_held_in_8_bits(tmp_path: Path) -> None:
    state = trained("adamw_8bit", torch.float32, tmp_path, None, **WIDE)[1]
    codes = {name: value for name, value in state.items() if ".codes/" in name}
    assert codes and all(value.dtype == torch.uint8 for value in codes.values())
    name = "exp_avg_sq.codes/backbone.layers.0.ffn.up.weight"
    assert codes[name].shape == (128, 64)
    assert state[name.replace("codes", "scale")].shape == (128 * 64 // 256,)
    assert state["exp_avg/backbone.norm.weight"].dtype == torch.float32


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchao.optim", None)
    with pytest.raises(ValueError, match=r'optimizer\.kind = "adamw_8bit" needs torchao'):
        build_optimizer(list(toy_model().named_parameters()), config_of("adamw_8bit"), {})


def build_on_ranks(world: World) -> str:
    with pytest.raises(ValueError) as it:
        Learner(toy_model(), config_of("adamw_8bit"), world=world)
    return str(it.value)


def test_several_ranks_and_host_memory_are_refused() -> None:
    for message in on_ranks(build_on_ranks):
        assert message.startswith('optimizer.kind = "adamw_8bit": runs on one process')
    with pytest.raises(ValueError, match=r"offload = true: adamw_8bit .* leave it out"):
        config_of("adamw_8bit", offload=True)
