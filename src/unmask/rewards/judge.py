"""A language model that judges, behind an OpenAI-compatible API.

A question is asked `votes` times. What may be mended by asking again is asked again, after a wait
that doubles, with jitter, and is never shorter than the server's own Retry-After: a connection that
fails, a slow reply, 408, 425, 429, 5xx, a body that is no chat completion, a reply that cannot be
read. What may not (another status) stops at once. When the tries are used up the run stops and keeps
its state: a judge that is down is never a reward of zero. Replies are kept on disk as they come
(`reply_cache`), so the questions of the step are not asked again by `--resume`.

Requests run in daemon threads: a signal ends the run at once, not when the last reply has come. The
key goes from the environment into the request's header and nowhere else; redirects are refused,
because they would carry it to another address.
"""

import json
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import Any

from unmask.configs.address import check_address
from unmask.configs.reward import EndpointConfig
from unmask.json_files import parse_json
from unmask.rewards.reply_cache import ReplyCache
from unmask.sandbox.http_post import post

ADDRESS = "OPENAI_BASE_URL"
MAX_REPLY_BYTES = 2**24
AGAIN = {408, 425, 429}

Read = Callable[[str], float | None]


class JudgeError(ConnectionError):
    """The judge cannot be asked, or does not answer: the run stops with its state kept."""


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why a try gave no reply, and how many seconds the server asks to wait."""

    reason: str
    wait_s: float = 0.0


class Judge:
    """An endpoint, its key and what it has replied so far."""

    def __init__(self, config: EndpointConfig, cache: Path) -> None:
        """Find address and key; nothing is asked yet.

        Args:
            config: the endpoint.
            cache: directory of replies.

        Raises:
            ValueError: naming the environment variable that is not set.
        """
        address = config.base_url or os.environ.get(ADDRESS)
        if not address:
            raise ValueError(
                f"reward: the judge {config.model!r} has no address: give endpoint.base_url, or set "
                f"the environment variable {ADDRESS}"
            )
        check_address(ADDRESS, address)
        self._url = f"{address.rstrip('/')}/chat/completions"
        self._key = _key(config.api_key_env)
        self._headers = {"Content-Type": "application/json"}
        if self._key is not None:
            self._headers["Authorization"] = f"Bearer {self._key}"
        self._config = config
        self._cache = ReplyCache(cache)

    def ask(self, questions: Sequence[str], read: Read) -> list[list[float]]:
        """Return `votes` numbers per question, in the order of the questions.

        Args:
            questions: what is asked, as the user's turn of a conversation.
            read: a reply to its number; None if it holds none.

        Raises:
            JudgeError: a question got no reply that could be read.
        """
        votes = self._config.votes
        asked = [(question, vote) for question in dict.fromkeys(questions) for vote in range(votes)]
        found = dict(zip(asked, self._ask_all(asked, read), strict=True))
        return [[found[question, vote] for vote in range(votes)] for question in questions]

    def _ask_all(self, asked: Sequence[tuple[str, int]], read: Read) -> list[float]:
        """Ask at most `concurrency` at a time; the first that fails ends all."""
        jobs: SimpleQueue[int] = SimpleQueue()
        done: SimpleQueue[tuple[int, float | Exception]] = SimpleQueue()
        stopped = Event()

        def work() -> None:
            while not stopped.is_set():
                try:
                    number = jobs.get_nowait()
                except Empty:
                    return
                try:
                    done.put((number, self._vote(*asked[number], read, stopped)))
                except Exception as error:  # raised again by the thread that waits for it
                    done.put((number, error))

        for number in range(len(asked)):
            jobs.put(number)
        for _ in range(min(self._config.concurrency, len(asked))):
            Thread(target=work, daemon=True).start()
        numbers: dict[int, float] = {}
        try:
            while len(numbers) < len(asked):
                number, vote = done.get()
                if isinstance(vote, Exception):
                    raise vote
                numbers[number] = vote
        finally:
            stopped.set()
        return [numbers[number] for number in range(len(asked))]

    def _vote(self, question: str, vote: int, read: Read, stopped: Event) -> float:
        body = self._body(question)
        # A vote is a draw of its own, so its number is part of what shapes the reply.
        key = {"body": body, "vote": vote}
        kept = self._cache.get(key)
        if kept is not None and (number := read(kept)) is not None:
            return number
        failure = _Failure("it was not asked")
        for attempt in range(self._config.retries + 1):
            if attempt and stopped.wait(self._wait_s(attempt, failure)):
                break
            reply = self._try(body)
            if isinstance(reply, str):
                number = read(reply)
                if number is not None:
                    self._cache.put(key, reply)
                    return number
                reply = _Failure(f"its reply cannot be read: ... {reply[-120:]!r}")
            failure = reply
        raise self._error(f"{failure.reason} ({self._config.retries + 1} tries)")

    def _body(self, question: str) -> dict[str, Any]:
        config = self._config
        return {
            "model": config.model,
            "messages": [{"role": "user", "content": question}],
            "temperature": config.temperature,
            "top_p": config.top_p,
            "max_tokens": config.max_tokens,
            **config.extra,
        }

    def _wait_s(self, attempt: int, failure: _Failure) -> float:
        """Return how long to wait before a try.

        Raises:
            JudgeError: the server asks for more than the config allows.
        """
        most = self._config.max_wait_s
        if failure.wait_s > most:
            raise self._error(
                f"{failure.reason}; it asks to wait {failure.wait_s:.0f} s, and "
                f"endpoint.max_wait_s = {most:g}"
            )
        longest = min(self._config.backoff_s * 2.0 ** (attempt - 1), most)
        # Jitter, so that threads that failed together do not come back together.
        return max(failure.wait_s, longest * random.uniform(0.5, 1.0))

    def _try(self, body: dict[str, Any]) -> "str | _Failure":
        """Send one request.

        Raises:
            JudgeError: the server refused it for good.
        """
        limit_s = self._config.timeout_s
        try:
            reply = post(
                self._url, json.dumps(body).encode(), self._headers, limit_s, MAX_REPLY_BYTES
            )
            if 200 <= reply.status < 300:
                return _content(reply.body)
        except TimeoutError:
            return _Failure(f"no reply in endpoint.timeout_s = {limit_s:g}")
        except (OSError, HTTPException, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            return _Failure(f"{type(error).__name__}: {reason}")
        stated = " ".join(reply.body[:300].decode(errors="replace").split())
        reason = f"it answered {reply.status}: {stated}"
        if reply.status in AGAIN or reply.status >= 500:
            return _Failure(reason, _retry_after(reply.headers.get("Retry-After")))
        raise self._error(reason)

    def _error(self, reason: str) -> JudgeError:
        if self._key is not None:
            reason = reason.replace(self._key, "[the key]")  # servers quote what they refuse
        return JudgeError(f"reward: the judge {self._config.model!r} at {self._url}: {reason}")


def _key(variable: str | None) -> str | None:
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ValueError(
            f"endpoint.api_key_env = {variable}: that environment variable is not set; put the "
            "judge's key into it"
        )
    return key


def _content(body: bytes) -> str:
    """Return the text of a chat completion.

    Raises:
        ValueError: it is none.
    """
    try:
        content = parse_json(body, "reply")["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError):
        content = None
    if not isinstance(content, str):
        raise ValueError(f"not a chat completion: {body[:120]!r}")
    return content


def _retry_after(header: str | None) -> float:
    """Return the seconds a Retry-After asks for, in either of its forms; 0 where it cannot be read."""
    if header is None:
        return 0.0
    if header.replace(".", "", 1).isdecimal():
        return float(header)
    try:
        when = parsedate_to_datetime(header)
    except (ValueError, OverflowError):
        return 0.0
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max((when - datetime.now(UTC)).total_seconds(), 0.0)
