"""Trackers get the metrics with their sections in front, and continue the run of a resumed one.

Each library writes to files here: none sends anything. All but TensorBoard run in a process of their own, because
they leave threads, services and hooks behind in the one that imports them.
"""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.source import ROOT
from tests.runs.test_metrics import config, steps
from unmask.runs.directory import RunDirectory
from unmask.runs.metrics import open_metrics
from unmask.runs.trackers import check_trackers, sectioned

KEYS = {
    "tensorboard": "run.tensorboard=true",
    **{name: f"run.{name}=toy" for name in ("wandb", "trackio", "swanlab", "mlflow")},
}
LOG = """
import sys
from pathlib import Path
from unmask.configs.load import load_config
from unmask.configs.sft import SFTConfig
from unmask.runs.directory import RunDirectory
from unmask.runs.metrics import open_metrics

path = Path(sys.argv[1])
words = ["model.path=m", f"run.dir={path}", sys.argv[2]]
for step in (1, 2):
    with open_metrics(RunDirectory(path), load_config(SFTConfig, [], words)[0]) as metrics:
        metrics.log(step=step, loss=step / 2, eval_accuracy=0.25, ratio=float("nan"))
"""
READ_TRACKIO = """
import json, sys
from trackio.sqlite_storage import SQLiteStorage

(name,) = SQLiteStorage.get_runs("toy")
config, logs = SQLiteStorage.get_run_config("toy", name), SQLiteStorage.get_logs("toy", name)
json.dump({"config": config, "logs": logs}, sys.stdout, default=str)
"""


def is_there(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def needs(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not is_there(name), reason=f"{name} is not installed")


def run(code: str, *words: str, **variables: str) -> str:
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        env={**os.environ, "PYTHONPATH": path, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def log_twice(path: Path, name: str, **variables: str) -> None:
    """Log step 1, and step 2 as a resumed run does; nothing goes to standard output."""
    path.mkdir(exist_ok=True)
    assert run(LOG, str(path), KEYS[name], **variables) == ""
    assert steps(path / "metrics.jsonl") == [1, 2]


def documented() -> set[str]:
    """Return the names in the tables of docs/metrics.md, without those with a part to fill in."""
    page = (ROOT / "docs" / "metrics.md").read_text()
    cells = re.findall(r"^\| (`.+?) \|", page, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("loss", "train/loss"),
        ("packed_tokens_per_s", "train/packed_tokens_per_s"),
        ("reward", "rollout/reward"),
        ("reward_format", "reward/format"),
        ("reward_wall_s", "time/reward_wall_s"),
        ("eval_accuracy", "eval/accuracy"),
        ("val_nll_t10", "val/nll_t10"),
        ("value_loss", "value/loss"),
        ("alarm_empty", "alarm/empty"),
        ("sync_bytes", "sync/bytes"),
    ],
)
def test_a_section_stands_in_front(name: str, expected: str) -> None:
    assert sectioned(name) == expected


def test_no_two_documented_metrics_have_one_name_in_trackers() -> None:
    assert len(documented()) > 50
    assert len({sectioned(name) for name in documented()}) == len(documented())


def test_the_documented_sections_are_those_of_the_metrics() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    stated = set(re.findall(r"^\| `(\w+)/` \|", page, re.MULTILINE))
    names = {*documented(), "reward_format", "rollout_wall_s"}
    assert stated == {sectioned(name).partition("/")[0] for name in names}


@pytest.mark.parametrize("name", KEYS)
def test_a_missing_package_is_named(name: str, tmp_path: Path) -> None:
    if is_there(name):
        pytest.skip(f"{name} is installed")
    asked = config(tmp_path, KEYS[name])
    with pytest.raises(
        ValueError, match=rf"^run\.{name}: needs the package '{name}', .*unmask doctor"
    ):
        check_trackers(asked.run)
    with pytest.raises(ValueError, match=rf"^run\.{name}: needs"):
        open_metrics(RunDirectory(tmp_path), asked)


@needs("tensorboard")
def test_tensorboard_holds_the_steps_of_the_resumed_run(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run, asked = RunDirectory(tmp_path), config(tmp_path, "run.tensorboard=true")
    with open_metrics(run, asked) as metrics:
        for step in (1, 2, 3, 4):
            metrics.log(step=step, loss=float(step))
    with open_metrics(run, asked) as metrics:
        metrics.cut_back(2)
        metrics.log(step=3, loss=30.0)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("train/loss")] == [
        (1, 1.0),
        (2, 2.0),
        (3, 30.0),
    ]
    assert steps(tmp_path / "metrics.jsonl") == [1, 2, 3]


@needs("wandb")
def test_wandb_offline(tmp_path: Path) -> None:
    log_twice(tmp_path, "wandb", WANDB_MODE="offline")
    runs = [path.name.split("-")[-1] for path in (tmp_path / "wandb").glob("offline-run-*")]
    assert set(runs) == {(tmp_path / "wandb_id.txt").read_text().strip()}


@needs("trackio")
def test_trackio_in_files_of_this_machine(tmp_path: Path) -> None:
    place = {"TRACKIO_DIR": str(tmp_path / "trackio")}
    log_twice(tmp_path / "run", "trackio", **place)
    kept = json.loads(run(READ_TRACKIO, **place))
    found = [(one["step"], one["train/loss"], one["eval/accuracy"]) for one in kept["logs"]]
    assert found == [(1, 0.5, 0.25), (2, 1.0, 0.25)]
    assert not any("train/ratio" in one for one in kept["logs"])
    assert kept["config"]["model"]["path"] == "m"


@needs("swanlab")
def test_swanlab_offline(tmp_path: Path) -> None:
    log_twice(tmp_path, "swanlab", SWANLAB_MODE="offline")
    runs = list((tmp_path / "swanlab").glob("run-*"))
    known = (tmp_path / "swanlab_id.txt").read_text().strip()
    assert runs
    assert all(path.name.endswith(known) for path in runs)
    records = b"".join(file.read_bytes() for path in runs for file in path.glob("*.swanlab"))
    assert b"train/loss" in records
    assert b"eval/accuracy" in records


@needs("swanlab")
def test_swanlab_without_a_login_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        AssertionError, match=r"run\.swanlab = toy: it refused: .*SWANLAB_MODE=offline"
    ):
        run(LOG, str(tmp_path), KEYS["swanlab"], HOME=str(tmp_path), SWANLAB_MODE="online")


@needs("mlflow")
def test_mlflow_in_a_folder(tmp_path: Path) -> None:
    store = tmp_path / "mlruns"
    place = {"MLFLOW_TRACKING_URI": str(store), "MLFLOW_ALLOW_FILE_STORE": "true"}
    log_twice(tmp_path / "run", "mlflow", **place)
    known = (tmp_path / "run" / "mlflow_id.txt").read_text().strip()
    (found,) = [path for path in store.glob("*/*") if (path / "metrics").is_dir()]
    assert found.name == known
    lines = [
        line.split()[1:] for line in (found / "metrics" / "train" / "loss").read_text().splitlines()
    ]
    assert [(float(value), int(step)) for value, step in lines] == [(0.5, 1), (1.0, 2)]
    assert not (found / "metrics" / "train" / "ratio").exists()
    assert (found / "params" / "model.path").read_text() == "m"
