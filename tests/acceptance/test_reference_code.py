"""Published code in a process of its own: refused, run, compared, and what it is given by family."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.evaluation.published_code import PARTS, with_code
from tests.models.toy import toy_spec
from unmask.acceptance.reference_code import (
    Job,
    PublishedCodeFailed,
    compare,
    forward_arguments,
    published_logits,
    require_code,
)
from unmask.checkpoints.checkpoint import load_model

PLACE = ("cpu", "float32")
TEXTS = [[7, 8, 9, 10, 11, 310, 12, 310, 310, 310], [5, 310, 6]]
SDAR = toy_spec()


def python_without_unmask(place: Path) -> str:
    """Write a program that is this Python, but cannot import unmask: a user's other one may not have it."""
    blocked = place / "unmask"
    blocked.mkdir()
    (blocked / "__init__.py").write_text("raise ImportError('unmask is not to be had')")
    program = place / "python"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={place} exec {sys.executable} "$@"\n')
    program.chmod(0o755)
    return str(program)


@pytest.mark.parametrize("family", PARTS)
def test_published_code_gives_our_logits(family: str, tmp_path: Path) -> None:
    directory = with_code(family, tmp_path / family)
    model = load_model(directory, mask_id=310)
    with torch.inference_mode():
        ours = [model.logits(torch.tensor([text]))[0] for text in TEXTS]
    before = sorted(path.name for path in directory.iterdir())
    require_code(directory)
    python = python_without_unmask(tmp_path)
    theirs, version = published_logits(Job(directory, TEXTS, model.spec, PLACE, python))
    found = compare(ours, theirs)
    assert found.largest < 5e-4
    assert found.mean <= found.worst_row <= found.largest
    assert found.same_top == 1.0
    assert found.num_rows == 13
    assert found.std > 1
    assert version[0].isdigit()
    # Nothing is left in the checkpoint except the mark that the code made itself.
    assert sorted(path.name for path in directory.iterdir()) == sorted([*before, "was_run"])


def failing_python(place: Path, *words: str) -> str:
    """Write a program that takes the place of Python, prints something and fails."""
    place.write_text("\n".join(("#!/bin/sh", *(f"echo '{word}' >&2" for word in words), "exit 3")))
    place.chmod(0o755)
    return str(place)


def test_the_last_line_of_a_failure_is_reported(tmp_path: Path) -> None:
    python = failing_python(tmp_path / "python", "Traceback", "ImportError: flash_attn", "")
    with pytest.raises(PublishedCodeFailed, match=r"^ImportError: flash_attn$"):
        published_logits(Job(tmp_path, TEXTS, SDAR, PLACE, python))
    silent = failing_python(tmp_path / "silent")
    with pytest.raises(PublishedCodeFailed, match=r"^exit code 3$"):
        published_logits(Job(tmp_path, TEXTS, SDAR, PLACE, silent))
    with pytest.raises(ValueError, match="--published-python /no/python: No such file"):
        published_logits(Job(tmp_path, TEXTS, SDAR, PLACE, "/no/python"))


@pytest.mark.parametrize(
    ("auto_map", "message"),
    [
        (None, "names no AutoModelForCausalLM"),
        ({"AutoConfig": "configuration_sdar.SDARConfig"}, "names no AutoModelForCausalLM"),
        ({"AutoModel": "modeling_x.X"}, "modeling_x.py is not in"),
        ({"AutoModel": "someone/elsewhere--modeling_sdar.X"}, "without a repository"),
    ],
)
def test_a_checkpoint_without_code_is_refused(
    auto_map: dict[str, str] | None, message: str, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"auto_map": auto_map}))
    (tmp_path / "modeling_sdar.py").touch()
    with pytest.raises(ValueError, match=message):
        require_code(tmp_path)


def test_logits_of_another_shape_are_no_comparison() -> None:
    with pytest.raises(PublishedCodeFailed, match=r"\(3, 6\), ours \(3, 5\)"):
        compare([torch.zeros(3, 5)], [torch.zeros(3, 6)])


def test_comparison_by_hand() -> None:
    ours = [torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 3.0]])]
    theirs = [torch.tensor([[1.0, 0.0]]), torch.tensor([[4.0, 3.0]])]
    found = compare(ours, theirs)
    assert (found.largest, found.mean, found.worst_row) == (4.0, 1.0, 2.0)
    assert (found.same_top, found.num_rows) == (0.5, 2)


def test_what_forward_is_given() -> None:
    model = SimpleNamespace(device="cpu", dtype=torch.bfloat16)
    assert forward_arguments("none", 5, 4, model) == {}
    assert forward_arguments("full", 5, None, model) == {"attention_mask": "full"}
    assert forward_arguments("block_size", 5, 4, model) == {"block_size": 4}
    seen = forward_arguments("seen", 5, 2, model)
    pattern = [[1, 1, 0, 0, 0]] * 2 + [[1, 1, 1, 1, 0]] * 2 + [[1, 1, 1, 1, 1]]
    assert seen["attention_mask"].tolist() == [[pattern]]
    assert seen["position_ids"].tolist() == [[0, 1, 2, 3, 4]]
    added = forward_arguments("added", 5, 2, model)["attention_mask"]
    assert added.dtype == torch.bfloat16
    assert added.exp().equal(seen["attention_mask"].to(torch.bfloat16))
