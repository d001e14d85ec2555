"""Generated pictures as files are the same task for `task.kind = "json"`."""

from pathlib import Path

import pytest

from unmask.configs.task import JsonTaskConfig, PictureTaskConfig
from unmask.tasks.build import build_task
from unmask.tasks.picture_files import picture_files


def test_files_hold_the_prompts(tmp_path: Path) -> None:
    config = PictureTaskConfig(name="digits", size=60)
    (tmp_path / "images").mkdir()
    for found in picture_files(config):
        (tmp_path / f"{found.split}.jsonl").write_text(found.lines)
        for name, content in found.images.items():
            (tmp_path / name).write_bytes(content)
    paths = {split: tmp_path / f"{split}.jsonl" for split in ("train", "validation", "test")}
    read = build_task(JsonTaskConfig(name="digits", template="{question}", **paths))
    drawn = build_task(config)
    for split in ("train", "validation", "test"):
        pairs = [*zip(read.prompts(split), drawn.prompts(split), strict=True)]
        assert pairs
        for one, other in pairs:
            assert one.messages == other.messages
            assert one.reference["answer"] == other.reference["answer"]


def test_a_split_without_a_share_has_no_file() -> None:
    config = PictureTaskConfig(name="counting", size=20, validation_share=0, test_share=0)
    (only,) = picture_files(config)
    assert (only.split, len(only.images)) == ("train", 20)


def test_a_share_that_holds_nothing_is_refused() -> None:
    config = PictureTaskConfig(name="counting", size=10, test_share=1e-9)
    with pytest.raises(ValueError, match="leave no test prompts"):
        list(picture_files(config))
