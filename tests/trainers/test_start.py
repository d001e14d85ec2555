"""A run starts from the last whole checkpoint, and never from a damaged one."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.trainers.test_checkpointer import begin, steps, weights
from tests.trainers.toy_runs import sft_config
from unmask.trainers.start import checkpoints, starting_model


def test_a_run_past_its_last_step_is_refused(tmp_path: Path) -> None:
    work = begin(tmp_path, "save_every=1")
    work.step()
    work.step()
    with pytest.raises(ValueError, match=r"^steps = 1: the run in .* is at step 2 already"):
        starting_model(sft_config(tmp_path, "steps=1"))


def test_what_a_killed_save_left_is_no_checkpoint(tmp_path: Path) -> None:
    begin(tmp_path, "save_every=1").step()
    half = tmp_path / "run" / "checkpoints" / "step-000002.tmp-0a1b2c3d"
    half.mkdir()
    assert steps(tmp_path) == [1]
    assert begin(tmp_path, "save_every=1").checkpointer.step == 1
    assert not half.exists()


def test_a_checkpoint_killed_between_two_renames_comes_back_whole(tmp_path: Path) -> None:
    """Weights and optimizer of one step: not those of the checkpoint before."""
    work = begin(tmp_path, "save_every=1")
    work.step()
    work.step()
    newest = checkpoints(tmp_path / "run")[-1]
    newest.rename(newest.with_name(f"{newest.name}.old-0a1b2c3d"))
    again = begin(tmp_path, "save_every=1")
    assert again.checkpointer.step == 2
    assert torch.equal(weights(again.llm.model), weights(work.llm.model))


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-5] ^= 0x10
    file.write_bytes(content)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def extend(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\0")


def exchange(file: Path) -> None:
    older = file.parents[1] if file.parent.name == "model" else file.parent
    shutil.copyfile(older.with_name("step-000001") / file.relative_to(older), file)


@pytest.mark.parametrize(
    ("harm", "name"),
    [
        *((flip, "model/model.safetensors"), (flip, "optimizer.safetensors"), (cut, "state.json")),
        *((extend, "model/model.safetensors"), (exchange, "optimizer.safetensors")),
        *((Path.unlink, "state.json"), (Path.unlink, "model/model.safetensors")),
    ],
)
def test_a_damaged_checkpoint_is_refused_and_can_be_gone_on_without(
    harm: Callable[[Path], object], name: str, tmp_path: Path
) -> None:
    work = begin(tmp_path, "save_every=1")
    work.step()
    first = weights(work.llm.model)
    work.step()
    newest = checkpoints(tmp_path / "run")[-1]
    harm(newest / name)
    message = rf"step-000002/{name}: is (damaged|missing).*; remove .*step-000002 to go on from step-000001$"
    with pytest.raises(ValueError, match=message):
        begin(tmp_path, "save_every=1")
    shutil.rmtree(newest)
    again = begin(tmp_path, "save_every=1")
    assert again.checkpointer.step == 1 and torch.equal(weights(again.llm.model), first)


def test_a_checkpoint_without_a_manifest_is_refused(tmp_path: Path) -> None:
    begin(tmp_path, "save_every=1").step()
    (place,) = checkpoints(tmp_path / "run")
    (place / "manifest.json").unlink()
    message = (
        r"manifest\.json: cannot be read.* to go on from the first step: there is no checkpoint"
    )
    with pytest.raises(ValueError, match=message):
        begin(tmp_path, "save_every=1")


def test_a_state_of_another_step_than_its_directory_is_refused(tmp_path: Path) -> None:
    work = begin(tmp_path, "save_every=1")
    work.step()
    work.step()
    newest = checkpoints(tmp_path / "run")[-1]
    newest.rename(newest.with_name("step-000004"))
    with pytest.raises(ValueError, match=r"step-000004/state\.json: .* it is of step 2, .* remove"):
        begin(tmp_path, "save_every=1")


def test_a_copy_next_to_the_checkpoints_is_not_a_checkpoint(tmp_path: Path) -> None:
    begin(tmp_path, "save_every=1").step()
    (place,) = checkpoints(tmp_path / "run")
    shutil.copytree(place, place.with_name("step-000009-copy"))
    assert steps(tmp_path) == [1]


def test_a_damaged_best_model_is_refused(tmp_path: Path) -> None:
    begin(tmp_path, "save_every=1").step(eval_reward=0.5)
    flip(tmp_path / "run" / "best" / "model.safetensors")
    with pytest.raises(
        ValueError, match=r"best/model\.safetensors: is damaged .* remove .*best to"
    ):
        begin(tmp_path, "save_every=1")
    shutil.rmtree(tmp_path / "run" / "best")
    assert begin(tmp_path, "save_every=1").checkpointer.step == 1


def test_training_from_a_damaged_model_of_a_run_is_refused(tmp_path: Path) -> None:
    work = begin(tmp_path)
    work.step()
    model = work.checkpointer.finish()
    config = sft_config(tmp_path, f"model.path={model}", f"run.dir={tmp_path / 'other'}")
    assert starting_model(config).path == str(model)
    flip(model / "model.safetensors")
    with pytest.raises(
        ValueError, match=r"model\.safetensors: is damaged .*; restore it, or remove"
    ):
        starting_model(config)
