"""Runs whose reward has many terms, and a judge that goes down in the middle of one."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.checkpoints.test_reward_model import write_reward_model
from tests.end_to_end.real_command import end, rl_words, start, train
from tests.invariants.test_law_6_resume import left_behind
from tests.rewards.judge_server import KEY, JudgeServer, Reply, judge_server, status
from tests.rewards.test_preference import texts_of
from tests.runs.test_metrics import documented
from tests.trainers.toy_runs import metrics
from unmask.types import Prompt, Trajectory

ENDPOINT = '{model="toy-judge", api_key_env="TOY_KEY", backoff_s=0.001, retries=1}'
TERMS = ",".join(
    [
        '{kind="outcome"}',
        '{kind="speed", right_from=0.125}',
        f'{{kind="judge", weight=0.5, endpoint={ENDPOINT}}}',
        f'{{kind="process", weight=0.25, chunk_tokens=3, endpoint={ENDPOINT}}}',
    ]
)
WORDS = ["steps=4", "save_every=2", "eval.problems=3", "eval.every=2", "advantage.kind=value"]
WORDS += [f"reward=[{TERMS}]"]


def opinion(question: str) -> str:
    """Judge by the question alone, so that a run judged twice is judged alike."""
    value = sum(question.encode())
    is_process = "The last part" in question
    return rf"\boxed{{{(-1, 1)[value % 2]}}}" if is_process else rf"\boxed{{{value % 11}}}"


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> Callable[[JudgeServer], None]:
    monkeypatch.setenv("TOY_KEY", KEY)
    return lambda server: monkeypatch.setenv("OPENAI_BASE_URL", server.url)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """Return a run that nothing interrupts, and the number of questions it asked."""
    place = tmp_path_factory.mktemp("rewards")
    with judge_server(opinion) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOY_KEY", KEY)
        patch.setenv("OPENAI_BASE_URL", server.url)
        train(rl_words(place, *WORDS, run="whole"))
        return place / "whole", len(server.questions)


def test_a_run_with_outcome_speed_judge_and_process_trains_and_logs_each(
    whole: tuple[Path, int],
) -> None:
    run, _ = whole
    lines = metrics(run)
    assert len(lines) == 4
    names = {"outcome", "speed", "judge", "process", "process_label", "process_split_votes"}
    for line in lines:
        assert {f"reward_{name}" for name in names} <= line.keys()
        assert not [name for name in line if not documented().fullmatch(name)]
        parts = {name: line[f"reward_{name}"] for name in names}
        added = parts["outcome"] + 0.1 * parts["speed"] + 0.5 * parts["judge"]
        assert line["reward"] == pytest.approx(added + 0.25 * parts["process"])
        assert line["gradient_norm"] > 0
        assert line["value_gradient_norm"] > 0
    text = (run / "trajectories.jsonl").read_text()
    records = [json.loads(line) for line in text.splitlines()]
    assert all(len(record["reward"]) == record["num_response"] for record in records)
    files = [path for path in run.rglob("*") if path.is_file()]
    assert not [path for path in files if KEY.encode() in path.read_bytes()]


def test_a_judge_that_goes_down_stops_the_run_and_resume_asks_nothing_twice(
    judge: Callable[[JudgeServer], None], whole: tuple[Path, int]
) -> None:
    uninterrupted, everything = whole
    num_before_step_4 = everything * 7 // 8

    def until_it_breaks(question: str) -> Reply:
        is_up = len(server.questions) <= num_before_step_4
        return opinion(question) if is_up else status(503, "no GPU left")

    words = rl_words(uninterrupted.parent, *WORDS, run="parts")
    parts = uninterrupted.with_name("parts")
    with judge_server(until_it_breaks) as server:  # type: ignore[arg-type]
        judge(server)
        code, said = end(start(words))
        answered = num_before_step_4
        (line,) = [line for line in said.splitlines() if "the judge" in line]
        assert code == 2, said
        assert line == (
            f"error: reward: the judge 'toy-judge' at {server.url}/chat/completions: "
            "it answered 503: no GPU left (2 tries)"
        )
        assert "error: the state of step 3 is kept: go on by --resume" in said
        assert KEY not in said
    assert len(metrics(parts)) == 3

    with judge_server(opinion) as server:  # at another address
        judge(server)
        train([*words, "--resume"])
        assert len(server.questions) == everything - answered
    assert left_behind(parts) == left_behind(uninterrupted)


def test_a_run_learns_from_a_reward_model_alone(tmp_path: Path) -> None:
    write_reward_model(tmp_path / "rm", "Qwen2", max_position_embeddings=128)
    term = f'{{kind="reward_model", path="{tmp_path / "rm"}"}}'
    train(rl_words(tmp_path, "steps=2", f"reward=[{term}]"))
    for line in metrics(tmp_path / "run"):
        assert line["reward"] == line["reward_reward_model"] != line["reward_outcome"]
        assert line["gradient_norm"] > 0


def test_a_run_learns_from_preferences(
    judge: Callable[[JudgeServer], None], tmp_path: Path
) -> None:
    def first_in_the_alphabet(question: str) -> str:
        first, second = texts_of(question)
        return r"\boxed{A}" if first < second else r"\boxed{B}"

    with judge_server(first_in_the_alphabet) as server:
        judge(server)
        term = f'{{kind="preference", rivals=1, endpoint={ENDPOINT}}}'
        train(rl_words(tmp_path, "steps=2", f"reward=[{term}]"))
    for line in metrics(tmp_path / "run"):
        assert line["reward"] == pytest.approx(0.5)  # every win is a loss
        assert line["gradient_norm"] > 0


def pay_steps(prompt: Prompt, response: str, trajectory: Trajectory) -> dict[int, float]:
    """Pay every denoising step but the first, the later the more."""
    return {step: step - 1.0 for step in trajectory.step_map[: trajectory.num_response]}


def test_a_run_learns_from_a_function_that_pays_denoising_steps(tmp_path: Path) -> None:
    term = f'{{kind="function", name="own", function="{__name__}:pay_steps"}}'
    train(rl_words(tmp_path, "steps=2", "advantage.kind=value", f"reward=[{term}]"))
    for line in metrics(tmp_path / "run"):
        assert line["reward"] == line["reward_own"] > 0
        assert line["gradient_norm"] > 0 and line["value_gradient_norm"] > 0
