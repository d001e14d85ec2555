"""A directory is what was saved, or the file that differs is named."""

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unmask.runs.manifest import (
    MANIFEST,
    damage,
    digest,
    digests,
    saved_files,
    write_manifest,
)

FILES = {"state.json": b"{}", "model/model.safetensors": bytes(range(256)), "model/empty": b""}


def saved(directory: Path) -> Path:
    for name, content in FILES.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(content)
    write_manifest(directory)
    return directory


def test_what_was_saved_is_whole(tmp_path: Path) -> None:
    assert list(damage(saved(tmp_path))) == []
    write_manifest(tmp_path)  # of all but itself
    assert list(damage(tmp_path)) == []
    (tmp_path / "later").write_text("of no account")
    assert list(damage(tmp_path)) == []


def test_the_digest_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert digest(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(sorted(FILES)), content=st.binary(max_size=300))
def test_any_other_content_is_found(name: str, content: bytes, tmp_path: Path) -> None:
    saved(tmp_path)
    (tmp_path / name).write_bytes(content)
    same = content == FILES[name]
    assert [str(tmp_path / name) in line for line in damage(tmp_path)] == ([] if same else [True])


def test_processes_may_share_the_files(tmp_path: Path) -> None:
    names = saved_files(saved(tmp_path))
    assert names == sorted(FILES)
    alone = (tmp_path / MANIFEST).read_text()
    shares = [digests(tmp_path, names[rank::2]) for rank in range(2)]
    write_manifest(tmp_path, shares[0] | shares[1])
    assert json.loads((tmp_path / MANIFEST).read_text()) == json.loads(alone)
    (tmp_path / names[1]).write_text("other")
    assert not list(damage(tmp_path, lambda names: names[0::2]))
    assert len(list(damage(tmp_path, lambda names: names[1::2]))) == 1


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    (saved(tmp_path) / "model" / "empty").unlink()
    assert list(damage(tmp_path)) == [f"{tmp_path / 'model' / 'empty'}: is missing"]


@pytest.mark.parametrize("text", [None, b"", b"{", b"[]", b"{}", b"\xff", b'{"state.json": 3}'])
def test_a_broken_manifest_is_damage(text: bytes | None, tmp_path: Path) -> None:
    manifest = saved(tmp_path) / MANIFEST
    manifest.unlink()
    if text is not None:
        manifest.write_bytes(text)
    assert len(list(damage(tmp_path))) == 1
