"""Every mistake a user can make: exit code 2, one line that names it, no traceback, nothing half written."""

import json
import re
import resource
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.end_to_end.real_command import end, errors, rl_words, start, train
from tests.toy import toy_checkpoint
from tests.trainers.breaking import VARIABLE
from unmask.rollouts.collect import write_trajectories
from unmask.trainers.start import checkpoints
from unmask.types import Trajectory


def refused(place: Path, *words: str) -> str:
    """Return the one line with which an RL run is refused, which leaves nothing behind."""
    (line,) = errors(rl_words(place, *words))
    assert not (place / "run").exists()
    return line.replace(f"{place}/", "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["absent.toml"], "absent.toml: no such file; in . there is "),
        (["broken.toml"], "broken.toml: not valid TOML: "),
        (
            ["optimizer.warmup=1"],
            "unknown key optimizer.warmup (command line); did you mean optimi",
        ),
        (["sampling.threshold=1.5"], "sampling.threshold = 1.5 (command line): must be "),
        (["steps=many"], 'steps = "many" (command line): must be int >= 1'),
    ],
)
def test_a_wrong_configuration(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.toml").write_text("steps = = 3")
    assert refused(tmp_path, *words).startswith(said)


def empty(place: Path) -> None:
    place.mkdir()


def text_only(place: Path) -> None:
    place.mkdir()
    (place / "readme.txt").write_text("weights will follow")


def truncated(place: Path) -> None:
    file = toy_checkpoint(place) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def of_another_shape(place: Path) -> None:
    file = toy_checkpoint(place) / "model.safetensors"
    tensors = load_file(file)
    tensors["lm_head.weight"] = torch.zeros(3, 32)
    save_file(tensors, file, metadata={"format": "pt"})


def without_mask_id(place: Path) -> None:
    toy_checkpoint(place)
    for name, key in (("config.json", "mask_token_id"), ("tokenizer_config.json", "mask_token")):
        content = json.loads((place / name).read_text())
        del content[key]
        (place / name).write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (empty, "wrong is not a checkpoint: it has no config.json"),
        (text_only, "wrong is not a checkpoint: it has no config.json"),
        (truncated, "wrong/model.safetensors is not a whole safetensors file: "),
        (
            of_another_shape,
            "wrong/model.safetensors: tensor 'lm_head.weight' has shape (3, 32), "
            "config.json asks for (",
        ),
        (without_mask_id, "mask_id"),
    ],
)
def test_a_wrong_checkpoint(make: Callable[[Path], None], said: str, tmp_path: Path) -> None:
    make(tmp_path / "wrong")
    assert said in refused(tmp_path, f"model.path={tmp_path / 'wrong'}")


@pytest.mark.parametrize(
    ("problems", "said"),
    [
        ([], "task.train = wrong.json: the file holds no problem"),
        (
            [{"question": "1+1=", "ground_truth_answer": 2}, {"question": "2+2="}],
            "task.train = wrong.json, item 2: 'ground_truth_answer' is missing: a record of the layout question has",
        ),
        (
            [{"question": "1" * 125, "ground_truth_answer": 2}],
            "a prompt of 125 tokens and max_tokens = 8 take 133 positions, but the model has 128",
        ),
    ],
    ids=["no problem", "a field is missing", "too long"],
)
def test_wrong_data(problems: list[dict[str, object]], said: str, tmp_path: Path) -> None:
    (tmp_path / "wrong.json").write_text(json.dumps(problems))
    assert refused(tmp_path, f"task.train={tmp_path / 'wrong.json'}").startswith(said)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sampling.temperature=0"], "sampling.temperature = 0 "),
        (["loss.kl=0.1", "minibatches=1"], "loss.kl = 0.1 has no effect with minibat"),
    ],
)
def test_what_rl_cannot_train_on(words: list[str], said: str, tmp_path: Path) -> None:
    assert refused(tmp_path, *words).startswith(f"configuration: {said}")


def test_an_unknown_task_names_those_that_are_near(tmp_path: Path) -> None:
    words = ["task.kind=reasoning_gym", "task.name=chain_sun", f"model.path={tmp_path / 'm'}"]
    toy_checkpoint(tmp_path / "m")
    (line,) = errors(["rl", *words, f"run.dir={tmp_path / 'run'}"])
    assert line.startswith("task.name = 'chain_sun': ")
    assert "near it: chain_sum" in line
    assert not (tmp_path / "run").exists()


def test_a_run_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    line = refused(tmp_path, f"run.dir={tmp_path / 'file' / 'run'}")
    assert line.startswith("run.dir = file/run: ")
    assert line.endswith("is not a directory; give another run.dir=...")


