"""A stand-in of the Hub's HTTP API on loopback: account, repositories, large files, commits."""

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import huggingface_hub.constants
import pytest

TOKEN = "hf_toy"


class Hub:
    """The state of the stand-in.

    Attributes:
        url: its address.
        created: bodies of requests that created a repository.
        files: contents of the repository's files, by name.
        refuses: status that uploads are answered with, if not 0.
    """

    def __init__(self) -> None:
        self.url = ""
        self.created: list[dict[str, Any]] = []
        self.files: dict[str, bytes] = {}
        self.large: dict[str, bytes] = {}
        self.refuses = 0

    def answer(self, path: str, body: bytes) -> tuple[int, Any]:
        """Return status and JSON of a request to an address, or keep what it uploads."""
        if self.refuses and path != "/api/whoami-v2":
            return self.refuses, {"error": "You have no right to do that"}
        if path.startswith("/large/"):
            self.large[path.removeprefix("/large/")] = body
            return 200, {}
        siblings = [{"rfilename": name} for name in self.files]
        parts: dict[str, Callable[[], Any]] = {
            "/api/whoami-v2": lambda: {"name": "me", "type": "user", "orgs": []},
            "/api/repos/create": lambda: self._create(json.loads(body)),
            "/api/validate-yaml": lambda: {"warnings": [], "errors": []},
            "/lfs/objects/batch": lambda: self._upload_large(json.loads(body)["objects"]),
            "/preupload/": lambda: {"files": list(map(_mode, json.loads(body)["files"]))},
            "/commit/": lambda: self._commit(list(map(json.loads, body.splitlines()))),
            "/tree/": lambda: [
                {"type": "file", "path": n, "size": 1, "oid": "0"} for n in self.files
            ],
            "/api/models/": lambda: {"id": "me/model", "sha": "0" * 40, "siblings": siblings},
        }
        found = next((parts[part] for part in parts if part in path), None)
        return (404, {"error": f"no {path}"}) if found is None else (200, found())

    def _create(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.created.append(asked)
        return {"url": f"{self.url}/me/model", "id": "me/model"}

    def _upload_large(self, objects: list[dict[str, Any]]) -> dict[str, Any]:
        for item in objects:
            item["actions"] = {"upload": {"href": f"{self.url}/large/{item['oid']}"}}
        return {"transfer": "basic", "objects": objects}

    def _commit(self, lines: list[dict[str, Any]]) -> dict[str, Any]:
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                self.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                self.files[value["path"]] = self.large[value["oid"]]
            elif line["key"] == "deletedFile":
                del self.files[value["path"]]
        return {
            "success": True,
            "commitOid": "1" * 40,
            "commitUrl": f"{self.url}/me/model/commit/1",
        }


def _mode(file: dict[str, Any]) -> dict[str, Any]:
    mode = "lfs" if file["path"].endswith(".safetensors") else "regular"
    return {"path": file["path"], "uploadMode": mode, "shouldIgnore": False}


@contextmanager
def serving() -> Iterator[Hub]:
    """Serve a stand-in while the block runs."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = self.path.partition("?")[0]
            is_known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
            is_open = path.startswith("/large/")
            status, content = (
                hub.answer(path, body)
                if is_known or is_open
                else (401, {"error": "Invalid credentials"})
            )
            text = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_PUT = _answer

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def use_hub(url: str, token: str | None, patch: pytest.MonkeyPatch) -> None:
    """Make huggingface_hub of this process use an address and a token, and upload large files as LFS."""
    constants = huggingface_hub.constants
    patch.setattr(constants, "ENDPOINT", url)
    patch.setattr(constants, "HF_HUB_OFFLINE", False)
    patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    patch.setattr(constants, "HF_TOKEN_PATH", "/nonexistent/token")
    patch.delenv("HF_TOKEN", raising=False)
    if token is not None:
        patch.setenv("HF_TOKEN", token)
