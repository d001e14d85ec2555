"""Client of a language model that judges, behind an OpenAI-compatible API.

Each question is asked `votes` times. A failure that another try may repair is tried again: a failed
connection, a late reply, status 408, 425, 429 or 5xx, a body that is no chat completion, a reply that
cannot be read. The wait before a try doubles, has jitter, and is at least the server's Retry-After.
Any other status stops at once. When the tries are used up, the run stops with its state kept: a judge
that is down never becomes a reward of zero. Replies are kept on disk as they arrive (`reply_cache`), so
`--resume` does not ask the questions of the step again.

The images of a question go before its text as parts `image_url`, each file as it is in a data URL. They are
left out only for a judge with `sends_images = false`.

The key is read from the environment and written into the request's header only; redirects are not
followed, because they would carry it to another address.
"""

import asyncio
import json
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unmask.configs.address import check_address
from unmask.configs.reward import EndpointConfig
from unmask.images import Image, data_url, media_type
from unmask.json_files import parse_json
from unmask.rewards.question import Question
from unmask.rewards.reply_cache import ReplyCache
from unmask.sandbox.http_post import post, run_with_client

if TYPE_CHECKING:
    from httpx2 import AsyncClient

ADDRESS = "OPENAI_BASE_URL"
MAX_REPLY_BYTES = 2**24
AGAIN = {408, 425, 429}

Read = Callable[[str], float | None]


class JudgeError(ConnectionError):
    """The judge does not answer: the run stops with its state kept."""


@dataclass(frozen=True, slots=True)
class _Failure:
    """The reason why a try gave no reply, and the seconds that the server asks to wait."""

    reason: str
    wait_s: float = 0.0


