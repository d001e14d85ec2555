"""Replies on disk are returned unchanged, and only for the same request."""

from pathlib import Path

import pytest

from unmask.rewards.reply_cache import ReplyCache


@pytest.mark.parametrize("reply", ["", "a\r\nb", "naïve ✓", "\ud800", "x" * 10_000])
def test_a_reply_is_returned_unchanged(reply: str, tmp_path: Path) -> None:
    cache = ReplyCache(tmp_path / "judge")
    asked = {"a": 1, "b": [2.5, "\ud800"]}
    assert cache.get(asked) is None
    assert not (tmp_path / "judge").exists()
    cache.put(asked, reply)
    assert ReplyCache(tmp_path / "judge").get({"b": [2.5, "\ud800"], "a": 1}) == reply
    assert cache.get({"a": 1, "b": [2.5, "?"]}) is None


def test_a_file_of_a_killed_process_is_no_reply(tmp_path: Path) -> None:
    cache = ReplyCache(tmp_path)
    cache.put("asked", "reply")
    (path,) = tmp_path.rglob("*.json")
    path.rename(path.with_name(f"{path.name}.tmp-00112233"))
    assert cache.get("asked") is None


@pytest.mark.parametrize("left", ["", '{"a": 1}', "[" * 20_000])
def test_a_damaged_reply_is_an_error_that_names_its_file(left: str, tmp_path: Path) -> None:
    cache = ReplyCache(tmp_path)
    cache.put("asked", "reply")
    (path,) = tmp_path.rglob("*.json")
    path.write_text(left)
    with pytest.raises(ValueError, match=f"^{path}: "):
        cache.get("asked")