def test_a_reward_that_breaks_loses_nothing(tmp_path: Path) -> None:
    words = [*rl_words(tmp_path, "steps=5"), "--resume"]  # 12 rewards a step, nothing saved before
    line, kept = errors(words, **{VARIABLE: "raise:14"})
    assert line.startswith(
        "task.reward = 'tests.trainers.breaking:reward' raised KeyError('no such"
    )
    assert kept == "the state of step 1 is kept: go on by --resume"
    line, kept = errors(words, **{VARIABLE: "nan:30"})
    assert line.startswith("task.reward = 'tests.trainers.breaking:reward' returned nan for a resp")
    assert kept == "the state of step 3 is kept: go on by --resume"

    line, kept = errors(words, **{VARIABLE: "shape:14"})
    assert line.startswith("task.reward = 'tests.trainers.breaking:reward' returned [0.5, 0.5] for")
    assert kept == "the state of step 4 is kept: go on by --resume"

    code, said = end(start([*words, "--debug"], **{VARIABLE: "raise:3"}))
    assert code != 0
    assert "KeyError: 'no such answer'\n" in said
    assert (train(words) / "model.safetensors").is_file()


def test_steps_in_which_every_group_is_filtered_lose_nothing(tmp_path: Path) -> None:
    words = [*rl_words(tmp_path, "filter.low=2", "alarm.empty_steps=2"), "--resume"]
    line, kept = errors([*words, "steps=5"])
    assert line.startswith("alarm.empty_steps = 2: that many steps in a row had no group to train")
    assert kept == "the state of step 2 is kept: go on by --resume"
    assert (train([*words, "steps=4"]) / "model.safetensors").is_file()


@pytest.mark.parametrize(
    "words",
    [
        ("advantage.kind=value", "advantage.head=stored"),
        ("advantage.kind=shared_value", "advantage.head_path={place}/checkpoint"),
    ],
)
def test_a_checkpoint_without_the_value_head_that_is_asked_for(
    words: tuple[str, str], tmp_path: Path
) -> None:
    line = refused(tmp_path, *(word.format(place=tmp_path) for word in words))
    assert line.startswith("checkpoint has no value head (value_head.weight): it is a policy; ")
    assert line.endswith("advantage.head = zero, or without advantage.head_path")


def test_a_step_map_that_disagrees_with_its_response_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def torn(*args: Any, **options: Any) -> list[Trajectory]:
        first, *others = write_trajectories(*args, **options)
        is_second_step = first.policy_version > 0
        return [
            replace(first, step_map=(0, *first.step_map[1:])) if is_second_step else first,
            *others,
        ]

    words = rl_words(tmp_path, "steps=3", "filter.drop_uniform=false")
    with monkeypatch.context() as patch:
        patch.setattr("unmask.rollouts.build.write_trajectories", torn)
        with pytest.raises(ValueError, match="step_map disagrees with the response") as it:
            train(words)
    assert it.value.__notes__ == ["the state of step 1 is kept: go on by --resume"]
    whole = train(rl_words(tmp_path, "steps=3", "filter.drop_uniform=false", run="whole"))
    torn_model = train(words) / "model.safetensors"
    assert torn_model.read_bytes() == (whole / "model.safetensors").read_bytes()


def test_a_disk_that_fills_up_during_a_save_loses_nothing(tmp_path: Path) -> None:
    words = rl_words(tmp_path, "save_every=2")
    # Weights far larger than any other file, so that it is they who do not fit.
    shutil.rmtree(tmp_path / "checkpoint")
    toy_checkpoint(tmp_path / "checkpoint", ffn_width=4096)
    train([*words, "steps=2"])
    limit = 2_000_000
    assert max(file_sizes(tmp_path / "run", ".html", ".jsonl")) < limit / 2
    assert max(file_sizes(tmp_path / "run", ".safetensors")) > limit

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        line, kept = errors([*words, "steps=6", "--resume"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert line.startswith(f"{tmp_path / 'run' / 'checkpoints' / 'step-000004'}: cannot be saved: ")
    assert kept == "the state of step 2 is kept: go on by --resume"
    assert [path.name for path in checkpoints(tmp_path / "run")] == ["step-000002"]
    assert not [p for p in (tmp_path / "run").rglob("*") if ".tmp-" in p.name]
    train([*words, "steps=6"])
    assert [p.name for p in checkpoints(tmp_path / "run")] == ["step-000004", "step-000006"]


def file_sizes(place: Path, *suffixes: str) -> list[int]:
    return [path.stat().st_size for path in place.rglob("*") if path.suffix in suffixes]


@pytest.mark.parametrize("command", ["sft", "rl", "eval"])
def test_a_text_model_is_asked_about_pictures(command: str, tmp_path: Path) -> None:
    toy_checkpoint(tmp_path / "text")
    words = ["task.kind=pictures", "task.name=counting", "task.size=20", "task.compact=true"]
    paths = [f"run.dir={tmp_path / 'run'}", f"model.path={tmp_path / 'text'}"]
    (line,) = errors([command, *words, *paths])
    assert re.search(r"counting-\d+\.png: this model reads text only; leave the image out$", line)
    assert not (tmp_path / "run").exists()
