"""Whole runs with a critic: on a backbone of its own, with adapters of its own, on the policy's."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.trainers.breaking import VARIABLE, start_counting
from tests.trainers.toy_critics import full_checkpoint, left_behind, value_run
from tests.trainers.toy_runs import metrics
from unmask.checkpoints.checkpoint import load_model, load_value_model
from unmask.rollouts.collect import grade_trajectories
from unmask.trainers.policy_update import PolicyUpdate
from unmask.types import Group

SHARED = ["advantage.kind=shared_value", "advantage.weight=0.1"]
ADAPTED = ["advantage.lora.rank=2"]
LORA = ["lora.rank=3", "optimizer.lr=1e-2"]
# What a critic may stand on.
STANDS: dict[str, list[str]] = {
    "own": [],
    "adapters": ADAPTED,
    "adapters beside adapters": ADAPTED + LORA,
    "own beside adapters": LORA,
    "shared": SHARED,
    "shared, adapters": SHARED + LORA,
}


@pytest.mark.parametrize(
    ("stand", "attention", "dtype"),
    [
        *((stand, "block", "float32") for stand in STANDS),
        ("own", "block", "bfloat16"),
        ("shared", "full", "float32"),
    ],
)
def test_a_run_with_a_critic_goes_on_to_the_bit(
    stand: str, attention: str, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [f"model.dtype={dtype}", *STANDS[stand]]
    if attention == "full":
        words += [f"model.path={full_checkpoint(tmp_path / 'full')}"]
        words += ["sampling.max_tokens=32", "sampling.strategy=static"]
        words.append("sampling.denoising_steps=8")
    whole = left_behind(value_run(tmp_path, "whole", *words))
    monkeypatch.setenv(VARIABLE, "raise:30")
    start_counting()
    with pytest.raises(ValueError) as it:  # in the third rollout
        value_run(tmp_path, "parts", *words)
    assert it.value.__notes__ == ["the state of step 2 is kept: go on by --resume"]
    monkeypatch.delenv(VARIABLE)
    assert left_behind(value_run(tmp_path, "parts", *words)) == whole

    lines = whole["metrics"]
    assert len(lines) == 3
    assert all(line["value_loss"] > 0 for line in lines)
    # The first critic has the value 0 everywhere; a critic that learns changes the advantages.
    assert lines[0]["value_explained_variance"] == pytest.approx(0)
    assert lines[0]["advantage_variance"] == lines[0]["advantage_variance_without_critic"]
    assert lines[2]["advantage_variance"] != lines[2]["advantage_variance_without_critic"]


@pytest.mark.parametrize("stand", ["own", "adapters beside adapters"])
def test_a_critic_of_its_own_is_left_as_a_whole_checkpoint(stand: str, tmp_path: Path) -> None:
    run = value_run(tmp_path, "run", *STANDS[stand])
    before = load_value_model(run / "model").backbone
    after = load_value_model(run / "critic", head="stored")
    pairs = zip(before.parameters(), after.backbone.parameters(), strict=True)
    assert not all(torch.equal(a, b) for a, b in pairs)
    assert after.value_head.weight.any()
    assert (run / "critic" / "tokenizer.json").is_file()


def last_checkpoint(run: Path) -> Path:
    (last,) = (run / "checkpoints").iterdir()
    return last


def test_a_checkpoint_holds_what_is_trained_and_no_more(tmp_path: Path) -> None:
    adapter, head = "adapter/adapter_model.safetensors", "critic/value_head.safetensors"
    of_critic = "critic/adapter_model.safetensors"
    policy, one, two = "model/model.safetensors", "optimizer.safetensors", "critic.safetensors"
    expected = {
        "own": {policy, one, two, "critic/model.safetensors"},
        "adapters": {policy, one, two, of_critic, head},
        "adapters beside adapters": {adapter, one, two, of_critic, head},
        "shared": {policy, one, head},
        "shared, adapters": {adapter, one, head},
    }
    for stand, files in expected.items():
        last = last_checkpoint(value_run(tmp_path, stand, "steps=1", *STANDS[stand]))
        assert {f.relative_to(last).as_posix() for f in last.rglob("*.safetensors")} == files
    last = last_checkpoint(tmp_path / "shared, adapters")
    trained = {name.partition("/")[2] for name in load_file(last / one)}
    assert "value_head.weight" in trained  # in full, in addition to the adapters
    assert all(".lora_" in name for name in trained - {"value_head.weight"})


def test_a_head_on_the_policys_backbone_goes_on_in_a_new_run(tmp_path: Path) -> None:
    first = value_run(tmp_path, "first", *SHARED)
    names = {path.name for path in (first / "critic").iterdir()}
    assert names == {"value_head.safetensors", "manifest.json"}
    words = [
        f"advantage.head_path={first / 'critic'}",
        f"model.path={first / 'model'}",
    ]
    (line,) = metrics(value_run(tmp_path, "second", *SHARED, *words, "steps=1"))
    assert line["advantage_variance"] != line["advantage_variance_without_critic"]


def test_the_value_loss_moves_the_shared_backbone_as_much_as_it_weighs(tmp_path: Path) -> None:
    ends = []
    for weight in (0.1, 5.0):
        words = ["steps=2", "advantage.lr=0.1", f"advantage.weight={weight}"]
        run = value_run(tmp_path, f"run{weight}", *SHARED, *words)
        ends.append(
            load_model(run / "model").backbone.layers[0].get_parameter("attention.q.weight")
        )
    assert not torch.equal(*ends)


@pytest.mark.parametrize("stand", ["own beside adapters", "shared"])
def test_the_optimizer_is_reset_for_the_critic_too(stand: str, tmp_path: Path) -> None:
    words = ["optimizer.reset_every_step=true", *STANDS[stand]]
    last = last_checkpoint(value_run(tmp_path, "run", *words))
    for file in last.glob("*.safetensors"):
        counts = {int(t) for name, t in load_file(file).items() if name.startswith("step/")}
        assert counts == {2}  # the minibatches of the last step alone


@pytest.mark.parametrize(
    "words",
    [
        ["views.shrink=2", "views.post_num=2"],
        ["views.train_block=8"],
        ["loss.reduction=constant", "epochs=2"],
        [
            "advantage.gamma=0.9",
            "advantage.lam=0.5",
            "advantage.epochs=2",
            "advantage.train_every=2",
        ],
        ["optimizer.token_budget=32", "filter.drop_uniform=false"],
        ["loss.kl_to=reference", "loss.kl=0.1", "loss.max_log_ratio=10"],
        [*SHARED, "views.shrink=2", "views.post_num=2"],
        [*SHARED, "views.train_block=8", "advantage.weight=1"],
        [*SHARED, *LORA, "loss.kl_to=reference", "loss.kl=0.1", "epochs=2"],
        [*SHARED, "optimizer.token_budget=32", "filter.drop_uniform=false"],
    ],
)
def test_every_setting_trains_with_a_critic(words: list[str], tmp_path: Path) -> None:
    lines = metrics(value_run(tmp_path, "run", "steps=2", *words))
    assert lines[1]["value_loss"] > 0
    assert lines[1]["gradient_norm"] > 0


def test_a_whole_run_takes_process_rewards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def per_token(*args: Any) -> list[Group]:
        return [
            replace(
                group,
                rewards=tuple(
                    tuple(reward if id_ % 2 else -0.1 for id_ in trajectory.response_ids)
                    for reward, trajectory in zip(group.rewards, group.trajectories, strict=True)
                ),
            )
            for group in grade_trajectories(*args)
        ]

    monkeypatch.setattr("unmask.trainers.rl.grade_trajectories", per_token)
    lines = metrics(value_run(tmp_path, "run", "advantage.gamma=0.99"))
    assert all(line["value_gradient_norm"] > 0 < line["gradient_norm"] for line in lines)


def test_the_critic_of_an_earlier_run_goes_on_in_a_new_one(tmp_path: Path) -> None:
    first = value_run(tmp_path, "first")
    second = value_run(
        tmp_path, "second", f"advantage.path={first / 'critic'}", "advantage.head=stored", "steps=1"
    )
    (line,) = metrics(second)
    assert line["advantage_variance"] != line["advantage_variance_without_critic"]


@pytest.mark.parametrize("name", ["critic.safetensors", "critic/model.safetensors"])
def test_a_critics_file_that_cannot_be_read_is_named(name: str, tmp_path: Path) -> None:
    run = value_run(tmp_path, "run", "steps=1")
    file = run / "checkpoints" / "step-000001" / name
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ValueError, match=rf"step-000001/{name}"):
        value_run(tmp_path, "run", "steps=2")


def test_an_error_in_the_policys_update_leaves_the_critic_of_the_step_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("in the policy's update")

    with monkeypatch.context() as patch:
        patch.setattr(PolicyUpdate, "__call__", broken)
        with pytest.raises(RuntimeError):
            value_run(tmp_path, "run")
    assert not (tmp_path / "run" / "checkpoints").exists()
