"""The judge's client with a real server: retries, permanent failures, the cache, and the key."""

import signal
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from tests.rewards.judge_server import (
    KEY,
    JudgeServer,
    Reply,
    cut,
    cut_status,
    drip,
    drop,
    endpoint,
    judge_server,
    raw,
    status,
)
from unmask.configs.reward import EndpointConfig
from unmask.images import Image, image_from
from unmask.rewards.answers import last_boxed
from unmask.rewards.judge import Judge, JudgeError
from unmask.rewards.question import Question
from unmask.rewards.reply_cache import ReplyCache

GOOD = r"So: \boxed{3}"


def read(reply: str) -> float | None:
    boxed = last_boxed(reply)
    return float(boxed) if boxed in ("1", "3", "5") else None


def length(question: str) -> str:
    return rf"\boxed{{{1 if len(question) == 1 else 3 if len(question) == 2 else 5}}}"


def to_ask(*texts: str) -> list[Question]:
    return [Question(text) for text in texts]


def judge(server: JudgeServer, place: Path, **changes: Any) -> Judge:
    return Judge(endpoint(server, **changes), place / "judge")


def test_replies_come_in_the_order_of_the_questions_as_often_as_votes_are_to_ask(
    tmp_path: Path,
) -> None:
    with judge_server(length) as server:
        server.delay_s = 0.005
        found = judge(server, tmp_path, votes=3).ask(["aaa", *to_ask("a", "aa"), "a"], read)
        assert found == [[5.0] * 3, [1.0] * 3, [3.0] * 3, [1.0] * 3]
        assert sorted(server.questions) == sorted(["aaa", "a", "aa"] * 3)  # the same question once
        assert server.bodies[0]["model"] == "toy-judge"


def test_the_request_contains_the_configured_values(tmp_path: Path) -> None:
    extra = {"chat_template_kwargs": {"enable_thinking": False}}
    with judge_server(length) as server:
        judge(server, tmp_path, temperature=0.25, top_p=0.5, max_tokens=7, extra=extra).ask(
            to_ask("a"), read
        )
        assert server.bodies == [
            {
                "model": "toy-judge",
                "messages": [{"role": "user", "content": "a"}],
                "temperature": 0.25,
                "top_p": 0.5,
                "max_tokens": 7,
                **extra,
            }
        ]
        assert "Authorization" not in server.headers[0]


PNG, JPEG = (Image("a.png", b"\x89PNG\r\n\x1a\n1"), Image("b.png", b"\xff\xd8\xff2"))


def test_images_are_sent_before_the_text_as_their_files_are(tmp_path: Path) -> None:
    with judge_server(length) as server:
        found = judge(server, tmp_path, votes=2).ask([Question("aa", (PNG, JPEG))], read)
        assert found == [[3.0, 3.0]]
        (turn,) = server.bodies[0]["messages"]
        *images, text = turn["content"]
        assert (turn["role"], text) == ("user", {"type": "text", "text": "aa"})
        assert [image["type"] for image in images] == ["image_url"] * 2
        urls = [image["image_url"]["url"] for image in images]
        assert [url.partition(";")[0] for url in urls] == ["data:image/png", "data:image/jpeg"]
        assert [image_from(url) for url in urls] == [PNG, JPEG]
        assert server.bodies[0] == server.bodies[1]


def test_a_judge_of_text_gets_the_text_alone_when_the_config_asks_for_it(tmp_path: Path) -> None:
    with judge_server(length) as server:
        blind = judge(server, tmp_path, sends_images=False, max_image_bytes=1)
        assert blind.ask([Question("aa", (PNG,))], read) == [[3.0]]
        assert server.bodies[0]["messages"] == [{"role": "user", "content": "aa"}]


def test_replies_are_kept_by_the_content_of_the_images(tmp_path: Path) -> None:
    other = Image(PNG.name, PNG.data + b"2")
    questions = [Question("a", images) for images in ((), (PNG,), (other,), (PNG, other))]
    with judge_server(length) as server:
        for _ in range(2):
            judge(server, tmp_path).ask(questions, read)
            assert len(server.questions) == 4
        renamed = Question("a", (Image("moved.png", PNG.data),))
        judge(server, tmp_path).ask([renamed], read)
        judge(server, tmp_path, sends_images=False).ask(questions, read)
        assert len(server.questions) == 4  # the question without images has the reply
    # Images are named by their digest there, so a text's key is what it was before there were images.
    text_body = next(
        body for body in server.bodies if isinstance(body["messages"][0]["content"], str)
    )
    assert ReplyCache(tmp_path / "judge").get({"body": text_body, "vote": 0}) == length("a")


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ((PNG, JPEG), r"\(a.png, b.png\) have 13 bytes, and endpoint.max_image_bytes = 12: raise"),
        ((Image("c.tiff", b"II*\0"),), "c.tiff is no image of the formats PNG, JPEG, WebP, GIF"),
    ],
)
def test_images_that_cannot_be_sent_stop_the_run_before_a_question(
    images: tuple[Image, ...], message: str, tmp_path: Path
) -> None:
    with judge_server(length) as server:
        with pytest.raises(ValueError, match=message):
            judge(server, tmp_path, max_image_bytes=12).ask(
                [*to_ask("a"), Question("b", images)], read
            )
        assert not server.questions


