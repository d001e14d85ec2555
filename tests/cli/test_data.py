"""`unmask data`: the list, a copy with the lines of a configuration, and what is refused."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.data.images import write_png
from unmask.cli.main import app
from unmask.configs.task import dataset_names

ROW = {"question": "1+1?", "answer": "#### 2"}


def run(*words: str) -> str:
    """Return what the command prints."""
    return CliRunner().invoke(app, ["data", *words], catch_exceptions=False).stdout


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a file of one problem of GSM8K."""
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([ROW]))
    return path


def test_every_data_set_is_listed():
    lines = run().splitlines()
    names = [line.split()[0] for line in lines if line]
    assert names[: len(dataset_names())] == [*dataset_names()]
    assert {"countdown", "sudoku", "primeintellect", "openr1_math"} <= {*names}


def test_a_copy_is_written_with_the_section_that_reads_it(source: Path, tmp_path: Path):
    out = tmp_path / "sets"
    words = ("gsm8k", "--from", str(source), "--split", "test", "--out", str(out))
    printed = run(*words)
    path = out / "gsm8k-test.jsonl"
    assert json.loads(path.read_text()) == ROW
    assert "gsm8k test: 1 problems, sha256 " in printed
    assert f'[task]\nkind = "dataset"\nname = "gsm8k"\npath = "{path}"' in printed
    assert run(*words) == printed
    path.write_text("other")
    with pytest.raises(ValueError, match="exists with other content"):
        run(*words)


def test_nothing_is_written_without_out(source: Path, tmp_path: Path):
    assert "written" not in run("GSM8K", "--from", str(source), "--split", "test")
    assert [*tmp_path.iterdir()] == [source]


def test_a_file_that_task_path_would_not_find_is_refused(source: Path, tmp_path: Path):
    words = ("gsm8k", "--from", str(source), "--split", "test", "--out")
    with pytest.raises(ValueError, match=r"begins with gsm8k-test; give .*gsm8k-test\.jsonl"):
        run(*words, str(tmp_path / "mine.jsonl"))
    assert "written" in run(*words, str(tmp_path / "gsm8k-test-mine.jsonl"))


def test_puzzles_have_a_section_and_no_copy():
    assert run("countdown") == '[task]\nkind = "reasoning_gym"\nname = "countdown"\n'
    with pytest.raises(ValueError, match="generated"):
        run("countdown", "--out", "x")


def test_unknown_names_get_the_near_ones():
    with pytest.raises(ValueError, match="'livebench'; there are livebench_coding, livebench_math"):
        run("livebench")


def test_without_a_file_and_a_network_the_error_is_one_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("UNMASK_DATA", raising=False)
    monkeypatch.setattr("unmask.tasks.sources.has_datasets", lambda: False)
    with pytest.raises(
        ValueError, match=r"gsm8k were not found: give task\.path.*pip install"
    ) as e:
        run("gsm8k")
    assert len(str(e.value).splitlines()) == 1


def test_a_task_of_pictures_is_shown_with_its_section():
    printed = run("mazes", "level=5", 'questions=["way"]')
    assert printed.startswith("mazes: level 5 of 2 to 16, the cells of a side\nway: Is there a way")
    assert "(2 answers: guessing is right in 50.0%)" in printed
    section = '[task]\nkind = "pictures"\nname = "mazes"\n'
    assert printed.endswith(f'{section}questions = ["way"]\nlevel = 5\n')


def test_pictures_are_written_with_the_section_that_reads_them(tmp_path: Path):
    out = tmp_path / "pictures"
    printed = run("counting", "size=30", "test_share=0", "--out", str(out))
    problems = [json.loads(line) for line in (out / "train.jsonl").read_text().splitlines()]
    assert f"written: {out / 'train.jsonl'}: {len(problems)} problems" in printed
    assert {*problems[0]} == {"question", "ground_truth_answer", "image"}
    assert all((out / problem["image"]).read_bytes()[1:4] == b"PNG" for problem in problems)
    assert sorted(path.name for path in out.iterdir()) == [
        *("images", "train.jsonl", "validation.jsonl"),
    ]
    assert f'validation = "{out / "validation.jsonl"}"\ntemplate = "{{question}}"' in printed
    with pytest.raises(ValueError, match="is there already: give a directory that is new"):
        run("counting", "--out", str(out))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("counting", "level=99"), "level = 99: must be 2 to 30"),
        (("counting", "levle=3"), "unknown key levle .*did you mean level"),
        (("counting", "--split", "test"), "counting: its problems are generated"),
        (("countdown", "level=3"), "countdown: its problems are generated"),
        (("gsm8k", "level=3"), "level=3: gsm8k has no keys"),
    ],
)
def test_settings_that_are_refused(words: tuple[str, ...], message: str):
    with pytest.raises(ValueError, match=message):
        run(*words)


def test_images_of_the_first_problem_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNMASK_CACHE", str(tmp_path / "cache"))
    write_png(tmp_path / "1.png", 1)
    row = {"question": "How many?", "image": "1.png", "answer": "4", "answer_type": "integer"}
    (tmp_path / "rows.json").write_text(json.dumps([row]))
    text = run("mathvista", "--from", str(tmp_path / "rows.json"))
    assert "\n<image>\nHow many?\nAnswer the question using a single integer number.\n" in text
    assert f"\nimage    {tmp_path / '1.png'}, 4 x 3\n" in text
