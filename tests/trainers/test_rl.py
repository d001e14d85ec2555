"""`unmask rl` from config to checkpoint, on a random model and six questions."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import unmask.trainers.rl
from tests.end_to_end.test_every_convention_trains import FAMILIES, checkpoint
from tests.invariants.test_law_6_resume import interrupt, left_behind, short_rl
from tests.runs.test_metrics import documented
from tests.trainers.toy_runs import metrics, rl_config
from unmask import load_model
from unmask.engine.llm import LLM
from unmask.rewards.weighted import ScoreFunction
from unmask.rollouts.collect import grade_trajectories
from unmask.tasks.task import Task
from unmask.trainers.rl import train_rl
from unmask.types import Group, Prompt, Score, Trajectory

MOVE = ("loss.likelihood=move",)
STALE = ("rollout.workers=1", "rollout.staleness=1", "loss.max_importance=2")


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
    words = [f"loss.reduction={reduction}", "minibatches=2", "loss.kl=0.1"]
    model = train_rl(rl_config(tmp_path, *words))
    first = metrics(tmp_path / "run")[0]
    assert first["groups_kept"] > 0
    assert first["logprob_gap_max"] < 1e-4
    assert not torch.equal(weights(model), weights(tmp_path / "checkpoint"))


@pytest.mark.parametrize(
    "words",
    [
        ["minibatches=1000"],
        ["views.shrink=2", "minibatches=2"],
        ["views.post_num=2"],
        ["advantage.kind=group"],
        ["filter.drop_uniform=false"],
        ["sampling.strategy=static", "sampling.denoising_steps=2", "sampling.temperature=0.7"],
        ["sampling.block_size=2"],
        ["optimizer.token_budget=32"],
        ["epochs=3", "minibatches=2"],
        ["epochs=2", "optimizer.reset_every_step=true"],
        ["views.kind=random", "views.count=2"],
        ["views.kind=coupled", "minibatches=2", "views.level=token"],
        ["views.train_block=8", "minibatches=2"],
        ["views.train_block=8", "views.kind=coupled", "epochs=2"],
        [
            "loss.dual_clip=1.5",
            "loss.max_importance=2",
            "model.dtype=bfloat16",
            "epochs=2",
        ],
        ["loss.kl=0.1", "loss.kl_to=reference", "loss.kl_estimator=k1"],
        ["loss.kl=0.1", "epochs=2"],
        ["advantage.kind=leave_one_out"],
        ["advantage.kind=global", "filter.drop_uniform=false"],
        ["shaping.overlong_penalty=0.5", "shaping.overlong_tokens=3"],
        ["filter.refill=2", "filter.high=0.05"],
        ["loss.likelihood=move"],
        ["loss.likelihood=move", "views.post_stop=ignore", "sampling.strategy=static"],
        ["loss.likelihood=move", "loss.per_move=true", "epochs=2", "loss.kl=0.1"],
        ["loss.likelihood=move", "loss.kl=0.1", "loss.kl_to=reference", "minibatches=2"],
    ],
)
def test_every_setting_trains(words: list[str], tmp_path: Path) -> None:
    model = train_rl(rl_config(tmp_path, "steps=1", *words))
    (line,) = metrics(tmp_path / "run")
    assert line["gradient_norm"] > 0
    if "loss.likelihood=move" in words:  # of the tokens written: draws that were lost have no gap
        assert line["logprob_gap_max"] < 1e-4 and "logprob_gap" not in line
    assert not torch.equal(weights(model), weights(tmp_path / "checkpoint"))


def test_engine_and_learner_of_a_batch_invariant_model_agree_to_the_bit(tmp_path: Path) -> None:
    words = ("model.batch_invariant=true", "model.dtype=bfloat16", "minibatches=2", "steps=2")
    for name, has_gap in (("plain", True), ("exact", False)):
        train_rl(rl_config(tmp_path, *(words if name == "exact" else words[1:]), run=name))
        lines = [line for line in metrics(tmp_path / name) if "logprob_gap_max" in line]
        assert len(lines) == 2
        assert all((line["logprob_gap_max"] > 0) == has_gap for line in lines)
        assert all((line["logprob_gap_bound"] > 0) == has_gap for line in lines)
        assert not any(line["alarm_logprob_gap"] for line in lines)


@pytest.mark.parametrize("method", ["random", "coupled"])
@pytest.mark.parametrize("family", FAMILIES)
def test_random_masks_train_every_convention(method: str, family: str, tmp_path: Path) -> None:
    path = checkpoint(tmp_path / family, family)
    words = [f"model.path={path}", "model.mask_id=1", "sampling.block_size=4", "epochs=2"]
    words += [
        "optimizer.lr=1e-6"
    ]  # the policy hardly moves, so old log-probabilities must be right
    words += ["filter.drop_uniform=false", "views.count=2", f"views.kind={method}"]
    train_rl(rl_config(tmp_path, *words))
    lines = metrics(tmp_path / "run")
    assert all(line["gradient_norm"] >= 0 and line["updates"] == 2 for line in lines)
    assert any(line["gradient_norm"] > 0 for line in lines)
    assert all(line["ratio_max"] < 1.01 and "logprob_gap" not in line for line in lines)


def test_the_names_of_every_option_are_documented(tmp_path: Path) -> None:
    words = ["loss.dual_clip=2", "loss.max_importance=2", "epochs=2", "loss.kl=0.1"]
    words += ["shaping.overlong_penalty=0.5", "shaping.overlong_tokens=3", "filter.refill=1"]
    words += ["shaping.forfeit_tokens=0", "advantage.kind=shared_value"]
    words.append("filter.drop_uniform=false")
    train_rl(rl_config(tmp_path, "steps=1", "loss.kl_to=reference", *words))
    (line,) = metrics(tmp_path / "run")
    wanted = {"dual_clipped", "importance", "importance_max", "overlong", "overlong_penalty"}
    assert wanted | {"forfeited", "value_loss", "value_explained_variance"} <= line.keys()
    known = documented()
    assert not [name for name in line if not known.fullmatch(name)]


def test_when_every_group_is_filtered_nothing_is_learnt_and_the_numbers_say_so(
    tmp_path: Path,
) -> None:
    reward = "task.reward=tests.trainers.toy_runs:always_one"
    model = train_rl(rl_config(tmp_path, reward))
    for line in metrics(tmp_path / "run"):
        assert (line["groups_kept"], line["reward"], line["accuracy"]) == (0.0, 1.0, 1.0)
        assert "loss" not in line
        assert (line["updates"], line["groups_trained"], line["alarm_empty"]) == (0, 0, 1)
    assert torch.equal(weights(model), weights(tmp_path / "checkpoint"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sampling.temperature=0"], r"sampling\.temperature = 0"),
        (["sampling.top_k=3"], r"sampling\.top_k, top_p and min_p must be off"),
        (["sampling.top_p=0.9"], r"sampling\.top_k, top_p and min_p must be off"),
        (["sampling.min_p=0.1"], r"sampling\.top_k, top_p and min_p must be off"),
        (["sampling.regex=a"], r"sampling\.regex and json_schema must be off in RL"),
        (["sampling.guidance=1.5"], r"sampling\.guidance = 1\.5 must be 0 in RL"),
        (["engine.cache=dual"], r"engine\.cache = 'dual' must be 'exact'"),
        (
            ["sampling.edit_threshold=0.5", "views.shrink=2"],
            r"edit_threshold and remask_threshold let .* times, and views\.shrink merges",
        ),
        (
            ["sampling.remask_threshold=0.5", "rollout.drafts=2"],
            r"times, and rollout\.drafts = 2 keeps the tokens that stood at a step",
        ),
        (["loss.kl=0.1", "minibatches=1"], r"loss\.kl = 0\.1 has no effect"),
        (["loss.kl_to=absent"], "absent"),
        (["views.train_block=6"], r"views\.train_block = 6 must be a multiple"),
        (
            ["shaping.forfeit_tokens=9", "sampling.max_tokens=10"],
            r"shaping\.forfeit_tokens = 9 leaves no response",
        ),
        (
            ["shaping.overlong_penalty=1"],
            r"shaping\.overlong_tokens = 64 is more than sampling",
        ),
        (
            ["views.kind=random", "views.shrink=2"],
            r"unknown key views\.shrink .* only when views\.kind",
        ),
        (["views.count=2"], r"unknown key views\.count"),
        (["objective.kl=0.1"], r"unknown key objective .*here that is \[views\] and \[loss\]"),
        (
            ["advantage.kind=value", "views.kind=coupled"],
            r"the value model needs the sampler's own",
        ),
        (["views.kind=random", "views.low=0.5", "views.high=0.4"], r"low = 0\.5 is above"),
        (
            ["views.train_block=48", "optimizer.token_budget=40"],
            r"optimizer\.token_budget = 40",
        ),
        (["rollout.staleness=1"], r"staleness = 1 needs engines that write during an update"),
        (["rollout.partial=true"], r"partial = true has no effect with staleness = 0"),
        (
            ["rollout.workers=1", "rollout.staleness=1"],
            r"loss\.max_importance .* not given: set loss\.max_importance = 2",
        ),
        ([*STALE, "views.shrink=2"], r'only views\.kind = "trace" with shrink = 1'),
        ([*STALE, "views.kind=random"], r'only views\.kind = "trace" with shrink = 1'),
        ([*STALE, "views.train_block=8"], r"and no train_block trains on"),
        ([*STALE, "filter.refill=1"], r"set filter\.refill = 0 or rollout\.staleness = 0"),
        (["loss.per_move=true"], r"set loss\.likelihood = \"move\", or loss\.per_move = false"),
        ([*MOVE, "sampling.strategy=gumbel"], r"gumbel\" ranks drawn tokens by .* plus noise"),
        ([*MOVE, "sampling.writes=image"], r"is of text: set sampling\.writes = \"text\""),
        ([*MOVE, "views.shrink=2"], r"set views\.kind = \"trace\" with shrink = 1"),
        ([*MOVE, "views.train_block=8"], r"with shrink = 1 and no train_block"),
        ([*MOVE, "views.kind=steps"], r"set views\.kind = \"trace\" with shrink = 1"),
        ([*MOVE, "views.post_num=1"], r"views\.post_num = 1 counts .* part of a move"),
        (
            [*MOVE, "advantage.kind=shared_value", "views.post_stop=ignore"],
            r"averages values over the targets of a move, and .* set views\.post_stop",
        ),
        ([*MOVE, "loss.nll=0.1"], r"loss\.nll = 0\.1 is the likelihood of tokens"),
        ([*MOVE, "rollout.drafts=2"], r"rollout\.drafts = 2: a draft is written in one step"),
        ([*MOVE, "loss.max_importance=2"], r"loss\.max_importance: the engine records no"),
        (
            [*MOVE, "loss.per_move=true", "views.post_stop=ignore"],
            r"loss\.per_move = true is of whole ones: set views\.post_stop",
        ),
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


def sevens_in_some(prompt: Prompt, response: str) -> float:
    """Reward sevens, but only in the answers to half of the prompts."""
    return response.count("7") / 8 if prompt.uid % 2 else 0.0


REFILL = ["task.reward=tests.trainers.test_rl:sevens_in_some", "filter.refill=9", "steps=4"]


def test_a_step_is_refilled_until_enough_groups_are_kept(tmp_path: Path) -> None:
    train_rl(rl_config(tmp_path, *REFILL, "run.trajectories=99", run="filled"))
    train_rl(rl_config(tmp_path, *REFILL, "filter.refill=0", run="short"))
    filled, short = metrics(tmp_path / "filled"), metrics(tmp_path / "short")
    assert [line["groups_trained"] for line in filled] == [3] * 4
    assert all(line["rollout_rounds"] <= 10 for line in filled)
    assert any(line["rollout_rounds"] > 1 for line in filled)
    assert any(line["groups_trained"] < 3 for line in short)
    for line in filled + short:
        assert line["groups_kept"] == line["groups_trained"] / line["groups_drawn"]
    # A prompt that comes again in the step's next round is answered anew.
    lines = (tmp_path / "filled" / "trajectories.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    seeds = [(record["step"], record["sampling"]["seed"]) for record in records]
    assert len(set(seeds)) == len(seeds)


def test_a_refilled_run_that_is_interrupted_is_the_run_that_is_not(tmp_path: Path) -> None:
    words = ["views.kind=coupled", "filter.refill=3", "filter.high=0.12", "epochs=2"]
    words += ["loss.kl_to=reference", "optimizer.reset_every_step=true"]
    for how in ("raise:40", "SIGTERM:50"):
        interrupt(short_rl, tmp_path, "parts", how, *words)
    whole = left_behind(short_rl(tmp_path, "whole", *words))
    assert left_behind(short_rl(tmp_path, "parts", *words)) == whole
    assert max(line["rollout_rounds"] for line in whole["metrics"]) > 1


def test_many_steps_without_a_group_stop_the_run_with_its_state_kept(tmp_path: Path) -> None:
    words = ["task.reward=tests.trainers.toy_runs:always_one", "alarm.empty_steps=2", "steps=9"]
    for kept in (2, 4):
        with pytest.raises(ValueError, match=r"alarm\.empty_steps = 2: that many steps") as it:
            train_rl(rl_config(tmp_path, *words), resume=True)
        notes = it.value.__notes__
        assert notes == [f"the state of step {kept} is kept: go on by --resume"]
        assert len(metrics(tmp_path / "run")) == kept
    # The last step is the last step: such a run ends as it should.
    assert train_rl(rl_config(tmp_path, *words, "steps=6"), resume=True).exists()


def test_a_run_begins_at_its_reference(tmp_path: Path) -> None:
    words = [
        "loss.kl_to=reference",
        "loss.kl=0.5",
        "filter.drop_uniform=false",
        "steps=3",
    ]
    train_rl(rl_config(tmp_path, *words))
    kls = [line["kl"] for line in metrics(tmp_path / "run")]
    assert kls[0] == pytest.approx(0, abs=1e-9)
    assert kls[2] > 1e-5


def test_the_state_is_kept_when_a_reward_has_the_wrong_shape(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong_in_step_2(
        llm: LLM, task: Task, written: Sequence[Trajectory], count: int, reward: ScoreFunction
    ) -> list[Group]:
        rewards = (1.0,) * 99 if written[0].policy_version else 0.5
        return grade_trajectories(
            llm,
            replace(task, grade=lambda pairs: [Score(rewards)] * len(pairs)),
            written,
            count,
            reward,
        )

    monkeypatch.setattr(unmask.trainers.rl, "grade_trajectories", wrong_in_step_2)
    with pytest.raises(ValueError, match=r"has 99 numbers for \d+ response tokens") as it:
        train_rl(rl_config(tmp_path, "filter.drop_uniform=false"))
    assert it.value.__notes__ == ["the state of step 1 is kept: go on by --resume"]


@pytest.mark.parametrize("word", ["weight=2", "lora.rank=4", "path=there", "lr=1e-3", "gamma=0.9"])
@pytest.mark.parametrize("kind", ["group", "value", "shared_value"])
def test_keys_of_another_advantage_are_refused(kind: str, word: str, tmp_path: Path) -> None:
    name = word.partition("=")[0].partition(".")[0]
    own = {"value": ("lora", "path", "lr", "gamma"), "shared_value": ("weight", "lr", "gamma")}
    words = (f"advantage.kind={kind}", f"advantage.{word}")
    if name in own.get(kind, ()):
        assert rl_config(tmp_path, *words).advantage.kind == kind
        return
    with pytest.raises(ValueError, match=rf"unknown key advantage\.{name} .*exists only when adv"):
        rl_config(tmp_path, *words)
