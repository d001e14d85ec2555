"""The critic: values read where a reveal is about to happen, advantages per token, updates of its own."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.diffusion.trajectories import CONVENTIONS, random_canvas, random_trajectory
from tests.diffusion.trajectories import trajectories as any_trajectory
from tests.invariants.conventions import TOYS
from tests.models.toy import FAMILY_CHANGES
from tests.models.toy import toy_model as whole_toy_model
from tests.toy import toy_checkpoint, toy_model
from tests.trainers.breaking import REWARD, VARIABLE, start_counting
from tests.trainers.toy_runs import metrics, rl_config, toy_trajectories
from unmask.diffusion.layout import pack_views
from unmask.diffusion.views import Views, views_of_trajectory
from unmask.engine.engine import conventions_of
from unmask.models.attention import ROW_TILE, plan_rows, round_up
from unmask.models.checkpoint import load_model, load_value_model, save_model
from unmask.models.tiles import plan_documents
from unmask.models.value_model import ValueModel
from unmask.objectives.value import clipped_value_loss, token_returns_and_advantages
from unmask.rollouts.collect import grade_trajectories
from unmask.trainers.critic import (
    Critic,
    build_critic,
    build_value_terms,
    denoising_steps,
    spread_rewards,
)
from unmask.trainers.policy_update import PolicyUpdate
from unmask.trainers.policy_views import enlarge_blocks
from unmask.trainers.rl import train_rl
from unmask.types import Group, Trajectory


def toy_value_model(dtype: torch.dtype = torch.float32, **changes: Any) -> ValueModel:
    """Return a critic with an opinion."""
    policy = toy_model(2, **changes)
    model = ValueModel(policy.spec)
    model.backbone.load_state_dict(policy.backbone.state_dict())
    torch.manual_seed(0)
    torch.nn.init.normal_(model.value_head.weight, std=0.2)
    return model.to(dtype)


def critic_of(model: ValueModel, place: Path, *words: str) -> Critic:
    return Critic(model, rl_config(place, "value.enabled=true", "value.lr=1e-2", *words))


def written(is_full: bool, seed: int = 0, count: int = 6) -> list[Trajectory]:
    rng = random.Random(seed)
    lengths = [rng.randrange(1, 12) for _ in range(count)]
    draw = random_canvas if is_full else lambda rng, length: random_trajectory(rng, 4, length)
    return [draw(rng, length) for length in lengths]


def group_of(trajectories: list[Trajectory], rewards: list[Any] | None = None) -> list[Group]:
    """Return one group; a reward is its trajectory's number when not given."""
    given = [float(n) for n in range(len(trajectories))] if rewards is None else rewards
    return [Group(trajectories[0].prompt, trajectories, given)]


def views_of(trajectories: list[Trajectory], is_full: bool = False, shrink: int = 1) -> list[Views]:
    """Return views with an advantage of 1.5 - n, and a slot right of each response."""
    return [views_of_trajectory(t, 1.5 - n, shrink, 1, is_full) for n, t in enumerate(trajectories)]


