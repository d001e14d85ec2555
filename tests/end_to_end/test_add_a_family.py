"""docs/add-a-family.md, followed literally: its example works as a file of the folder, and outside the package."""

import re
from pathlib import Path

from tests.forked_python import run_python

PAGE = Path(__file__).parents[2] / "docs" / "add-a-family.md"
# In a process of its own: the folder of families is longer there.
INSIDE = """
import unmask.models.families as folder
folder.__path__.append("families")

import torch
from unmask import LLM, SamplingParams, load_model, save_model
from unmask.acceptance.verify import VerifyParams, verify
from unmask.checkpoints.random_init import init
from unmask.configs.model import ModelConfig

assert "example" in folder.family_names()
made = init("made", "example", seed=3)
loaded = load_model("made")
save_model(loaded, "saved")
again = load_model("saved", block_size=4)
ids = torch.arange(20)[None]
assert loaded.spec == made.spec and loaded.spec.family == "example"
assert loaded.logits(ids).equal(made.logits(ids)) and again.spec.block_size == 4
(written,) = LLM("saved").generate(["hello"], SamplingParams(max_tokens=8))
assert written.token_ids
report = verify(VerifyParams(ModelConfig(path="saved"), max_tokens=4))
assert report.passed, report.text()
assert ("preset", "sdar, dynamic, temperature 1") in report.facts
print("all done")
"""


def example() -> str:
    """Return the page's file."""
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (program,) = (block for block in blocks if "FAMILY = Family(" in block)
    return program


def run(*words: str, folder: Path) -> str:
    """Run this Python in a folder and return what it printed."""
    done = run_python(words, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_file_in_the_folder_is_a_family(tmp_path: Path) -> None:
    (tmp_path / "families").mkdir()
    (tmp_path / "families" / "example.py").write_text(example())
    assert "all done" in run("-c", INSIDE, folder=tmp_path)


def test_a_module_outside_the_package_is_a_family(tmp_path: Path) -> None:
    name = "my_family:FAMILY"
    (tmp_path / "my_family.py").write_text(example().replace('"example"', f'"{name}"'))
    unmask = ("-m", "unmask")
    assert name in run(*unmask, "init", "start", "--family", name, folder=tmp_path)
    report = run(*unmask, "verify", "start", "--family", name, folder=tmp_path)
    assert "Every check passed." in report
    assert "It loads." in run(*unmask, "inspect", "start", "--family", name, folder=tmp_path)
    words = ("generate", "start", "hi", "--max-tokens", "4", "--family", name)
    run(*unmask, *words, folder=tmp_path)
    (tmp_path / "data.jsonl").write_text('{"prompt": "1+1=", "response": "2"}\n' * 4)
    keys = ("model.path=start", f"model.family={name}", "data.path=data.jsonl", "run.dir=run")
    run(*unmask, "sft", *keys, "steps=1", "data.batch_size=2", "eval.problems=0", folder=tmp_path)
    assert "modeling_unmask.py" in run(*unmask, "export", "run", "out", folder=tmp_path)
    loaded = f"from unmask import load_model; load_model('out', family='{name}')"
    run("-c", loaded, folder=tmp_path)


def test_a_family_outside_the_package_must_be_named(tmp_path: Path) -> None:
    (tmp_path / "my_family.py").write_text(example().replace('"example"', '"my_family:FAMILY"'))
    run("-m", "unmask", "init", "start", "--family", "my_family:FAMILY", folder=tmp_path)
    done = run_python(["-m", "unmask", "inspect", tmp_path / "start"])
    assert done.returncode == 2
    assert "no family has the architecture 'ExampleForCausalLM'" in done.stdout
    assert "model.family = module:OBJECT" in done.stdout
    config = ("config", "eval", "model.path=start", "run.dir=r")
    done = run_python(["-m", "unmask", *config, "model.family=no_module:FAMILY"])
    assert done.returncode == 2
    assert "there is no module 'no_module'" in done.stderr
