"""A sandbox service on loopback with SandboxFusion's `run_code`, without isolation."""

import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class RunCodeServer:
    """What a service was asked, and what it replies.

    Attributes:
        plan: what the next requests are replied, status and body, in place of running them.
        bodies: of the requests so far.
    """

    plan: list[tuple[int, bytes]] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Run a program and describe its end as the published service does."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-c", request["code"]],
                input=request["stdin"].encode(),
                capture_output=True,
                cwd=folder,
                timeout=request["run_timeout"],
            )
        except subprocess.TimeoutExpired:
            result = {"status": "TimeLimitExceeded", "stdout": "", "stderr": ""}
            return {"status": "Failed", "message": "", "run_result": result}
    result = {
        "status": "Finished",
        "execution_time": 0.1,
        "return_code": done.returncode,
        "stdout": done.stdout.decode(errors="replace"),
        "stderr": done.stderr.decode(errors="replace"),
    }
    status = "Failed" if done.returncode else "Success"
    return {"status": status, "message": "", "compile_result": None, "run_result": result}


@contextmanager
def run_code_server(
    execute: Callable[[dict[str, Any]], dict[str, Any]] = run,
) -> Generator[RunCodeServer]:
    """Run a service on loopback."""
    state = RunCodeServer()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert self.path == "/run_code"
            state.bodies.append(request)
            status, body = 200, b""
            if state.plan:
                status, body = state.plan.pop(0)
            else:
                body = json.dumps(execute(request)).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
