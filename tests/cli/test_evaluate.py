"""The commands that measure: JSON on stdout, a table on stderr, one line per mistake."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.cli.test_main import refused, run, unmask
from tests.evaluation.test_evaluate import words


def test_eval_rescore_and_compare_work_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Measure two samplings twice, judge one run again, compare."""
    more = ("variations.static.strategy=static", "variations.low.threshold=0.2")
    a, b = tmp_path / "run", tmp_path / "b"
    assert run(monkeypatch, "eval", *words(tmp_path, *more)) == 0
    out, error = capsys.readouterr()
    found = json.loads(out)
    assert list(found) == ["static", "low"]
    assert found["static"]["accuracy"] == 0.5 and found["low"]["speed"]["wall_s"] > 0
    assert "not graded" in error and error.splitlines()[-3:] == [
        f"model:  {tmp_path / 'checkpoint'}",
        f"report: {a / 'report.html'}",
        f"next:   unmask compare {a} ANOTHER_RUN",
    ]
    assert "Accuracy against speed" in (a / "report.html").read_text()

    assert run(monkeypatch, "eval", *words(tmp_path, *more), "--resume") == 0
    again = json.loads(capsys.readouterr().out)
    assert again == found  # also the seconds: nothing was written again

    assert run(monkeypatch, "show", str(a), "--best", "1") == 0
    assert "reward 1" in capsys.readouterr().out

    shutil.copytree(a, b)
    reward = "task.reward=tests.evaluation.test_evaluate:all_right"
    assert run(monkeypatch, "rescore", str(b), reward) == 0
    assert json.loads(capsys.readouterr().out)["static"]["accuracy"] == 1.0
    assert run(monkeypatch, "compare", str(a), str(b)) == 2
    assert capsys.readouterr().err.startswith("error: task.reward: ")
    assert run(monkeypatch, "compare", f"{a}@static", f"{a}@low") == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("static / low  50.0%")


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_stopped_evaluation_prints_how_to_resume(name: str, code: int, tmp_path: Path) -> None:
    done = unmask(
        "eval", *words(tmp_path), f"task.reward=tests.evaluation.test_evaluate:{name.lower()}"
    )
    assert (done.returncode, done.stdout) == (code, "")
    assert "the responses are kept; resume with: unmask eval" in done.stderr
    assert done.stderr.rstrip().endswith("--resume")


def test_a_run_that_is_there_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").touch()
    message = refused("eval", "model.path=m", "task.kind=json", f"run.dir={tmp_path / 'run'}")
    assert "is not empty" in message


def test_lm_eval_names_a_missing_package_or_runs_it() -> None:
    if find_spec("lm_eval") is None:
        assert refused("lm-eval", "ls", "tasks").startswith("unmask lm-eval: the package lm_eval")
    else:
        assert "--model_args" in unmask("lm-eval", "run", "--help").stdout
