"""A method is a pair of files of one name, found by listing their folders; docs/add-a-method.md, followed literally."""

import re
import tomllib
from pathlib import Path

import pytest

from tests.architecture.source import ROOT
from tests.forked_python import run_python
from unmask.configs.load import flatten, load_config
from unmask.configs.methods import sections
from unmask.configs.rl import RLConfig

PAGE = ROOT / "docs" / "add-a-method.md"
# In a process of its own: the folders of methods are longer there.
RUN = """
import sys
from importlib import import_module
from pathlib import Path
place = Path(sys.argv[1])
for folder in ("configs/methods/views", "configs/methods/loss", "diffusion/methods", "objectives/methods"):
    package = import_module("unmask." + folder.replace("/", "."))
    package.__path__.append(str(place / folder))
exec((place / "page_test.py").read_text())
test_gradient_is_minus_the_advantage()
from tests.trainers.toy_runs import metrics, rl_config
from unmask.configs.keys import keys
from unmask.configs.rl import RLConfig
from unmask.trainers.rl import train_rl
types = {key.name: key.type for key in keys(RLConfig)}
assert '"last"' in types["views.kind"] and '"reinforce"' in types["loss.kind"]
train_rl(rl_config(place, "steps=1", *sys.argv[2:]))
(line,) = metrics(place / "run")
assert line["gradient_norm"] > 0 and line["packed_tokens"] > 0
assert line["nll_max"] > 0 and line["kl"] >= 0 and "clipped" not in line
"""


def write_files(place: Path) -> list[str]:
    """Write the page's files and its test below `place`; return its settings as `key=value` words."""
    page = PAGE.read_text()
    files = dict(re.findall(r"^`([\w/]+\.py)`:\n\n```python\n(.*?)^```", page, re.M | re.S))
    assert len(files) == 4
    (program,) = re.findall(r"^```python\n(import torch\n.*?)^```", page, re.M | re.S)
    for name, text in {**files, "page_test.py": program}.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
    (settings,) = re.findall(r"^```toml\n(.*?)^```", page, re.M | re.S)
    return [f"{name}={value}" for name, value in flatten(tomllib.loads(settings))]


def test_a_method_is_added_by_its_page(tmp_path: Path) -> None:
    settings = write_files(tmp_path)
    done = run_python(["-c", RUN, tmp_path, *settings], cwd=ROOT)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("choice", "source", "folder", "names"),
    [
        ("views", "rollouts", "diffusion", {"trace", "random", "coupled", "one_step", "counted"}),
        ("views", "demonstrations", "diffusion", {"random"}),
        ("advantage", "rollouts", "trainers", {"group", "softmax", "value", "shared_value"}),
        (
            "views",
            "pairs",
            "diffusion",
            {"counted", "random", "quadrature", "block_steps", "trace"},
        ),
        ("loss", "pairs", "objectives", {"dpo"}),
        ("loss", "rollouts", "objectives", {"clipped", "weighted", "sequence_ratio"}),
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


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["loss.kind=sequence_ratio", "advantage.kind=value"],
            'one per token: set loss.kind = "clipped", or advantage.kind = "group_std"',
        ),
        (
            ["views.kind=random", "loss.kind=boundary"],
            "set views.high = 1 and views.low to 0.01 or less",
        ),
        (
            ["views.kind=one_step", "advantage.kind=shared_value"],
            'only views.kind = "trace" trains on, not "one_step"',
        ),
        (
            ["rollout.staleness=1", "rollout.workers=1", "loss.kind=weighted"],
            'loss.kind = "weighted" cannot weigh: set loss.kind = "clipped"',
        ),
        (["loss.kind=sandwich", "loss.kl=0.1"], "loss.kl"),
        (["advantage.psi=2"], "advantage.psi"),
        (["advantage.kind=progress"], "set rollout.drafts = 4"),
        (["rollout.drafts=2", "rollout.workers=1"], "set rollout.workers = 0"),
        (["rollout.drafts=2", 'sampling.stop=["x"]'], "leave sampling.stop out"),
    ],
)
def test_data_that_a_method_cannot_use_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(ValueError) as it:
        load_config(RLConfig, [], ["model.path=-", "task.kind=json", *words])
    assert message in str(it.value)
