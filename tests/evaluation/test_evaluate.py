"""A model measured from its config: every response kept, resumed to the bit, judged again."""

import json
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch

from tests.end_to_end.real_command import start
from tests.toy import toy_checkpoint
from unmask.checkpoints.checkpoint import load_model, save_model
from unmask.configs.eval import EvalConfig
from unmask.configs.load import load_config
from unmask.engine.llm import LLM
from unmask.evaluation.evaluate import Evaluation, conclude, evaluate, evaluate_model
from unmask.evaluation.grading import rescore
from unmask.evaluation.rank_files import FAILURES
from unmask.evaluation.summary import Summary
from unmask.sampling_params import SamplingParams
from unmask.tasks.task import Task, prompt_from_text
from unmask.types import Prompt, Score

SUMMARY, RESPONSES = "summary.json", "trajectories.jsonl"
TWO = ("variations.static.strategy=static", "variations.greedy.temperature=0")


def half_right(prompt: Prompt, response: str) -> float:
    """Reward half of the prompts, and a little for long responses."""
    return 1.0 if prompt.reference["answer"] == "yes" else len(response) / 100


def all_right(prompt: Prompt, response: str) -> float:
    """Reward everything."""
    return 1.0


def sigint(prompt: Prompt, response: str) -> float:
    """End the run as Ctrl-C does."""
    signal.raise_signal(signal.SIGINT)
    return 0.0


def sigterm(prompt: Prompt, response: str) -> float:
    """End the run as `kill` does."""
    signal.raise_signal(signal.SIGTERM)
    return 0.0


def words(place: Path, *more: str) -> list[str]:
    """Write a checkpoint and ten questions once, and return how a model is measured on them."""
    if not (place / "checkpoint").exists():
        toy_checkpoint(place / "checkpoint")
        items = [
            {"question": f"{n}+{n}=", "ground_truth_answer": "no" if n % 2 else "yes"}
            for n in range(10)
        ]
        (place / "test.json").write_text(json.dumps(items))
    return [
        f"model.path={place / 'checkpoint'}",
        "task.kind=json",
        "task.template={question}",
        "task.reward=tests.evaluation.test_evaluate:half_right",
        f"task.test={place / 'test.json'}",
        "sampling.max_tokens=6",
        f"run.dir={place / 'run'}",
        *more,
    ]


def measure(place: Path, *more: str, resume: bool = False) -> Evaluation:
    return evaluate_model(load_config(EvalConfig, [], words(place, *more))[0], resume)


def only(evaluation: Evaluation) -> Summary:
    (summary,) = evaluation.summaries.values()
    return summary


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_model_is_measured_and_everything_is_written(tmp_path: Path) -> None:
    run = tmp_path / "run"
    evaluation = measure(tmp_path, "samples=2")
    summary = only(evaluation)
    assert (summary.accuracy, summary.n, summary.samples) == (0.5, 10, 2)
    assert summary.outcomes["correct"] == summary.outcomes["wrong"] == 10
    stored = json.loads((run / SUMMARY).read_text())["samplings"]
    assert stored == json.loads(json.dumps({"dynamic": summary.to_dict()}))
    written = lines(run / RESPONSES)
    assert len({(r["variation"], r["problem"], r["sample"]) for r in written}) == 20
    assert all(r["step_map"] and r["text"] is not None and r["wall_s"] for r in written)
    assert sum(v["outcome"] == "correct" for v in lines(run / "gradings/1/verdicts.jsonl")) == 10
    protocol = json.loads((run / "protocol.json").read_text())
    assert (protocol["samples"], protocol["seed"], protocol["chat_template"]) == (2, 0, None)
    assert protocol["samplings"]["dynamic"]["block_size"] == 4
    assert {"config.json", "environment.json", "speed.json"} <= {p.name for p in run.iterdir()}


def test_a_variation_has_the_settings_of_the_base_that_it_does_not_change(tmp_path: Path) -> None:
    evaluation = measure(tmp_path, *TWO, "samples=2")
    assert list(evaluation.summaries) == ["static", "greedy"]
    greedy = [r["text"] for r in lines(tmp_path / "run" / RESPONSES) if r["variation"] == "greedy"]
    assert len(greedy) == 20 and len(set(greedy)) <= 10
    assert evaluation.summaries["static"].tokens_per_denoising_step <= 1.0
    assert evaluation.speeds["static"].tokens_per_forward <= 1.0
    assert evaluation.to_dict()["static"]["speed"]["wall_s"] > 0
    assert [line.split()[0] for line in evaluation.table().splitlines()[1:]] == ["static", "greedy"]


def test_the_same_seed_gives_the_same_summary(tmp_path: Path) -> None:
    first, again, other = (
        only(measure(tmp_path, f"run.dir={tmp_path / name}", f"run.seed={seed}"))
        for name, seed in [("first", 1), ("again", 1), ("other", 2)]
    )
    assert first == again != other


def test_evaluations_in_memory_and_in_a_run_directory_are_equal(tmp_path: Path) -> None:
    summary = only(measure(tmp_path, "samples=2", "sampling.max_tokens=5"))
    llm = LLM(tmp_path / "checkpoint")
    problems = [
        prompt_from_text("math", f"{n}+{n}=", {"answer": ("yes", "no")[n % 2]}) for n in range(10)
    ]
    task = Task(
        "math",
        prompts=lambda _: problems,
        demonstration=lambda _: None,
        grade=lambda items: [Score(half_right(*item)) for item in items],
    )
    sampling = SamplingParams(max_tokens=5, n=2)
    assert evaluate(llm, task, llm.tokenize(problems), sampling)[0] == summary


