"""`unmask export` as a user types it."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.cli.test_main import refused, unmask
from tests.exporting.hub_server import TOKEN, serving, use_hub
from tests.exporting.past_models import adapted_run, trained_run
from tests.toy import toy_checkpoint
from unmask.cli import main as cli


def test_a_run_is_exported(tmp_path: Path) -> None:
    run, out = trained_run(tmp_path / "run", "them/base"), tmp_path / "out"
    done = unmask("export", run, out, "--license", "mit")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        f'{out}: AutoModelForCausalLM.from_pretrained("{out}", trust_remote_code=True), by '
        "modeling_unmask.py\n"
    )
    assert refused("export", run, out).endswith(
        "out is there already: give a directory that is new or empty"
    )
    assert "no such directory" in refused("export", tmp_path / "none", tmp_path / "new")


def test_adapters_are_exported(tmp_path: Path) -> None:
    run, _ = adapted_run(tmp_path / "run", toy_checkpoint(tmp_path / "base"), "them/base")
    done = unmask("export", run, tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "PeftModel.from_pretrained(base, " in done.stdout and "base is them/base" in done.stdout
    assert "licence: none is stated" in done.stderr


def test_an_export_is_pushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = toy_checkpoint(tmp_path / "model")
    words = ["export", str(model), str(tmp_path / "out"), "--push", "me/model", "--private"]
    with serving() as hub:
        use_hub(hub.url, None, monkeypatch)
        done = CliRunner().invoke(cli.app, words)
        assert isinstance(done.exception, ValueError) and not (tmp_path / "out").exists()
        use_hub(hub.url, TOKEN, monkeypatch)
        done = CliRunner().invoke(cli.app, words)
        assert done.exit_code == 0, done.output
        assert done.stdout.splitlines()[-1] == f"{hub.url}/me/model/commit/1"
        assert hub.created[0]["visibility"] == "private"
        assert {"README.md", "modeling_unmask.py", "model.safetensors"} < hub.files.keys()
    words[2:] = [str(tmp_path / "two"), "--public"]
    with pytest.raises(ValueError, match="go with --push"):
        CliRunner().invoke(cli.app, words, catch_exceptions=False)
