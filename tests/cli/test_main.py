"""The real command: help at once, one clear line per mistake, exit codes that mean something."""

import json
import os
import re
import resource
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.architecture.source import ROOT
from tests.forked_python import run_python
from tests.runs.past_runs import past_run, trajectory, write_lines
from tests.trainers.toy_runs import rl_config, sft_config
from unmask import __version__
from unmask.cli import main as cli
from unmask.configs.rl import RLConfig
from unmask.runs.lock import lock


def unmask(*words: object) -> subprocess.CompletedProcess[str]:
    """Run the real command in a process of its own."""
    return run_python(["-m", "unmask", *words])


def refused(*words: object) -> str:
    """Return the one line with which the command refuses these words."""
    done = unmask(*words)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    return line.removeprefix("error: ")


@pytest.fixture
def rl_file(tmp_path: Path) -> Path:
    path = tmp_path / "rl" / "mine.toml"
    path.parent.mkdir()
    path.write_text('[model]\npath = "m"\n[task]\nkind = "json"\n')
    return path


def test_help_is_there_at_once() -> None:
    times = []
    for _ in range(3):  # processor seconds, the best of three: the machine is shared
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        command = [sys.executable, "-m", "unmask", "--help"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        times.append(resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before)
        assert done.returncode == 0
    assert "quickstart" in done.stdout
    assert min(times) < 0.3


def test_version_is_printed() -> None:
    done = unmask("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"unmask {__version__}\n", "")


def test_a_shell_completes_commands_and_options() -> None:
    def completed(line: str) -> list[str]:
        asked = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1)}
        variables = {**os.environ, "_UNMASK_COMPLETE": "complete_bash", **asked}
        return run_python(["-m", "unmask"], env=variables).stdout.split()

    assert completed("unmask ev") == ["eval"]
    assert completed("unmask rl --resu") == ["--resume"]


def test_a_yaml_file_is_pointed_to_import(tmp_path: Path) -> None:
    for name in ("rl.yaml", "rl.yml", "rl.json"):
        path = tmp_path / name
        path.write_text("steps: 3")
        line = (
            f"{path}: configurations are TOML; `unmask config import {path} > mine.toml` translates"
        )
        assert refused("rl", path).startswith(line)


def test_a_missing_model_is_an_error_with_its_key_and_the_commands_that_make_one(
    rl_file: Path,
) -> None:
    rl_file.write_text('[task]\nkind = "json"\n')
    missing = refused("config", "rl", rl_file)
    assert missing.startswith("missing key model.path (string): ")
    absent = refused("generate", rl_file.parent / "absent", "3+4=")
    assert absent.startswith(f"model.path = {rl_file.parent / 'absent'}: no such directory; ")
    for line in (missing, absent):
        assert all(
            word in line for word in ("ublished checkpoint", "unmask init", "unmask convert")
        )


