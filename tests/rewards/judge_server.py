"""A judge on loopback with the chat-completions API, which misbehaves on request."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from unmask.configs.reward import EndpointConfig

# What becomes of one request: the text of a good reply, or what goes wrong in its place.
Reply = str | Callable[["Handler"], None]
KEY = "sk-secret-0123456789"


@dataclass
class JudgeServer:
    """What a server was asked, and what it replies.

    Attributes:
        reply: question to reply, unless something is planned.
        plan: what becomes of the next requests, first to last.
        questions: asked so far.
        headers: of each request.
        most_at_once: most requests at the same time.
    """

    reply: Callable[[str], str]
    plan: list[Reply] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    running: int = 0
    most_at_once: int = 0
    delay_s: float = 0.0
    url: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)


class Handler(BaseHTTPRequestHandler):
    """One request."""

    state: JudgeServer

    def do_POST(self) -> None:
        state = self.state
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.path == "/v1/chat/completions"
        content = body["messages"][-1]["content"]
        question = content if isinstance(content, str) else content[-1]["text"]
        with state.lock:
            state.questions.append(question)
            state.bodies.append(body)
            state.headers.append(dict(self.headers))
            state.running += 1
            state.most_at_once = max(state.most_at_once, state.running)
            reply = state.plan.pop(0) if state.plan else state.reply(question)
        time.sleep(state.delay_s)
        with state.lock:
            state.running -= 1
        if callable(reply):
            reply(self)
        else:
            self.send(200, completion(reply))

    def send(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def completion(text: str) -> bytes:
    """Return the body of a good reply."""
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode()


def status(code: int, said: str = "no", **headers: str) -> Reply:
    """Reply with a status."""
    return lambda handler: handler.send(code, said.encode(), **headers)


def raw(body: bytes) -> Reply:
    """Reply 200 with any bytes."""
    return lambda handler: handler.send(200, body)


def drop(handler: Handler) -> None:
    """Close the connection without a word."""
    handler.close_connection = True


def cut(handler: Handler) -> None:
    """Promise a whole reply, and close the connection in the middle of it."""
    handler.send_response(200)
    handler.send_header("Content-Length", "500")
    handler.end_headers()
    handler.wfile.write(completion(r"\boxed{3}")[:20])
    handler.close_connection = True


def cut_status(handler: Handler) -> None:
    """Break off in the middle of saying what is wrong."""
    handler.send_response(503)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    handler.wfile.write(b"ff\r\nbusy")
    handler.close_connection = True


def drip(handler: Handler) -> None:
    """Send a byte now and then, so that no single wait is long."""
    body = completion(r"\boxed{3}")
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    try:
        for byte in body:
            handler.wfile.write(bytes([byte]))
            time.sleep(0.05)
    except OSError:
        pass


@contextmanager
def judge_server(
    reply: Callable[[str], str], port: int = 0, plan: list[Reply] | None = None
) -> Iterator[JudgeServer]:
    """Run a judge on loopback."""
    state = JudgeServer(reply, plan or [])
    handler = type("StatefulHandler", (Handler,), {"state": state})
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()


def endpoint(server: JudgeServer, **changes: Any) -> EndpointConfig:
    """Return the config of a server: little patience."""
    fields: dict[str, Any] = {"backoff_s": 0.001, "retries": 2, "timeout_s": 5.0, **changes}
    return EndpointConfig(model="toy-judge", base_url=server.url, **fields)
