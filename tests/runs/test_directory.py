"""What a run leaves behind, and that it never writes over another run."""

import json
import os
from pathlib import Path

import pytest

from unmask.configs.load import dump, load_config
from unmask.configs.sft import SFTConfig
from unmask.runs.directory import RunDirectory, check_run, move_aside, open_run
from unmask.runs.lock import lock


def config(path: Path, *words: str) -> SFTConfig:
    settings = ["model.path=m", f"run.dir={path}", "run.threads=2", *words]
    return load_config(SFTConfig, [], settings)[0]


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_config_and_environment_are_written(tmp_path: Path) -> None:
    run = open_run(config(tmp_path / "deep" / "run"))
    written = json.loads((run.path / "config.json").read_text())
    assert SFTConfig.model_validate(written) == config(run.path)
    environment = json.loads((run.path / "environment.json").read_text())
    assert environment["threads"] == 2
    assert {"argv", "start_time", "python", "platform", "cpu_count", "unmask"} <= set(environment)
    assert environment["packages"]["pydantic"]


def test_how_programs_are_locked_in_is_recorded_and_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    open_run(config(tmp_path / "a"), isolation="process, without Landlock")
    environment = json.loads((tmp_path / "a" / "environment.json").read_text())
    assert environment["isolation"] == "process, without Landlock"
    assert "programs are locked in: process, without Landlock" in capsys.readouterr().err
    open_run(config(tmp_path / "b"))
    assert "isolation" not in json.loads((tmp_path / "b" / "environment.json").read_text())


def test_empty_directory_is_taken(tmp_path: Path) -> None:
    assert open_run(config(tmp_path)).path == tmp_path


def test_full_directory_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(ValueError, match=r"^run\.dir = .*not empty.*run\.dir=\.\.\."):
        open_run(config(tmp_path))
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_file_in_the_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(ValueError, match=r"^run\.dir = "):
        open_run(config(tmp_path / "a"))


def test_metrics_grow_by_a_line(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.log(step=1, loss=0.5, tokens=3)
    run.log(step=2, loss=float("nan"), **{"eval/accuracy": float("inf")})
    assert lines(tmp_path / "metrics.jsonl") == [
        {"step": 1, "loss": 0.5, "tokens": 3},
        {"step": 2, "loss": None, "eval/accuracy": None},
    ]


def test_records_grow_by_a_step(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.record([{"text": "a\nb"}, {"text": "ä"}])
    run.record([{"text": "c"}])
    run.record([])
    assert lines(tmp_path / "trajectories.jsonl") == [{"text": t} for t in ("a\nb", "ä", "c")]


def test_lines_that_are_not_there_are_forced_to_the_disk_too(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.sync()
    run.log(step=1, loss=0.5)
    run.sync()
    assert [entry.name for entry in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_earlier_runs_are_numbered(tmp_path: Path) -> None:
    path = tmp_path / "quickstart"
    assert move_aside(path) is None
    path.mkdir()
    assert move_aside(path) is None
    for number in (1, 2):
        path.mkdir(exist_ok=True)
        (path / "summary.json").write_text(str(number))
        place = move_aside(path)
        assert place == tmp_path / f"quickstart.{number}"
        assert (place / "summary.json").read_text() == str(number)
        assert not path.exists()


def test_a_run_is_gone_on_with_only_by_asking_for_it(tmp_path: Path) -> None:
    for is_resumed in (True, True):  # the first finds nothing, and starts
        assert open_run(config(tmp_path), resume=is_resumed).path == tmp_path
    with pytest.raises(ValueError, match="resume it by --resume"):
        check_run(config(tmp_path))


@pytest.mark.parametrize(
    "word",
    [
        "steps=7",
        "run.keep_last=5",
        "run.trajectories=0",
        "eval.problems=0",
        "optimizer.offload=true",
    ],
)
def test_keys_that_change_no_weight_may_change_on_resume(word: str, tmp_path: Path) -> None:
    open_run(config(tmp_path))
    open_run(config(tmp_path, word), resume=True)
    assert json.loads((tmp_path / "config.json").read_text()) == dump(config(tmp_path, word))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("optimizer.lr", 0.5), ("run.seed", 3), ("run.threads", 1), ("save_every", 7)),
        *(("model.path", "other"), ("data.batch_size", 2), ("views.count", 3)),
    ],
)
def test_any_other_key_may_not(key: str, value: object, tmp_path: Path) -> None:
    open_run(config(tmp_path))
    before = (tmp_path / "config.json").read_bytes()
    with pytest.raises(ValueError, match=rf"^{key} = {value}: the run in .* has "):
        open_run(config(tmp_path, f"{key}={value}"), resume=True)
    assert (tmp_path / "config.json").read_bytes() == before


def test_a_run_from_before_a_key_existed_can_be_resumed(tmp_path: Path) -> None:
    """A new key has its default there; another value is a change like any other."""
    open_run(config(tmp_path)).close()
    recorded = json.loads((tmp_path / "config.json").read_text())
    del recorded["loss"]["reduction"], recorded["distributed"]
    (tmp_path / "config.json").write_text(json.dumps(recorded))
    check_run(config(tmp_path), resume=True)
    with pytest.raises(ValueError, match=r"^loss.reduction = view: the run in .* has tokens"):
        check_run(config(tmp_path, "loss.reduction=view"), resume=True)
    recorded["loss"]["reduction"], recorded["views"]["gone"] = "tokens", 1
    (tmp_path / "config.json").write_text(json.dumps(recorded))
    with pytest.raises(ValueError, match=r"views.gone = None"):
        check_run(config(tmp_path), resume=True)


def test_a_directory_that_is_no_run_is_not_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ValueError, match=r"has no config\.json, so there is no run to resume"):
        check_run(config(tmp_path), resume=True)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json: not JSON"):
        check_run(config(tmp_path), resume=True)


