"""What requests pass first: key, content type, size."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from tests.server.served import HTTP, NAME, Served, served
from unmask.server.guard import is_local

JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("toy")
    with served(directory, api_key="secret", max_body_bytes=2**20) as running:
        yield running


@pytest.mark.parametrize("key", ["wrong", "secret2", "s\u00e9cret", "Bearer"])
def test_a_wrong_key_is_refused(key: str, server: Served) -> None:
    for path, post in (("/v1/models", False), ("/v1/completions", True)):
        headers = {**JSON, "authorization": f"Bearer {key}".encode()}
        content = b"{}" if post else None
        found = HTTP.request(
            "POST" if post else "GET", server.url + path, content=content, headers=headers
        )
        assert found.status_code == 401
        assert found.json()["error"]["code"] == "invalid_api_key"


def test_the_key_lets_requests_in(server: Served) -> None:
    assert [model.id for model in server.client().models.list()] == [NAME]
    with pytest.raises(openai.AuthenticationError):
        server.client(default_headers={"authorization": "Bearer no"}).models.list()


def test_health_and_metrics_need_no_key(server: Served) -> None:
    assert HTTP.get(f"{server.url}/health").status_code == 200
    assert HTTP.get(f"{server.url}/metrics").status_code == 200


@pytest.mark.parametrize("kind", ["text/plain", "", "application/x-www-form-urlencoded"])
def test_a_body_of_another_type_is_refused(kind: str, server: Served) -> None:
    """Browsers send these to other origins without asking."""
    headers = {"authorization": "Bearer secret", "content-type": kind}
    found = HTTP.post(f"{server.url}/v1/completions", content=b"{}", headers=headers)
    assert found.status_code == 415 and found.json()["error"]["code"] == "not_json"


@pytest.mark.parametrize("is_chunked", [False, True])
@pytest.mark.parametrize("size", [2**20 + 1, 100 * 2**20])
def test_a_large_body_is_refused_and_not_kept(size: int, is_chunked: bool, server: Served) -> None:
    headers = {**JSON, "authorization": "Bearer secret"}
    pieces = (b" " * min(2**20, size - start) for start in range(0, size, 2**20))
    content: Any = pieces if is_chunked else b" " * size
    try:
        found = HTTP.post(f"{server.url}/v1/completions", content=content, headers=headers)
    except httpx2.TransportError:
        assert size > 8 * 2**20  # beyond what is read to the end, the connection may close first
    else:
        assert found.status_code == 413 and found.json()["error"]["code"] == "body_too_large"
    assert server.client().models.list().data


def test_a_body_within_the_limit_is_read(server: Served) -> None:
    headers = {**JSON, "authorization": "Bearer secret"}
    content = b'{"prompt": "1", "max_tokens": 2' + b" " * (2**20 - 40) + b"}"
    found = HTTP.post(f"{server.url}/v1/completions", content=content, headers=headers)
    assert found.status_code == 200


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1:80", "[::1]:8000"])
def test_own_names_of_the_machine(host: str) -> None:
    assert is_local(host)


@pytest.mark.parametrize(
    "host",
    ["", "evil.example", "evil.example:8000", "localhost.evil.example", "10.0.0.1", "[::1", "a:b"],
)
def test_other_names_are_foreign(host: str) -> None:
    assert not is_local(host)


def test_without_a_key_a_foreign_name_of_the_machine_is_refused(tmp_path: Path) -> None:
    with served(tmp_path) as running:
        for path in ("/", "/v1/models"):
            found = HTTP.get(running.url + path, headers={"host": "evil.example:8000"})
            assert found.status_code == 403
            assert found.json()["error"]["code"] == "foreign_host"
        assert HTTP.get(f"{running.url}/v1/models").status_code == 200
