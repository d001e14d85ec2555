"""Uploads against a stand-in of the Hub's API on loopback."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.exporting.hub_server import TOKEN, Hub, serving, use_hub
from tests.toy import toy_checkpoint
from unmask.exporting.hub import check_account, push


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving() as hub:
        yield hub


def test_an_export_is_uploaded_and_replaced(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_hub(hub.url, TOKEN, monkeypatch)
    check_account("me/model")
    model = toy_checkpoint(tmp_path / "model")
    (model / "README.md").write_text("---\nlicense: mit\n---\n# Card\n")
    hub.files["model-00001-of-00002.safetensors"] = b"of an earlier upload"
    hub.files["adapter_config.json"] = b"{}"
    hub.files["notes.txt"] = b"of the user"
    address = push(model, "me/model")
    files = {path.name: path.read_bytes() for path in model.iterdir()}
    assert hub.files == files | {"notes.txt": b"of the user"}
    assert address.endswith("/me/model/commit/1")
    # The default of the account, which is what huggingface_hub does too.
    assert "visibility" not in hub.created[0] and hub.created[0]["name"] == "model"
    (model / "config.json").write_text("{}")
    push(model, "me/model", is_private=True)
    assert hub.files["config.json"] == b"{}"
    assert hub.created[1]["visibility"] == "private"


@pytest.mark.parametrize("token", [None, "hf_wrong"])
def test_an_account_without_a_valid_token_is_refused(
    token: str | None, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_hub(hub.url, token, monkeypatch)
    with pytest.raises(ValueError, match=r"--push me/model: .*oken.*hf auth login") as refused:
        check_account("me/model")
    assert "\n" not in str(refused.value)


def test_mistakes_are_one_sentence(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="--push model: must be USER/NAME"):
        check_account("model")
    use_hub(hub.url, TOKEN, monkeypatch)
    hub.refuses = 403
    model = toy_checkpoint(tmp_path / "model")
    whole = f"You have no right to do that.*. {model} is complete: `hf upload me/model {model} .`"
    with pytest.raises(ValueError, match=whole) as refused:
        push(model, "me/model")
    assert "\n" not in str(refused.value)
    use_hub("http://127.0.0.1:9", TOKEN, monkeypatch)
    with pytest.raises(ValueError, match="--push me/model: the Hub refused or was not reached"):
        check_account("me/model")
