"""A judge's replies on disk, so that no question is ever paid for twice.

One small file per reply, whole or absent (`runs.files`), named by a hash of all that shapes the reply.
A run that goes on after an interruption, or is judged again, finds here what it has asked before. The
address of the judge is no part of the name: the same model may have moved. Nor is its key.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from unmask.json_files import parse_json
from unmask.runs.files import write_text


class ReplyCache:
    """Replies by what was asked."""

    def __init__(self, directory: Path) -> None:
        """Name the directory; it is made when the first reply is kept."""
        self._directory = directory

    def get(self, asked: Any) -> str | None:
        """Return the reply to a request, a JSON value; None where there is none yet."""
        path = self._path(asked)
        if not path.is_file():
            return None
        reply = parse_json(path.read_bytes(), str(path))
        if not isinstance(reply, str):
            raise ValueError(f"{path}: holds no reply; remove it, and it is asked for again")
        return reply

    def put(self, asked: Any, reply: str) -> None:
        """Keep the reply to a request."""
        path = self._path(asked)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(reply))

    def _path(self, asked: Any) -> Path:
        text = json.dumps(asked, sort_keys=True)
        name = hashlib.sha256(text.encode()).hexdigest()
        return self._directory / name[:2] / f"{name}.json"