@pytest.mark.parametrize("command", ["sft", "rl", "quickstart"])
def test_a_finished_run_prints_model_report_and_the_next_command(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    trained = tmp_path / ("rl" if command == "quickstart" else "")

    def train(*_: object) -> None:
        trained.mkdir(exist_ok=True)
        (trained / "report.html").touch()

    stand_in(monkeypatch, "unmask.trainers.sft", train_sft=train)
    stand_in(monkeypatch, "unmask.trainers.rl", train_rl=train)
    stand_in(monkeypatch, "unmask.trainers.quickstart", run_quickstart=train)
    needed = ["model.path=m", "task.kind=json", f"run.dir={tmp_path}"]
    words = ["--dir", str(tmp_path)] if command == "quickstart" else needed
    assert run(monkeypatch, command, *words) == 0
    model, report, following = capsys.readouterr().err.splitlines()[-3:]
    assert model == f"model:  {trained / 'model'}"
    assert report == f"report: {trained / 'report.html'}"
    assert following.startswith("next:   unmask ") and str(trained) in following


def test_no_words_give_help() -> None:
    done = unmask()
    assert "Usage: unmask" in done.stdout + done.stderr


COMMANDS = [command.name or command.callback.__name__ for command in cli.app.registered_commands]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shows_an_example(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, command, "--help") == 0
    assert re.search(rf"Examples?: unmask {command}\b", capsys.readouterr().out)


def test_every_command_and_exit_code_is_documented() -> None:
    text = (ROOT / "docs" / "cli.md").read_text()
    assert all(f"`unmask {command}" in text for command in COMMANDS)
    codes = ["0", "1", "2", "130", "137", "143"]
    assert re.findall(r"^\| (\d+) \|", text, re.MULTILINE) == codes
    assert all(f" {code} " in cli.app.info.epilog for code in (0, 1, 2, 130, 143))


def test_unknown_key(rl_file: Path) -> None:
    assert refused("rl", rl_file, "optimizer.lrr=1").startswith(
        "unknown key optimizer.lrr (command line); did you mean optimizer.lr"
    )


def test_file_that_is_missing_or_broken(rl_file: Path) -> None:
    missing = rl_file.with_name("mime.toml")
    assert (
        refused("rl", missing) == f"{missing}: no such file; in {rl_file.parent} there is mine.toml"
    )
    rl_file.write_text("steps = = 3")
    assert refused("rl", rl_file).startswith(f"{rl_file}: not valid TOML: Invalid value (at line 1")


def test_debug_adds_the_traceback(rl_file: Path) -> None:
    done = unmask("config", rl_file, "steps=0", "--debug")
    assert "Traceback" in done.stderr
    assert "steps = 0 (command line): must be int >= 1" in done.stderr


def test_config_prints_toml_with_origins(rl_file: Path) -> None:
    done = unmask("config", rl_file, "steps=7", "optimizer.clip_norm=none")
    assert done.returncode == 0
    comments = {line.split(" = ")[0]: line.split("  # ")[-1] for line in done.stdout.splitlines()}
    assert comments["steps"] == "command line"
    assert comments["model.path"] == str(rl_file)
    assert comments["optimizer.lr"] == "default"
    assert tomllib.loads(done.stdout)["optimizer"]["clip_norm"] == "none"


def test_printed_config_is_a_config(rl_file: Path) -> None:
    again = rl_file.with_name("again.toml")
    again.write_text(unmask("config", rl_file, "steps=7").stdout)
    done = unmask("config", again)
    assert done.returncode == 0
    assert "steps = 7" in done.stdout


def test_kind_is_the_first_word_or_the_folder(rl_file: Path, tmp_path: Path) -> None:
    elsewhere = rl_file.rename(tmp_path / "mine.toml")
    assert unmask("config", "rl", elsewhere).returncode == 0
    assert refused("config", elsewhere) == (
        f"{elsewhere}: give the kind first: unmask config rl {elsewhere}"
    )


def test_config_prints_the_schema_of_its_files() -> None:
    done = unmask("config", "rl", "--schema")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["properties"]["sampling"]


def test_keys_are_listed() -> None:
    done = unmask("config", "rl", "--keys")
    lines = done.stdout.splitlines()
    place = lines.index("optimizer.lr  float > 0  default 1e-05")
    assert lines[place + 1] == "    Learning rate after warm-up."
    assert "model.path  string  required" in lines
    assert 'task.args  table  default {}  only when task.kind = "reasoning_gym"' in lines


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int | str | None:
    """Run the command line in this process and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["unmask", *words])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return caught.value.code


def stand_in(monkeypatch: pytest.MonkeyPatch, module: str, **functions: object) -> None:
    """Put functions where a command will import them from."""
    fake = ModuleType(module)
    vars(fake).update(functions)
    monkeypatch.setitem(sys.modules, module, fake)


def test_commands_hand_over_their_words(rl_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    stand_in(monkeypatch, "unmask.trainers.rl", train_rl=lambda *a: seen.append(a))
    stand_in(monkeypatch, "unmask.trainers.quickstart", run_quickstart=lambda *a: seen.append(a))
    assert run(monkeypatch, "rl", str(rl_file), "steps=7") == 0
    assert run(monkeypatch, "quickstart", "--seed", "3", "--dir", "x") == 0
    (config, is_resumed, _), quickstart = seen
    assert isinstance(config, RLConfig)
    assert not is_resumed
    assert config.steps == 7
    assert quickstart == ("chain_sum", 3, Path("x"))


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ValueError("run.dir = x: not empty"), 2, "error: run.dir = x: not empty\n"),
        (ValueError("one\ntwo"), 2, "error: one\nerror: two\n"),
        (ValueError(), 2, "error: ValueError\n"),
        (FileNotFoundError(2, "No such file", "a/b"), 2, "error: a/b: No such file\n"),
        (OSError(28, "No space left on device"), 2, "error: No space left on device\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_exit_codes(
    error: BaseException,
    code: int,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object) -> None:
        raise error

    stand_in(monkeypatch, "unmask.trainers.quickstart", run_quickstart=fail)
    assert run(monkeypatch, "quickstart") == code
    assert capsys.readouterr().err == line


def test_our_own_bugs_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise TypeError("ours")

    stand_in(monkeypatch, "unmask.trainers.quickstart", run_quickstart=fail)
    monkeypatch.setattr(sys, "argv", ["unmask", "quickstart"])
    with pytest.raises(TypeError, match="ours"):
        cli.main()


def test_runs_are_listed_and_compared(tmp_path: Path) -> None:
    a = past_run(tmp_path / "a", metrics=[{"step": 9, "reward": 0.5}])
    b = past_run(tmp_path / "b", "optimizer.lr=0.5")
    listed = unmask("runs", tmp_path)
    assert listed.returncode == 0
    assert [line.split()[:4] for line in listed.stdout.splitlines()[1:]] == [
        ["a", "rl", "chain_sum", "9/9"],
        ["b", "rl", "chain_sum", "0/9"],
    ]
    assert "optimizer.lr" in unmask("runs", a, b).stdout
    assert refused("runs", a, b, a).startswith("3 directories: ")
    assert refused("runs", tmp_path / "c").startswith(f"{tmp_path / 'c'}: no such directory")


def test_report_is_drawn_as_running_while_the_run_is_locked(tmp_path: Path) -> None:
    path = past_run(tmp_path / "a", metrics=[{"step": 4, "reward": 0.5}])
    with lock(path):
        assert unmask("report", path).stdout == f"{path / 'report.html'}\n"
        assert "running, step 4 of 9" in (path / "report.html").read_text()
    assert unmask("report", path).returncode == 0
    assert "stopped at step 4 of 9" in (path / "report.html").read_text()
    assert refused("report", tmp_path).startswith(f"{tmp_path}: is not a run")


def test_trajectories_are_shown(tmp_path: Path) -> None:
    run_path = past_run(tmp_path / "a")
    records = [trajectory(step, reward) for step in (1, 2) for reward in (0.0, 0.5, 1.0)]
    write_lines(run_path / "trajectories.jsonl", records)
    done = unmask("show", run_path, "--step", 1, "--worst", 2)
    assert done.returncode == 0
    headings = [line for line in done.stdout.splitlines() if line.startswith("#")]
    assert [heading.split(", ")[:2] for heading in headings] == [
        ["#1  step 1", "reward 0"],
        ["#2  step 1", "reward 0.5"],
    ]
    assert 'order     2:"#7" 1:"#15" | ' in done.stdout
    assert refused("show", run_path, "--best", 1, "--worst", 1) == (
        "--worst and --best: give one of them"
    )
    assert "it has steps 1 to 2" in refused("show", run_path, "--step", 9)


def test_shipped_configurations_are_listed_and_printed(tmp_path: Path) -> None:
    listed = unmask("config", "list").stdout
    assert re.search(r"^rl/chain_sum +TraceRL of the model", listed, re.MULTILINE)
    copy = tmp_path / "mine.toml"
    copy.write_text(unmask("config", "print", "rl/chain_sum").stdout)
    mine, named = (unmask("config", "rl", file).stdout for file in (copy, "rl/chain_sum"))
    assert tomllib.loads(mine) == tomllib.loads(named)
    assert "# shipped rl/chain_sum\n" in named
    assert refused("config", "print", "rl/chain").endswith("names those that exist")
    assert refused("config", "print").startswith(
        "write `unmask config list`, or `unmask config print"
    )
    assert refused("config", "list", "rl").startswith("write `unmask config list`")


def test_rollouts_of_dllm_rl_are_shown(tmp_path: Path) -> None:
    path = tmp_path / "rollouts.json"
    path.write_text(json.dumps([{"question": "1?", "full_output": ["2"], "step_map": [[1]]}]))
    assert "response  2\norder     1\n" in unmask("show", path).stdout
    assert refused("show", path, "--worst", 2).startswith("--worst: there are no rewards")
    assert refused("show", path, "--step", 2).startswith("--step 2: ")


def test_a_configuration_of_dllm_rl_is_translated(tmp_path: Path) -> None:
    source = ROOT / "tests" / "importing" / "rl_sdar.yaml"
    done = unmask("config", "import", source)
    assert done.returncode == 0
    target = tmp_path / "mine.toml"
    target.write_text(done.stdout)
    again = unmask("config", "rl", target)
    assert tomllib.loads(again.stdout)["optimizer"]["lr"] == 2e-6
    assert "no effect on results: " in done.stderr
    assert refused("config", "import", tmp_path / "absent.yaml").endswith(": no such file")
    assert refused("config", "import").startswith("import: give one YAML file")
    assert refused("config", "rl", "--kind", "sft").startswith("--kind: only with `import")
    assert refused("config", "rl", "--lossy").startswith("--lossy: only with `import")


def test_a_configuration_that_would_run_otherwise_is_refused_unless_lossy(tmp_path: Path) -> None:
    source, target = tmp_path / "code.yaml", tmp_path / "mine.toml"
    text = (ROOT / "tests" / "importing" / "rl_sdar.yaml").read_text()
    source.write_text(text.replace("data_type: math", "data_type: code\n  later: 1"))
    done = unmask("config", "import", source)
    assert (done.returncode, done.stdout) == (2, "")
    named = [line.split(": ")[1] for line in done.stderr.splitlines()]
    assert named[1:] == ['dataset.data_type = "code"', "dataset.later = 1"]
    lossy = unmask("config", "import", source, "--lossy")
    assert (lossy.returncode, lossy.stderr.count("lost: ")) == (0, 2)
    target.write_text(lossy.stdout)
    assert unmask("config", "rl", target).returncode == 0


def test_show_prompt_prints_the_first_prompt_without_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"run.dir={tmp_path / 'run'}", f"model.path={rl_config(tmp_path).model.path}"]
    questions = tmp_path / "questions.json"
    task = [
        *("task.kind=json", "task.template={question}"),
        *(f"task.{split}={questions}" for split in ("train", "test")),
    ]
    end = "tokens  '1' '+' '2' '='\nids     3 12 4 14\n"
    done = unmask("rl", *words, *task, "--show-prompt")
    assert (done.returncode, done.stdout.endswith(end)) == (0, True), done.stderr
    assert run(monkeypatch, "eval", *words, *task, "--show-prompt") == 0
    assert capsys.readouterr().out.endswith(end)
    assert run(monkeypatch, "sft", *words, *task, "--show-prompt") == 2
    assert "task 'math' has no demonstrations: give data.path" in capsys.readouterr().err
    data = f"data.path={sft_config(tmp_path).data.path}"
    assert run(monkeypatch, "sft", *words, data, "views.post_num=1", "--show-prompt") == 0
    shown = capsys.readouterr().out
    assert (
        "item 1, demonstration 1 of 1; no chat template; 4 tokens are read, 6 are trained" in shown
    )
    assert "\n1+2=⟦7;77<eos><eos>⟧\n" in shown
    assert shown.endswith("trained  '7' ';' '7' '7' '<eos>' '<eos>'\nids      9 15 9 9 0 0\n")
    assert not (tmp_path / "run").exists()


def test_doctor_fails_only_if_a_requirement_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = unmask("doctor", "--dir", tmp_path / "runs")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{tmp_path / 'runs'} can be written" in done.stdout
    finding = SimpleNamespace(subject="torch", found="missing", way_out="pip", is_required=True)
    monkeypatch.setattr("unmask.cli.doctor.examine", lambda directory: [finding])
    assert run(monkeypatch, "doctor") == 2
    assert "MISSING  torch" in capsys.readouterr().out