def dense_values(model: ValueModel, views: Views, view: int) -> Tensor:
    """Return the values `(C,)` at the rows that predict the canvas slots, in one forward of one view."""
    num_prompt, num_slots = len(views.prompt_ids), len(views.canvas_ids)
    place = torch.arange(num_prompt, num_prompt + num_slots)
    row = place - int(model.spec.is_shifted)
    canvas = views.canvas_ids.masked_fill(views.hidden[view], model.spec.require_mask_id())
    tokens = torch.cat((views.prompt_ids, canvas))
    positions = torch.arange(len(tokens))
    if model.spec.is_full:
        allowed = torch.ones(len(tokens), len(tokens), dtype=torch.bool)
    else:
        # `clean | noisy`; a row before the slot's own block is clean text.
        row = row + len(tokens) * (row // views.block == place // views.block)
        is_noisy = torch.arange(2 * len(tokens)) >= len(tokens)
        block = positions.repeat(2) // views.block
        before, same = block < block[:, None], block == block[:, None]
        allowed = ~is_noisy & before | (is_noisy == is_noisy[:, None]) & same
        tokens = torch.cat((views.prompt_ids, views.canvas_ids, tokens))
        positions = positions.repeat(2)
    padding = (0, round_up(len(tokens), ROW_TILE) - len(tokens))
    plan = plan_rows(allowed[None], len(tokens) + padding[1])
    return model(F.pad(tokens, padding), F.pad(positions, padding), plan, row)


def gradients(model: ValueModel, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("budget", [10_000, 48])
@pytest.mark.parametrize("shrink", [1, 2])
@pytest.mark.parametrize("name", TOYS)
def test_values_and_their_gradients_are_those_of_view_by_view(
    name: str, shrink: int, budget: int, tmp_path: Path
) -> None:
    model = toy_value_model(torch.float64, **TOYS[name])
    trajectories = written(model.spec.is_full)
    views = views_of(trajectories, model.spec.is_full, shrink)
    critic = critic_of(model, tmp_path, f"optimizer.token_budget={budget}")
    judgement = critic.judge(group_of(trajectories), views)
    # Old values that are not the new ones: some have moved too far.
    noise = torch.randn(judgement.values.shape, dtype=torch.float64) * 0.2
    old = judgement.values + noise

    expected_loss = torch.zeros((), dtype=torch.float64)
    for t, looks in enumerate(views):
        for v in range(len(looks.target)):
            slots = looks.target[v].nonzero()[:, 0]
            values = dense_values(model, looks, v)[slots]
            told = judgement.values[t, slots]
            torch.testing.assert_close(told, values.detach(), rtol=0, atol=1e-10)
            loss = clipped_value_loss(values, old[t, slots], judgement.returns[t, slots], 0.2)
            expected_loss = expected_loss + loss.sum() / 7
    expected = gradients(model, expected_loss)

    terms = build_value_terms(old, judgement.returns, 0.2)
    conventions = conventions_of(toy_model(**TOYS[name]))
    packs = pack_views(views, conventions, budget)
    assert (len(packs) == 1) == (budget == 10_000)
    found_loss = torch.zeros((), dtype=torch.float64)
    for pack in packs:
        values = model(pack.tokens, pack.positions, plan_documents(pack.structure), pack.rows)
        found_loss = found_loss + (terms(values, pack).loss * pack.weights).sum() / 7
    found = gradients(model, found_loss)
    assert found_loss.item() == pytest.approx(expected_loss.item(), abs=1e-10)
    assert found.keys() == expected.keys() >= {"value_head.weight"}
    for parameter, gradient in expected.items():
        torch.testing.assert_close(found[parameter], gradient, rtol=0, atol=1e-10)


@pytest.mark.parametrize("is_full", [False, True])
def test_an_update_is_a_step_down_that_gradient(is_full: bool, tmp_path: Path) -> None:
    """With so large an epsilon AdamW's first step is minus the gradient; minibatches cut it up."""
    changes: list[Tensor] = []
    for budget in (10_000, 48):
        model = toy_value_model(torch.float64, **TOYS["full"] if is_full else {})
        before = model.value_head.weight.detach().clone()
        words = ["optimizer.eps=1e7", "value.lr=1e7", "optimizer.clip_norm=none"]
        critic = critic_of(model, tmp_path, *words, f"optimizer.token_budget={budget}")
        trajectories = written(is_full)
        views = views_of(trajectories, is_full)
        judgement = critic.judge(group_of(trajectories), views)
        critic.update(judgement, step=1, seed=0)
        changes.append(before - model.value_head.weight.detach())
    count = sum(int(looks.target.sum()) for looks in views)
    hidden = torch.zeros_like(changes[0])
    model = toy_value_model(torch.float64, **TOYS["full"] if is_full else {})
    for t, looks in enumerate(views):
        for v in range(len(looks.target)):
            slots = looks.target[v].nonzero()[:, 0]
            error = dense_values(model, looks, v)[slots] - judgement.returns[t, slots]
            loss = error.square().sum() / 2 / count
            hidden += torch.autograd.grad(loss, model.value_head.weight)[0]
    for change in changes:
        torch.testing.assert_close(change, hidden, rtol=1e-5, atol=1e-9)


def test_a_critic_that_says_nothing_leaves_the_advantage_as_it_was(tmp_path: Path) -> None:
    model = toy_value_model()
    torch.nn.init.zeros_(model.value_head.weight)
    trajectories = written(False)
    views = views_of(trajectories)
    judgement = critic_of(model, tmp_path).judge(group_of(trajectories), views)
    for looks, judged in zip(views, judgement.views, strict=True):
        slots = looks.target.any(0)
        torch.testing.assert_close(judged.advantages[slots], looks.advantages[slots])
    assert judgement.numbers["value_explained_variance"] == pytest.approx(0)
    with_critic, without = (
        judgement.numbers[name]
        for name in ("advantage_variance", "advantage_variance_without_critic")
    )
    assert with_critic == pytest.approx(without) != 0


@pytest.mark.parametrize("is_full", [False, True])
@pytest.mark.parametrize("shrink", [1, 2])
def test_advantages_are_those_of_the_formulas_on_the_steps_that_were_taken(
    is_full: bool, shrink: int, tmp_path: Path
) -> None:
    model = toy_value_model(**TOYS["full"] if is_full else {})
    trajectories = written(is_full, seed=1)
    rng = random.Random(2)
    rewards = [tuple(rng.random() for _ in range(t.num_response)) for t in trajectories]
    views = views_of(trajectories, is_full, shrink)
    critic = critic_of(model, tmp_path, "value.gamma=0.9", "value.lam=0.8")
    judgement = critic.judge(group_of(trajectories, rewards), views)
    for t, (looks, trajectory) in enumerate(zip(views, trajectories, strict=True)):
        steps = denoising_steps(looks, trajectory.step_map, is_full)
        if shrink == 1:
            own = torch.tensor(trajectory.step_map).masked_fill(~looks.target.any(0), 0)
            assert torch.equal(steps, own)
        given = spread_rewards(torch.tensor(rewards[t], dtype=torch.float64), steps)
        values = judgement.values[t, : len(steps)]
        expected = token_returns_and_advantages(values[None], given[None], steps[None], 0.9, 0.8)
        torch.testing.assert_close(judgement.returns[t, : len(steps)], expected[0][0])
        torch.testing.assert_close(judgement.views[t].advantages, expected[1][0].float())


def traced(step_map: tuple[int, ...], num_response: int | None = None) -> Trajectory:
    """Return a trajectory of blocks of four with this step map."""
    (trajectory,) = written(False, count=1)
    return replace(
        trajectory,
        prompt=replace(trajectory.prompt, token_ids=(2, 3, 4, 5)),
        canvas_ids=tuple(5 for _ in step_map),
        step_map=step_map,
        behavior_logprobs=tuple(0.0 for _ in step_map),
        num_response=num_response or len(step_map),
        finish="stop",
    )


@pytest.mark.parametrize(
    ("shrink", "is_full", "expected"),
    [
        (1, False, [3, 1, 1, 2, 5, 4, 6, 6]),
        (2, False, [3, 2, 2, 2, 5, 5, 6, 6]),
        (2, True, [4, 2, 2, 2, 6, 4, 6, 6]),
        (9, False, [3, 3, 3, 3, 6, 6, 6, 6]),
        (9, True, [6] * 8),
    ],
)
def test_merged_reveals_are_one_step(shrink: int, is_full: bool, expected: list[int]) -> None:
    trajectory = traced((3, 1, 1, 2, 5, 4, 6, 6))
    looks = views_of_trajectory(trajectory, 1.0, shrink, is_full=is_full)
    assert denoising_steps(looks, trajectory.step_map, is_full).tolist() == expected


@pytest.mark.parametrize("is_full", [False, True])
@given(data=st.data(), shrink=st.integers(1, 4), post_num=st.integers(0, 2))
def test_steps_keep_the_order_of_reveals_whatever_the_trajectory(
    is_full: bool, data: st.DataObject, shrink: int, post_num: int
) -> None:
    trajectory = data.draw(any_trajectory(replace(CONVENTIONS, is_full=is_full)))
    looks = views_of_trajectory(trajectory, 1.0, shrink, post_num, is_full)
    steps = denoising_steps(looks, trajectory.step_map, is_full)
    is_trained = looks.target.any(0)
    assert torch.equal(steps > 0, is_trained)
    taken = torch.tensor(trajectory.step_map)
    # No slot is put before one that was revealed earlier, and what is told apart was so in the views.
    earlier = taken[is_trained][:, None] < taken[is_trained]
    assert not (earlier & (steps[is_trained][:, None] > steps[is_trained])).any()
    view = looks.target.long().argmax(0)
    same = steps[is_trained][:, None] == steps[is_trained]
    assert not (same & (view[is_trained][:, None] != view[is_trained])).any()
    if shrink == 1:
        assert torch.equal(steps, taken.masked_fill(~is_trained, 0))


def test_steps_in_larger_blocks_are_those_that_were_taken() -> None:
    trajectory = traced((3, 1, 1, 2, 5, 4, 6, 6, 8, 7, 9, 9))
    larger = enlarge_blocks(trajectory, 8)
    looks = views_of_trajectory(larger, 1.0)
    steps = denoising_steps(looks, trajectory.step_map, is_full=False)
    assert tuple(steps.tolist()) == (*trajectory.step_map, *[0] * (len(steps) - 12))


def test_slots_right_of_the_response_change_no_steps_mean() -> None:
    steps = torch.tensor([1, 2, 2, 2, 3, 0])
    rewards = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    assert spread_rewards(rewards, steps).tolist()[:5] == [0.5, 1.0, 2.0, 1.5, 0.0]


def test_a_process_reward_pays_what_its_steps_have_yet_to_earn(tmp_path: Path) -> None:
    model = toy_value_model()
    torch.nn.init.zeros_(model.value_head.weight)
    trajectory = traced((1, 2, 2, 3))
    judgement = critic_of(model, tmp_path).judge(
        group_of([trajectory], [(1.0, 0.0, 2.0, 4.0)]), views_of([trajectory])
    )
    assert judgement.returns.tolist() == [[6.0, 4.0, 6.0, 4.0]]


def test_an_overlong_response_pays_on_its_last_step(tmp_path: Path) -> None:
    trajectory = traced((1, 2, 2, 3))
    trajectory = replace(trajectory, sampling=replace(trajectory.sampling, max_tokens=4))
    words = ["advantage.overlong_penalty=0.5", "advantage.overlong_tokens=2"]
    judgement = critic_of(toy_value_model(), tmp_path, *words).judge(
        group_of([trajectory], [(0.0, 0.0, 0.0, 1.0)]), views_of([trajectory])
    )
    assert judgement.returns.tolist() == [[0.5] * 4]


def test_a_process_reward_of_another_length_is_named(tmp_path: Path) -> None:
    trajectories = written(False, count=2)
    rewards = [1.0, (0.5,) * (trajectories[1].num_response + 1)]
    with pytest.raises(ValueError, match="numbers for a response of"):
        critic_of(toy_value_model(), tmp_path).judge(
            group_of(trajectories, rewards), views_of(trajectories)
        )


@pytest.mark.parametrize(
    "words", [[], ["value.minibatches=2"], ["value.epochs=2"], ["objective.reduction=view"]]
)
def test_a_critic_learns_what_its_trajectories_are_worth(words: list[str], tmp_path: Path) -> None:
    trajectories = toy_trajectories(toy_model())
    views = views_of(trajectories)
    critic = critic_of(toy_value_model(), tmp_path, *words)
    lines = []
    for step in range(1, 16):
        judgement = critic.judge(group_of(trajectories), views)
        lines.append(critic.update(judgement, step, seed=step))
    assert lines[-1]["value_explained_variance"] > 0.5 > lines[0]["value_explained_variance"]
    assert lines[-1]["value_loss"] < 0.5 * lines[0]["value_loss"]
    last = lines[-1]
    assert last["advantage_variance"] < 0.5 * last["advantage_variance_without_critic"]
    assert lines[0]["value_learning_rate"] == 1e-2
    assert {"value_gradient_norm", "value_mean", "value_clipped"} <= lines[0].keys()


def test_values_that_moved_far_enough_are_clipped(tmp_path: Path) -> None:
    trajectories = toy_trajectories(toy_model())
    critic = critic_of(toy_value_model(), tmp_path, "value.epochs=4", "value.clip=0.01")
    judgement = critic.judge(group_of(trajectories), views_of(trajectories))
    assert critic.update(judgement, 1, seed=0)["value_clipped"] > 0


def test_its_cadence_is_its_own(tmp_path: Path) -> None:
    trajectories = written(False)
    critic = critic_of(toy_value_model(), tmp_path, "value.train_every=2", "value.minibatches=3")
    judgement = critic.judge(group_of(trajectories), views_of(trajectories))
    assert "value_loss" not in critic.update(judgement, 1, seed=0)
    assert critic.num_updates == 0
    numbers = critic.update(judgement, 2, seed=0)
    assert critic.num_updates == 3
    assert numbers.keys() >= {"value_loss", "value_explained_variance"}


def test_without_trajectories_nothing_happens(tmp_path: Path) -> None:
    critic = critic_of(toy_value_model(), tmp_path)
    judgement = critic.judge([], [])
    assert (judgement.views, critic.update(judgement, 1, seed=0)) == ([], {})
    assert critic.num_updates == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_critic_goes_on_to_the_bit(dtype: torch.dtype, tmp_path: Path) -> None:
    trajectories = written(False)
    views, groups = views_of(trajectories), group_of(trajectories)

    def learn(critic: Critic, *steps: int) -> None:
        for step in steps:
            critic.update(critic.judge(groups, views), step, seed=step)

    whole, first = (critic_of(toy_value_model(dtype), tmp_path) for _ in range(2))
    learn(whole, 1, 2, 3)
    learn(first, 1)
    model = toy_value_model(dtype)
    model.load_state_dict(first.model.state_dict())
    second = critic_of(model, tmp_path)
    second.restore(first.state(), first.num_updates)
    learn(second, 2, 3)
    assert second.num_updates == 3
    pairs = zip(whole.model.parameters(), second.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_it_starts_on_the_policys_backbone_in_its_number_format(tmp_path: Path) -> None:
    config = rl_config(tmp_path, "value.enabled=true", "model.gradient_checkpointing=true")
    policy = load_model(config.model.path, dtype=torch.bfloat16)
    critic = build_critic(config, config.value, policy)
    assert critic is not None
    assert critic.model.dtype == torch.bfloat16
    assert critic.model.backbone.gradient_checkpointing
    pairs = zip(policy.backbone.parameters(), critic.model.backbone.parameters(), strict=True)
    assert all(torch.equal(a, b) and a is not b for a, b in pairs)
    assert build_critic(rl_config(tmp_path), config.value, policy) is None


def test_a_critic_that_cannot_judge_the_policy_is_refused(tmp_path: Path) -> None:
    def refused(said: str, *words: str) -> None:
        config = rl_config(tmp_path, "value.enabled=true", *words)
        with pytest.raises(ValueError, match=said):
            build_critic(config, config.value, load_model(config.model.path))

    save_model(whole_toy_model(), tmp_path / "other")
    refused(r"value\.path = .*other: its vocab_size is 40", f"value.path={tmp_path / 'other'}")
    refused(r"has no value head .* value\.head = zero", "value.head=stored")
    refused(r"objective\.method = \"trace\".*'coupled'", "objective.method=coupled")


def full_checkpoint(place: Path) -> Path:
    """Write a random model with full attention that is unsure of everything."""
    changes = FAMILY_CHANGES["llada"] | {"mask_id": 1}
    model = load_model(toy_checkpoint(place, family="llada", **changes))
    with torch.no_grad():
        model.head.projection.weight.mul_(0.02)
    save_model(model, place)
    return place


def value_run(place: Path, name: str, *words: str) -> Path:
    """Train by RL with a critic for three steps, or go on with it."""
    settings = ["value.enabled=true", "value.lr=1e-3", "value.minibatches=2", "minibatches=2"]
    settings += ["steps=3", "save_every=1", "run.keep_last=1", REWARD, *words]
    return train_rl(rl_config(place, *settings, run=name), resume=True).parent


def left_behind(run: Path) -> dict[str, Any]:
    """Return what of a finished run must not depend on how often it was interrupted."""
    (last,) = (run / "checkpoints").iterdir()
    files = ("critic.safetensors", "optimizer.safetensors", "critic/model.safetensors")
    return {
        "metrics": metrics(run),
        "state": (last / "state.json").read_text(),
        "model": (run / "model" / "model.safetensors").read_bytes(),
        "critic": (run / "critic" / "model.safetensors").read_bytes(),
    } | {name: (last / name).read_bytes() for name in files}


@pytest.mark.parametrize(
    ("attention", "dtype"), [("block", "float32"), ("block", "bfloat16"), ("full", "float32")]
)
def test_a_run_with_a_critic_goes_on_to_the_bit(
    attention: str, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [f"model.dtype={dtype}"]
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
    assert all(line["value_gradient_norm"] > 0 for line in lines)
    # The first critic says nothing; a critic that learns changes what the policy is told.
    assert lines[0]["value_explained_variance"] == pytest.approx(0)
    assert lines[0]["advantage_variance"] == lines[0]["advantage_variance_without_critic"]
    assert lines[2]["advantage_variance"] != lines[2]["advantage_variance_without_critic"]
    policy, critic = tmp_path / "whole" / "model", tmp_path / "whole" / "critic"
    before = load_value_model(policy).backbone.embedding.weight
    after = load_value_model(critic, head="stored").backbone.embedding.weight
    assert not torch.equal(before, after)
    assert (critic / "tokenizer.json").is_file()


@pytest.mark.parametrize(
    "words",
    [
        ["objective.shrink=2", "objective.post_num=2"],
        ["objective.train_block=8"],
        ["objective.reduction=constant", "epochs=2"],
        ["value.gamma=0.9", "value.lam=0.5", "value.epochs=2", "value.train_every=2"],
        ["optimizer.token_budget=32", "filter.drop_uniform=false"],
    ],
)
def test_every_setting_trains_with_a_critic(words: list[str], tmp_path: Path) -> None:
    lines = metrics(value_run(tmp_path, "run", "steps=2", *words))
    assert lines[1]["value_gradient_norm"] > 0
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
    lines = metrics(value_run(tmp_path, "run", "value.gamma=0.99"))
    assert all(line["value_gradient_norm"] > 0 < line["gradient_norm"] for line in lines)


def test_the_critic_of_an_earlier_run_goes_on_in_a_new_one(tmp_path: Path) -> None:
    first = value_run(tmp_path, "first")
    second = value_run(
        tmp_path, "second", f"value.path={first / 'critic'}", "value.head=stored", "steps=1"
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


def test_process_rewards_reach_the_policy_token_by_token(tmp_path: Path) -> None:
    trajectories = toy_trajectories(toy_model())
    rewards = [tuple(float(i % 2) for i in range(t.num_response)) for t in trajectories]
    critic = critic_of(toy_value_model(), tmp_path)
    views, _ = critic(group_of(trajectories, rewards), views_of(trajectories), 1, 0)
    assert all(len(looks.advantages[looks.target.any(0)].unique()) > 1 for looks in views)
