"""A method is a pair of files of one name, found by listing their folders."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.source import ROOT
from unmask.configs.methods import sections

SECTION = '''
"""A kind of views for this test."""
from typing import ClassVar, Literal
from unmask.configs.methods.view_section import ViewSection

class LastViews(ViewSection):
    """The last denoising steps alone."""
    sources: ClassVar = ("rollouts",)
    kind: Literal["last"] = "last"
    count: int = 1
'''
FUNCTION = """
from dataclasses import replace
from unmask.diffusion.views import views_of_trajectory

def of_trajectory(trajectory, advantage, config, is_full):
    views = views_of_trajectory(trajectory, advantage, 1, config.post_num, is_full)
    names = ("hidden", "target", "weight", "old_logprobs")
    return replace(views, **{name: getattr(views, name)[-config.count :] for name in names})
"""
RUN = """
import sys
from pathlib import Path
import unmask.configs.methods.views, unmask.diffusion.methods
place = Path(sys.argv[1])
unmask.configs.methods.views.__path__.append(str(place / "sections"))
unmask.diffusion.methods.__path__.append(str(place / "functions"))
from tests.trainers.toy_runs import metrics, rl_config
from unmask.configs.keys import keys
from unmask.configs.rl import RLConfig
from unmask.trainers.rl import train_rl
(key,) = (key for key in keys(RLConfig) if key.name == "views.kind")
assert '"last"' in key.type
train_rl(rl_config(place, "steps=1", "views.kind=last", "views.count=2"))
(line,) = metrics(place / "run")
assert line["gradient_norm"] > 0 and line["packed_tokens"] > 0
"""


def test_a_method_is_added_by_its_two_files(tmp_path: Path) -> None:
    for folder, text in (("sections", SECTION), ("functions", FUNCTION)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "last.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("choice", "source", "folder", "names"),
    [
        ("views", "rollouts", "diffusion", {"trace", "random", "coupled"}),
        ("views", "demonstrations", "diffusion", {"random"}),
        ("advantage", "rollouts", "trainers", {"group", "value", "shared_value"}),
        ("loss", "rollouts", "objectives", {"clipped"}),
        ("loss", "demonstrations", "objectives", {"likelihood"}),
    ],
)
def test_every_section_has_a_function_of_its_file_name(
    choice: str, source: str, folder: str, names: set[str]
) -> None:
    found = {section.__module__.rpartition(".")[2] for section in sections(choice, source)}  # pyright: ignore[reportArgumentType]
    assert found >= names
    functions = {path.stem for path in (ROOT / "src/unmask" / folder / "methods").glob("*.py")}
    assert found <= functions
