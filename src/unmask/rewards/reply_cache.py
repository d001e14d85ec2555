"""A judge's replies on disk, so that no question is sent twice.

One file per reply, written atomically (`runs.files`), and named by a hash of everything that shapes the
reply. A resumed or regraded run finds its earlier replies here. Address and key of the judge are not
part of the name: the same model may be served elsewhere.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from unmask.json_files import parse_json
from unmask.runs.files import write_text


class ReplyCache:
    """Replies by request."""

    def __init__(self, directory: Path) -> None:
        """Set the directory, which the first `put` makes."""
        self._directory = directory

    def get(self, asked: Any) -> str | None:
        """Return the reply to a request, a JSON value; None if there is none yet."""
        path = self._path(asked)
        if not path.is_file():
            return None
        reply = parse_json(path.read_bytes(), str(path))
        if not isinstance(reply, str):
            raise ValueError(f"{path}: holds no reply; remove it, and the request is sent again")
        return reply

    def put(self, asked: Any, reply: str) -> None:
        """Write the reply to a request."""
        path = self._path(asked)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(reply))

    def _path(self, asked: Any) -> Path:
        text = json.dumps(asked, sort_keys=True)
        name = hashlib.sha256(text.encode()).hexdigest()
        return self._directory / name[:2] / f"{name}.json"
