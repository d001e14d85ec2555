"""`unmask rl` from config to checkpoint, on a random model and six questions."""

import json
from pathlib import Path

import pytest
import torch

from tests.toy import toy_model
from tests.trainers.toy_runs import metrics, rl_config, toy_trajectories
from unmask import load_model
from unmask.trainers.rl import train_rl, trajectory_views
from unmask.types import Group


def weights(path: Path) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in load_model(path).parameters()])


def test_a_run_leaves_every_file_and_a_model_that_loads(tmp_path: Path) -> None:
    words = ["steps=3", "eval.problems=4", "eval.every=2", "run.trajectories=5"]
    model = train_rl(rl_config(tmp_path, *words))
    run = tmp_path / "run"
    assert model == run / "model"
    assert json.loads((run / "config.json").read_text())["rollout"]["responses"] == 4
    assert json.loads((run / "environment.json").read_text())["threads"] == 1
    assert load_model(model).spec == load_model(tmp_path / "checkpoint").spec
    lines = metrics(run)
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert ["eval_accuracy" in line for line in lines] == [False, True, True]
    records = [json.loads(line) for line in (run / "trajectories.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [1] * 5 + [2] * 5 + [3] * 5
    assert [record["policy_version"] for record in records[::5]] == [0, 1, 2]


@pytest.mark.parametrize("reduction", ["tokens", "sequence", "view", "constant"])
def test_every_reduction_trains(reduction: str, tmp_path: Path) -> None:
    words = [f"objective.reduction={reduction}", "minibatches=2", "objective.kl=0.1"]
    model = train_rl(rl_config(tmp_path, *words))
    first = metrics(tmp_path / "run")[0]
    assert first["groups_kept"] > 0
    assert first["logprob_gap_max"] < 1e-4
    assert not torch.equal(weights(model), weights(tmp_path / "checkpoint"))


@pytest.mark.parametrize(
    "words",
    [
        ["minibatches=1000"],
        ["objective.shrink=2", "minibatches=2"],
        ["objective.post_num=2"],
        ["advantage.baseline=group"],
        ["filter.drop_uniform=false"],
        ["sampling.strategy=static", "sampling.denoising_steps=2", "sampling.temperature=0.7"],
        ["sampling.block_size=2"],
        ["optimizer.token_budget=32"],
    ],
)
def test_every_setting_trains(words: list[str], tmp_path: Path) -> None:
    model = train_rl(rl_config(tmp_path, "steps=1", *words))
    (line,) = metrics(tmp_path / "run")
    assert line["gradient_norm"] > 0
    assert not torch.equal(weights(model), weights(tmp_path / "checkpoint"))


def test_when_every_group_is_filtered_nothing_is_learnt_and_the_numbers_say_so(
    tmp_path: Path,
) -> None:
    reward = "task.reward=tests.trainers.toy_runs:always_one"
    model = train_rl(rl_config(tmp_path, reward))
    for line in metrics(tmp_path / "run"):
        assert (line["groups_kept"], line["reward"], line["accuracy"]) == (0.0, 1.0, 1.0)
        assert "loss" not in line
    assert torch.equal(weights(model), weights(tmp_path / "checkpoint"))


def test_views_carry_the_advantage_over_their_group_and_the_slots_asked_for(
    tmp_path: Path,
) -> None:
    written = toy_trajectories(toy_model(), strategy="random", stop_token_ids=tuple(range(2, 12)))
    groups = [
        Group(written[0].prompt, written[:3], [1.0, 0.0, 0.0]),
        Group(written[3].prompt, written[3:], [0.0, (0.5, 0.5), 1.0]),
    ]
    views = trajectory_views(groups, rl_config(tmp_path, "advantage.baseline=group"))
    found = [float(v.advantages.unique()) for v in views]
    assert found == pytest.approx([2 / 3, -1 / 3, -1 / 3, -2 / 3, 1 / 3, 1 / 3])
    assert [int(v.target.sum()) for v in views] == [t.num_response for t in written]

    views = trajectory_views(groups, rl_config(tmp_path, "objective.post_num=2"))
    after = [min(2, sum(step > 0 for step in t.step_map[t.num_response :])) for t in written]
    assert any(after)
    assert [int(v.target.sum()) for v in views] == [
        t.num_response + more for t, more in zip(written, after, strict=True)
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sampling.temperature=0"], r"sampling\.temperature = 0"),
        (["sampling.top_k=3"], r"sampling\.top_k, top_p and min_p must be off"),
        (["sampling.top_p=0.9"], r"sampling\.top_k, top_p and min_p must be off"),
        (["sampling.min_p=0.1"], r"sampling\.top_k, top_p and min_p must be off"),
        (["sampling.guidance=1.5"], r"sampling\.guidance = 1\.5 must be 0"),
        (["sampling.edit_threshold=0.5"], r"sampling\.edit_threshold and remask_threshold must be"),
        (["sampling.remask_threshold=0.5"], r"sampling\.edit_threshold and remask_threshold must"),
        (
            ["sampling.preset=llada2_1", "sampling.temperature=1"],
            r"sampling\.edit_threshold and remask_threshold must be off in RL",
        ),
        (["objective.kl=0.1", "minibatches=1"], r"objective\.kl = 0\.1 has no effect"),
        (["task.train=none"], r"task\.train is not given"),
        (["sampling.max_tokens=200"], "lower max_tokens"),
        (["optimizer.token_budget=16", "sampling.max_tokens=40"], r"optimizer\.token_budget = 16"),
    ],
)
def test_what_cannot_be_trained_is_refused(words: list[str], said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said):
        train_rl(rl_config(tmp_path, *words))


def test_a_refused_config_leaves_nothing_in_the_way_of_the_next_try(tmp_path: Path) -> None:
    for word in ("model.path=absent", "task.train=absent.json", "sampling.max_tokens=200"):
        with pytest.raises(ValueError, match=r"absent|max_tokens"):
            train_rl(rl_config(tmp_path, word))
    assert train_rl(rl_config(tmp_path)).exists()


def test_a_run_does_not_write_over_another(tmp_path: Path) -> None:
    train_rl(rl_config(tmp_path, "steps=1"))
    with pytest.raises(ValueError, match="is not empty"):
        train_rl(rl_config(tmp_path, "steps=1"))