def test_a_run_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        ValueError, match=r"^run\.dir = .* is not a directory; give another run\.dir="
    ):
        check_run(config(tmp_path / "file" / "run"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_run_where_one_may_not_write_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(
        ValueError, match=r"^run\.dir = .* cannot be written; give another run\.dir="
    ):
        check_run(config(tmp_path / "deep" / "run"))


def test_what_a_killed_start_left_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "config.json.tmp-0a1b2c3d").touch()
    assert open_run(config(tmp_path)).path == tmp_path
    assert {p.name for p in tmp_path.iterdir()} == {"config.json", "environment.json", ".lock"}


def test_a_start_killed_between_its_two_files_can_be_gone_on_with(tmp_path: Path) -> None:
    open_run(config(tmp_path))
    (tmp_path / "environment.json").unlink()
    open_run(config(tmp_path), resume=True)
    assert (tmp_path / "environment.json").is_file()


def test_a_replacement_killed_between_its_two_renames_is_undone(tmp_path: Path) -> None:
    run = open_run(config(tmp_path))
    (run.path / "best.old-0a1b2c3d").mkdir()
    (run.path / "best.old-0a1b2c3d" / "weights").touch()
    (run.path / "best.tmp-4e5f6a7b").mkdir()
    run.close()
    open_run(config(tmp_path), resume=True)
    assert [p.name for p in (run.path / "best").iterdir()] == ["weights"]
    assert not list(run.path.glob("*-*"))


def test_a_resumed_run_keeps_its_start_time_and_warns_of_other_versions(tmp_path: Path) -> None:
    settings = config(tmp_path / "run")
    run = open_run(settings)
    place = run.path / "environment.json"
    began = json.loads(place.read_text())
    run.close()
    open_run(settings, resume=True)
    went_on = json.loads(place.read_text())
    assert went_on["start_time"] == began["start_time"]
    assert len(went_on["resumed"]) == 1
    went_on["packages"]["torch"] = "1.0"
    place.write_text(json.dumps(went_on))
    with pytest.warns(UserWarning, match="other versions"):
        open_run(settings, resume=True)
    assert len(json.loads(place.read_text())["resumed"]) == 2


@pytest.mark.parametrize("change", ["content", "gone", "none"])
def test_a_data_file_that_changed_since_the_run_began_is_refused(
    change: str, tmp_path: Path
) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text('{"prompt": "1", "response": "2"}')
    asked = config(tmp_path / "run", f"data.path={data}")
    open_run(asked).close()
    if change == "none":
        open_run(asked, resume=True).close()
        open_run(asked, resume=True).close()
        return
    data.write_text('{"prompt": "1", "response": "3"}') if change == "content" else data.unlink()
    before = (tmp_path / "run" / "environment.json").read_text()
    with pytest.raises(ValueError, match=r"^data\.path = .*data\.jsonl: the content .* changed"):
        open_run(asked, resume=True)
    assert (tmp_path / "run" / "environment.json").read_text() == before


def test_a_run_without_recorded_digests_can_be_resumed(tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text("{}")
    asked = config(tmp_path / "run", f"data.path={data}")
    open_run(asked).close()
    file = tmp_path / "run" / "environment.json"
    held = json.loads(file.read_text())
    del held["data"]
    file.write_text(json.dumps(held))
    open_run(asked, resume=True).close()
    assert json.loads(file.read_text())["data"].keys() == {f"data.path = {data}"}


@pytest.mark.parametrize("text", ["{", "[]", '{"packages": {}}'])
def test_an_environment_that_cannot_be_read_is_named(text: str, tmp_path: Path) -> None:
    open_run(config(tmp_path / "run")).close()
    (tmp_path / "run" / "environment.json").write_text(text)
    with pytest.raises(
        ValueError, match=r"environment\.json: .*so the run cannot be resumed"
    ) as caught:
        open_run(config(tmp_path / "run"), resume=True)
    # The error, which holds the frames, does not hold the lock.
    assert caught.value is not None
    lock(tmp_path / "run").release()


def test_another_attention_backend_is_pointed_out_when_a_run_is_resumed(tmp_path: Path) -> None:
    open_run(config(tmp_path), attention="kernel").close()
    open_run(config(tmp_path), resume=True, attention="kernel").close()
    with pytest.warns(UserWarning, match="backend 'kernel' and goes on with 'varlen'"):
        open_run(config(tmp_path), resume=True, attention="varlen").close()
    environment = json.loads((tmp_path / "environment.json").read_text())
    assert environment["attention"] == "varlen"