class Judge:
    """An endpoint, its key, and the replies on disk."""

    def __init__(self, config: EndpointConfig, cache: Path) -> None:
        """Read address and key; no request is sent yet.

        Args:
            config: the endpoint.
            cache: directory of replies.

        Raises:
            ValueError: naming the environment variable that is not set.
        """
        address = config.base_url or os.environ.get(ADDRESS)
        if not address:
            raise ValueError(
                f"reward: the judge {config.model!r} has no address: set endpoint.base_url or the "
                f"environment variable {ADDRESS}"
            )
        check_address(ADDRESS, address)
        self._url = f"{address.rstrip('/')}/chat/completions"
        variable = config.api_key_env
        self._key = None if variable is None else os.environ.get(variable, "").strip()
        if self._key == "":
            raise ValueError(
                f"endpoint.api_key_env = {variable}: that environment variable is not set; put the "
                "judge's key there"
            )
        authorization = {} if self._key is None else {"Authorization": f"Bearer {self._key}"}
        self._headers = {"Content-Type": "application/json", **authorization}
        self._config = config
        self._cache = ReplyCache(cache)

    def ask(self, questions: Sequence[Question | str], read: Read) -> list[list[float]]:
        """Return `votes` numbers per question, in the order of the questions.

        Args:
            questions: sent as the user's turn of a conversation, each different one once per vote; a text is
                a question without images.
            read: turns a reply into its number; None for a reply that holds none.

        Raises:
            JudgeError: a question got no reply that could be read.
            ValueError: the images of a question exceed `endpoint.max_image_bytes`, or one is of no known
                format; no question is sent.
        """
        whole = [Question(one) if isinstance(one, str) else one for one in questions]
        for images in dict.fromkeys(question.images for question in whole):
            self._check(images)
        votes = self._config.votes
        asked = [(question, vote) for question in dict.fromkeys(whole) for vote in range(votes)]

        async def ask_all(client: "AsyncClient") -> list[float]:
            free = asyncio.Semaphore(self._config.concurrency)
            # The first exception ends the call, and with it the requests that still run.
            return await asyncio.gather(*(self._vote(client, free, *one, read) for one in asked))

        numbers = dict(zip(asked, run_with_client(ask_all), strict=True))
        return [[numbers[question, vote] for vote in range(votes)] for question in whole]

    def _check(self, images: Sequence[Image]) -> None:
        """Refuse images that cannot be sent."""
        if not self._config.sends_images:
            return
        size, most = sum(len(image.data) for image in images), self._config.max_image_bytes
        if size > most:
            raise ValueError(
                f"reward: the images of a prompt ({', '.join(image.name for image in images)}) have "
                f"{size} bytes, and endpoint.max_image_bytes = {most}: raise that if the judge takes "
                "them, or store them smaller"
            )
        for image in images:
            media_type(image)

    async def _vote(
        self,
        client: "AsyncClient",
        free: asyncio.Semaphore,
        question: Question,
        vote: int,
        read: Read,
    ) -> float:
        # Each vote is a separate draw, so its number is part of the cache key.
        key = {"body": self._body(question, lambda image: image.digest.hex()), "vote": vote}
        kept = self._cache.get(key)
        if kept is not None and (number := read(kept)) is not None:
            return number
        failure = _Failure("not asked")
        async with free:
            # Made here, so that no more encoded images are in memory than requests run.
            data = json.dumps(self._body(question, data_url)).encode()
            for attempt in range(self._config.retries + 1):
                if attempt:
                    await asyncio.sleep(self._wait_s(attempt, failure))
                reply = await self._try(client, data)
                if isinstance(reply, str):
                    number = read(reply)
                    if number is not None:
                        self._cache.put(key, reply)
                        return number
                    reply = _Failure(f"its reply cannot be read: ... {reply[-120:]!r}")
                failure = reply
        raise self._error(f"{failure.reason} ({self._config.retries + 1} tries)")

    def _body(self, question: Question, url_of: Callable[[Image], str]) -> dict[str, Any]:
        sent = self._config.model_dump(include={"model", "temperature", "top_p", "max_tokens"})
        content: str | list[dict[str, Any]] = question.text
        if question.images and self._config.sends_images:
            urls = map(url_of, question.images)
            content = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
            content.append({"type": "text", "text": question.text})
        return {**sent, "messages": [{"role": "user", "content": content}], **self._config.extra}

    def _wait_s(self, attempt: int, failure: _Failure) -> float:
        """Return the seconds to wait before a try.

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
        # Jitter, so that requests that failed together do not return together.
        return max(failure.wait_s, longest * random.uniform(0.5, 1.0))

    async def _try(self, client: "AsyncClient", data: bytes) -> "str | _Failure":
        """Send one request and return the text of the reply.

        Raises:
            JudgeError: the status is one that asking again does not change.
        """
        limit_s = self._config.timeout_s
        try:
            reply = await post(client, self._url, data, self._headers, limit_s, MAX_REPLY_BYTES)
            if 200 <= reply.status < 300:
                return _content(reply.body)
        except TimeoutError:
            return _Failure(f"no reply in endpoint.timeout_s = {limit_s:g}")
        except (ConnectionError, ValueError) as error:
            return _Failure(str(error))
        body_shown = " ".join(reply.body[:300].decode(errors="replace").split())
        reason = f"it answered {reply.status}: {body_shown}"
        if reply.status in AGAIN or reply.status >= 500:
            return _Failure(reason, _retry_after(reply.headers.get("Retry-After", "")))
        raise self._error(reason)

    def _error(self, reason: str) -> JudgeError:
        if self._key is not None:
            reason = reason.replace(self._key, "[the key]")  # servers quote what they refuse
        return JudgeError(f"reward: the judge {self._config.model!r} at {self._url}: {reason}")


def _content(body: bytes) -> str:
    """Return the text of a chat completion.

    Raises:
        ValueError: the body is no chat completion.
    """
    try:
        content = parse_json(body, "reply")["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError):
        content = None
    if not isinstance(content, str):
        raise ValueError(f"not a chat completion: {body[:120]!r}")
    return content


def _retry_after(header: str) -> float:
    """Return the seconds of a Retry-After header, a number or a date; 0 where it cannot be read."""
    if header.replace(".", "", 1).isdecimal():
        return float(header)
    try:
        when = parsedate_to_datetime(header)
    except (ValueError, OverflowError):
        return 0.0
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max((when - datetime.now(UTC)).total_seconds(), 0.0)