def test_a_run_cut_anywhere_ends_with_the_same_summary(tmp_path: Path) -> None:
    measure(tmp_path, *TWO)
    whole = (tmp_path / "run" / SUMMARY).read_bytes()
    complete = (tmp_path / "run" / RESPONSES).read_bytes()
    for kept in (0, 1, len(complete) // 3, len(complete) - 1):
        cut = tmp_path / f"cut{kept}"
        shutil.copytree(tmp_path / "run", cut)
        shutil.rmtree(cut / "gradings")
        (cut / SUMMARY).unlink()
        (cut / RESPONSES).write_bytes(complete[:kept])
        measure(tmp_path, *TWO, f"run.dir={cut}", resume=True)
        assert (cut / SUMMARY).read_bytes() == whole
        assert len(lines(cut / RESPONSES)) == 20


def test_a_killed_process_is_gone_on_with(tmp_path: Path) -> None:
    more = ["samples=15", *TWO]
    measure(tmp_path, *more)
    killed = tmp_path / "killed"
    command = ["eval", *words(tmp_path, *more, f"run.dir={killed}")]
    process = start(command)
    while process.poll() is None:
        if (killed / RESPONSES).is_file() and (killed / RESPONSES).stat().st_size > 10_000:
            process.kill()
            break
        time.sleep(0.003)
    process.communicate()
    assert process.returncode == -9 and not (killed / SUMMARY).exists()
    code = (process := start([*command, "--resume"])).communicate(timeout=120)
    assert process.returncode == 0, code
    assert (killed / SUMMARY).read_bytes() == (tmp_path / "run" / SUMMARY).read_bytes()
    assert len(lines(killed / RESPONSES)) == 300


def test_resuming_another_model_or_other_problems_is_refused(tmp_path: Path) -> None:
    measure(tmp_path)
    items = json.loads((tmp_path / "test.json").read_text())
    items[0]["question"] = "9-9="
    (tmp_path / "test.json").write_text(json.dumps(items))
    with pytest.raises(ValueError, match="problems_sha256 differs from its value"):
        measure(tmp_path, resume=True)
    with pytest.raises(ValueError, match=r"not empty.*--resume"):
        measure(tmp_path)
    with pytest.raises(ValueError, match=r"^samples = 3"):
        measure(tmp_path, "samples=3", resume=True)


def test_problems_takes_the_first_ones(tmp_path: Path) -> None:
    assert only(measure(tmp_path, "problems=4")).n == 4


def test_what_is_refused_leaves_no_directory_behind(tmp_path: Path) -> None:
    refused = {
        "split=train": "task.train",
        "sampling.max_tokens=500": "max_tokens",
        "sampling.guidance=1": "guidance",
    }
    for word, message in refused.items():
        with pytest.raises(ValueError, match=message):
            measure(tmp_path, word)
        assert not (tmp_path / "run").exists()


def test_problems_without_room_count_as_wrong_when_asked_to(tmp_path: Path) -> None:
    long = {"question": "1" * 125, "ground_truth_answer": "yes"}
    items = [{"question": "1+1=", "ground_truth_answer": "yes"}, long]
    words(tmp_path)
    (tmp_path / "test.json").write_text(json.dumps(items))
    summary = only(measure(tmp_path, "unfit=wrong", "samples=2"))
    assert (summary.accuracy, summary.outcomes["failed"]) == (0.5, 2)
    assert 0 < summary.response_tokens <= 6
    assert "lower max_tokens" in str(lines(tmp_path / "run" / FAILURES)[0]["error"])


def test_a_model_that_is_broken_for_some_problems_fails_there_and_is_counted(
    tmp_path: Path,
) -> None:
    words(tmp_path)
    model = load_model(tmp_path / "checkpoint")
    with torch.no_grad():
        model.backbone.embedding.weight[9] = torch.nan  # the token "7"
    save_model(model, tmp_path / "checkpoint")
    summary = only(measure(tmp_path, "sampling.temperature=0"))
    failed = lines(tmp_path / "run" / FAILURES)
    assert summary.outcomes["failed"] == len(failed) > 0
    assert all("not numbers" in str(record["error"]) for record in failed)
    assert summary.n == 10
    with torch.no_grad():
        model.backbone.embedding.weight.fill_(torch.nan)
    save_model(model, tmp_path / "checkpoint")
    with pytest.raises(ValueError, match="dynamic: no response could be written: request 0"):
        measure(tmp_path, f"run.dir={tmp_path / 'none'}")


def test_a_better_grader_judges_the_same_responses_and_the_old_verdicts_stay(
    tmp_path: Path,
) -> None:
    run = tmp_path / "run"
    measure(tmp_path)
    before = (run / "gradings/1/verdicts.jsonl").read_bytes()
    responses = (run / RESPONSES).read_bytes()
    shutil.rmtree(tmp_path / "checkpoint")  # nothing is generated
    place = rescore(run, ["task.reward=tests.evaluation.test_evaluate:all_right"])
    assert place == run / "gradings/2"
    assert only(conclude(run)).accuracy == 1.0
    assert json.loads((run / SUMMARY).read_text())["samplings"]["dynamic"]["accuracy"] == 1.0
    assert (run / "gradings/1/verdicts.jsonl").read_bytes() == before
    first = json.loads((run / "gradings/1/summary.json").read_text())
    assert first["samplings"]["dynamic"]["accuracy"] == 0.5
    assert (run / RESPONSES).read_bytes() == responses