@pytest.mark.parametrize(
    "failure",
    [
        status(429),
        status(429, Retry_After="0.01"),
        status(429, Retry_After="next week"),
        status(500),
        status(503, "<html>busy</html>"),
        status(408),
        status(429, Retry_After="nan"),
        status(429, Retry_After="Mon, 01 Jan 99999999999999999999 00:00:00 GMT"),
        cut_status,
        raw(b"{broken"),
        raw(b"[]"),
        raw(b'{"choices": []}'),
        raw(b'{"choices": [{"message": {"content": null}}]}'),
        raw(b"\xff\xfe"),
        raw(b"[" * 20_000),
        raw(b'{"a":' * 20_000),
        raw(b'{"choices": %s}' % (b"9" * 5000)),
        raw(b'{"choices": [{"message": {"content": %s}}]}' % (b"[" * 300 + b"]" * 300)),
        drop,
        cut,
        "I would rather not say.",
        r"\boxed{7}",
        "",
    ],
)
def test_failures_that_may_be_temporary_are_tried_again(failure: Reply, tmp_path: Path) -> None:
    with judge_server(length, plan=[failure, failure]) as server:
        assert judge(server, tmp_path).ask(to_ask("a"), read) == [[1.0]]
        assert len(server.questions) == 3


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (status(500, "out of memory"), r"it answered 500: out of memory \(3 tries\)"),
        (status(429, "slow\ndown"), r"it answered 429: slow down \(3 tries\)"),
        (raw(b"[" * 20_000), r"not a chat completion: b'\[\[.*\(3 tries\)"),
        (raw(b"{broken"), r"not a chat completion: b'\{broken' \(3 tries\)"),
        (drop, r"RemoteProtocolError: .*disconnected.*\(3 tries\)"),
        (cut, r"without sending complete message.*\(3 tries\)"),
        ("Hard to say.", r"its reply cannot be read: \.\.\. 'Hard to say\.' \(3 tries\)"),
    ],
)
def test_when_the_tries_are_used_up_it_stops_and_names_judge_address_and_reason(
    failure: Reply, said: str, tmp_path: Path
) -> None:
    with judge_server(length, plan=[failure] * 3) as server:
        where = rf"^reward: the judge 'toy-judge' at {server.url}/chat/completions: .*"
        with pytest.raises(JudgeError, match=where + said):
            judge(server, tmp_path).ask(to_ask("a"), read)
        assert len(server.questions) == 3


@pytest.mark.parametrize("code", [400, 401, 403, 404, 422])
def test_permanent_failures_stop_at_once(code: int, tmp_path: Path) -> None:
    with judge_server(length, plan=[status(code, "never")]) as server:
        with pytest.raises(JudgeError, match=f"it answered {code}: never$"):
            judge(server, tmp_path).ask(to_ask("a"), read)
        assert len(server.questions) == 1


def test_a_redirect_does_not_carry_the_key_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_KEY", KEY)
    with judge_server(length) as other, judge_server(length) as server:
        server.plan = [status(307, "there", Location=f"{other.url}/chat/completions")]
        with pytest.raises(JudgeError, match="it answered 307"):
            judge(server, tmp_path, api_key_env="TOY_KEY").ask(to_ask("a"), read)
        assert not other.questions


@pytest.mark.parametrize("slow", [lambda handler: time.sleep(1.5), drip])
def test_a_slow_reply_is_given_up(slow: Any, tmp_path: Path) -> None:
    said = r"no reply in endpoint\.timeout_s = 0\.2 \(2 tries\)"
    with judge_server(length, plan=[slow] * 2) as server, pytest.raises(JudgeError, match=said):
        judge(server, tmp_path, timeout_s=0.2, retries=1).ask(to_ask("a"), read)


def test_a_refused_connection_stops_it(tmp_path: Path) -> None:
    with judge_server(length) as server:
        pass
    with pytest.raises(JudgeError, match=r"ConnectionRefusedError.*\(3 tries\)"):
        judge(server, tmp_path).ask(to_ask("a"), read)


@pytest.mark.parametrize(
    "asked",
    ["120", format_datetime(datetime.now(UTC) + timedelta(days=1), usegmt=True)],
    ids=["seconds", "date"],
)
def test_a_retry_after_beyond_the_limit_stops_the_run(asked: str, tmp_path: Path) -> None:
    with judge_server(length, plan=[status(429, "later", Retry_After=asked)]) as server:
        with pytest.raises(JudgeError, match=r"asks to wait \d+ s, and endpoint\.max_wait_s = 60"):
            judge(server, tmp_path).ask(to_ask("a"), read)
        assert len(server.questions) == 1


