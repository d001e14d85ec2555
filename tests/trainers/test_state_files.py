"""The state of a learner is written by any number of ranks and read by any other."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.distributed.ranks import on_ranks
from tests.trainers.toy_critics import toy_value_model
from tests.trainers.toy_runs import supervised_views
from unmask.configs.optimizer import OptimizerConfig
from unmask.diffusion.layout import Pack
from unmask.distributed.sharding import whole
from unmask.distributed.world import ALONE, World
from unmask.objectives.loss import LossOutput
from unmask.trainers.learner import Learner
from unmask.trainers.state_files import build_state_format, read_state

State = dict[str, Tensor]


def towards_one(values: Tensor, pack: Pack) -> LossOutput:
    return LossOutput((values - 1) ** 2)


def whole_state(learner: Learner) -> State:
    return {name: whole(tensor).clone() for name, tensor in learner.state().items()}


def write_and_read(world: World, dtype: str, own: Path | None, others: list[Path]) -> list[State]:
    """Return the state after two steps, written to `own`, then that of new learners restored from each file."""
    config, found = OptimizerConfig(lr=1e-2, token_budget=64), list[State]()
    if own is not None:
        # A head of one row, which is on one rank alone.
        learner = Learner(toy_value_model(getattr(torch, dtype)), config, world=world)
        for _ in range(2):
            learner.update(supervised_views(), towards_one, 30.0)
        build_state_format(world).write(learner.state(), own)
        found.append(whole_state(learner))
    for path in (own, *others) if own else others:
        learner = Learner(toy_value_model(getattr(torch, dtype)), config, world=world)
        tensors = read_state(path, learner.masters)
        for name, master in learner.masters.items():
            assert hasattr(tensors[f"exp_avg/{name}"], "placements") == (world.size > 1)
            assert tensors[f"exp_avg/{name}"].device == master.device
        learner.restore(tensors, 2)
        found.append(whole_state(learner))
    return found


def assert_equal(one: State, other: State) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert tensor.dtype == other[name].dtype
        assert torch.equal(tensor, other[name]), name


def test_a_state_is_read_at_any_number_of_ranks_to_the_bit(tmp_path: Path) -> None:
    """With fp32 copies of bf16 weights: the state of fp32 weights is a part of it."""
    dtype = "bfloat16"
    one, two, three = (tmp_path / name for name in ("one.safetensors", "two", "three"))
    of_one, again = write_and_read(ALONE, dtype, one, [])
    assert_equal(of_one, again)
    for rank in on_ranks(write_and_read, dtype, three, [one], size=3):
        of_three, *found = rank
        for expected, state in zip((of_three, of_one), found, strict=True):
            assert_equal(expected, state)
    for rank in on_ranks(write_and_read, dtype, two, [one, three]):
        of_two, *found = rank
        for expected, state in zip((of_two, of_one, of_three), found, strict=True):
            assert_equal(expected, state)
    for expected, state in zip(
        (of_two, of_three), write_and_read(ALONE, dtype, None, [two, three]), strict=True
    ):
        assert_equal(expected, state)
    assert any(name.startswith("master/") for name in of_one)
    # Nothing is pickled, and each rank wrote its part alone.
    assert {file.suffix for file in (*two.iterdir(), *three.iterdir())} == {".safetensors"}
    stored = [load_file(file) for file in sorted(three.iterdir())]
    assert len(stored) == 3
    for name, tensor in of_three.items():
        assert sum(part[name].numel() for part in stored if name in part) == tensor.numel()


def test_copies_of_the_weights_are_written_once_and_a_missing_part_is_refused(
    tmp_path: Path,
) -> None:
    place = tmp_path / "state"
    (state, again), _ = on_ranks(write_and_read, "bfloat16", place, [], shard=1)
    assert_equal(state, again)
    written = {file: load_file(file) for file in sorted(place.iterdir())}
    assert sorted(name for part in written.values() for name in part) == sorted(state)

    # A file with half of the rows of each tensor: the other half would be what was in memory.
    first, tensors = next(iter(written.items()))
    halves = {
        name: tensor[len(tensor) // 2 :].clone() for name, tensor in tensors.items() if tensor.dim()
    }
    offsets = {
        name: {"saved_offsets": [len(tensors[name]) // 2, *[0] * (part.dim() - 1)]}
        for name, part in halves.items()
    }
    save_file(halves, first, {"DCP_SHARDING_INFO": json.dumps(offsets)})
    masters = Learner(toy_value_model(torch.bfloat16), OptimizerConfig()).masters
    with pytest.raises(ValueError, match=r"a part of '.*' is missing"):
        read_state(place, masters)