def test_the_wait_a_server_asks_for_is_kept(tmp_path: Path) -> None:
    with judge_server(length, plan=[status(429, Retry_After="0.3")]) as server:
        start = time.monotonic()
        judge(server, tmp_path).ask(to_ask("a"), read)
        assert time.monotonic() - start >= 0.3


def test_no_more_requests_run_at_once_than_allowed(tmp_path: Path) -> None:
    with judge_server(length) as server:
        server.delay_s = 0.02
        judge(server, tmp_path, concurrency=3).ask(to_ask(*map(str, range(10, 22))), read)
        assert 1 < server.most_at_once <= 3


def test_replies_are_shared_by_all_judges_of_a_directory(tmp_path: Path) -> None:
    with judge_server(length) as server:
        first = judge(server, tmp_path, votes=2).ask(to_ask("a", "aa"), read)
        assert len(server.questions) == 4
        again = judge(server, tmp_path, votes=2, timeout_s=9, concurrency=1)
        assert again.ask(to_ask("aa", "a"), read) == first[::-1]
        assert len(server.questions) == 4
        again.ask(to_ask("aaa"), read)
        assert len(server.questions) == 6


@pytest.mark.parametrize(
    "change",
    [{"temperature": 0.1}, {"top_p": 0.1}, {"max_tokens": 3}, {"extra": {"seed": 1}}, {"votes": 2}],
)
def test_every_key_that_shapes_a_reply_is_part_of_its_name(
    change: dict[str, Any], tmp_path: Path
) -> None:
    with judge_server(length) as server:
        judge(server, tmp_path).ask(to_ask("a"), read)
        judge(server, tmp_path, **change).ask(to_ask("a"), read)
        assert len(server.questions) == 2


def test_a_reply_that_could_not_be_read_is_not_kept(tmp_path: Path) -> None:
    with judge_server(length, plan=["hm"]) as server:
        with pytest.raises(JudgeError):
            judge(server, tmp_path, retries=0).ask(to_ask("a"), read)
        assert judge(server, tmp_path).ask(to_ask("a"), read) == [[1.0]]
        assert len(server.questions) == 2


def test_replies_received_before_the_judge_failed_are_kept(tmp_path: Path) -> None:
    bad = [status(500)] * 9
    with judge_server(length, plan=[GOOD, GOOD, *bad]) as server:
        with pytest.raises(JudgeError):
            judge(server, tmp_path, concurrency=1).ask(to_ask("a", "b", "c"), read)
        server.plan.clear()
        server.questions.clear()
        assert judge(server, tmp_path).ask(to_ask("a", "b", "c"), read) == [[3.0], [3.0], [1.0]]
        assert server.questions == ["c"]


def test_the_key_is_sent_and_neither_written_nor_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_KEY", KEY)
    with judge_server(length) as server:
        asking = judge(server, tmp_path, api_key_env="TOY_KEY")
        asking.ask(to_ask("a"), read)
        assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
        server.plan = [status(401, f"your key {KEY} is wrong")]
        with pytest.raises(JudgeError, match=r"your key \[the key\] is wrong") as it:
            asking.ask(to_ask("b"), read)
        assert KEY not in str(it.value)
    written = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) == 1
    assert not [text for text in written if KEY in text]


def test_a_key_or_an_address_that_is_not_there_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(ValueError, match="the environment variable OPENAI_BASE_URL"):
        Judge(EndpointConfig(model="m"), tmp_path)
    with pytest.raises(ValueError, match="NO_SUCH_KEY: that environment variable is not set"):
        Judge(
            EndpointConfig(model="m", base_url="http://x/v1", api_key_env="NO_SUCH_KEY"), tmp_path
        )
    with judge_server(length) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        assert Judge(EndpointConfig(model="m"), tmp_path).ask(to_ask("a"), read) == [[1.0]]


def test_a_signal_ends_the_wait_at_once(tmp_path: Path) -> None:
    def alarm(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    answered, others = threading.Event(), set(threading.enumerate())
    before = signal.signal(signal.SIGALRM, alarm)
    try:
        with judge_server(length, plan=[lambda handler: answered.wait(30) and None]) as server:
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            with pytest.raises(KeyboardInterrupt):
                judge(server, tmp_path, timeout_s=60).ask(to_ask("a"), read)
            assert not answered.is_set()
    finally:
        answered.set()
        signal.signal(signal.SIGALRM, before)
    assert all(thread.daemon for thread in set(threading.enumerate()) - others)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"api_key_env": KEY}, "never the key itself"),
        ({"base_url": "http://me:secret@host/v1"}, "no user or password"),
        ({"base_url": "127.0.0.1:8000"}, "write it as http"),
        ({"base_url": "http:///v1"}, "write it as http"),
        ({"votes": 3, "temperature": 0.0}, "are one vote"),
    ],
)
def test_an_endpoint_that_cannot_be_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        EndpointConfig(model="m", **fields)
