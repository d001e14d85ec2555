"""The playground: its page loads under its policy, and in a real browser it chats, compares and stops."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise, product
from pathlib import Path
from threading import Semaphore
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.server.served import NAME, Served, served
from tests.viewer.browser import chromium, needs_chromium
from tests.viewer.page import Page as Parsed
from unmask.engine.llm import Generation
from unmask.sampling_params import SamplingParams
from unmask.viewer.markup import csp_hash

KEY = "key-9f2c"
QUESTION = "1+2+3="  # 6 tokens: the first block of 4 has room for 2
MANY = 10_000
# The position and the text of the tokens that the player shows after each step.
SHOWN = """() => {
  const player = document.querySelector("unmask-player");
  const tokens = () => [...player.shadowRoot.querySelectorAll(".canvas .token:not(.veiled)")];
  return Array.from({ length: player.last + 1 }, (_, step) => {
    player.step = step;
    return tokens().map((token) => [token.dataset.position, token.textContent]);
  });
}"""
NONE = "\N{EN DASH}"


@pytest.fixture(scope="module")
def ticks() -> Semaphore:
    """Return the ticks that the engine may still do."""
    return Semaphore(MANY)


@pytest.fixture
def gate(ticks: Semaphore) -> Iterator[Semaphore]:
    """Stop the engine of the server for a test, which releases single ticks."""
    while ticks.acquire(blocking=False):
        pass
    yield ticks
    ticks.release(MANY)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, ticks: Semaphore) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("toy"), api_key=KEY) as running:
        llm: Any = running.engine.llm
        tick = llm.tick

        def gated() -> Any:
            ticks.acquire()
            return tick()

        llm.tick = gated
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=60_000)  # only a failure takes as long, on a machine under load
    with chromium() as started:
        yield started


@contextmanager
def visited(
    browser: Browser, server: Served, is_refused: bool = False, **options: Any
) -> Iterator[Page]:
    """Yield the playground with its key, and check at the end that nothing failed in it.

    Args:
        browser: that opens it.
        server: whose page it is.
        is_refused: whether a request is refused, which browsers write to the console.
        options: of the browser's context: viewport, colour scheme.
    """
    context = browser.new_context(**options)
    page, problems, foreign = context.new_page(), list[str](), list[str]()
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: foreign.append(request.url))
    page.goto(server.url)
    page.fill("#key", KEY)
    page.press("#key", "Tab")
    expect(page.locator("#model")).to_have_text(NAME)
    yield page
    context.close()
    if is_refused:
        problems = [text for text in problems if "Failed to load resource" not in text]
    assert not problems, problems
    foreign = [url for url in foreign if not url.startswith((server.url, "data:"))]
    assert not foreign, foreign


def ask(page: Page, question: str = QUESTION, **fields: object) -> None:
    """Fill fields of both settings and send a question, by the keyboard."""
    for name, value in fields.items():
        for control in page.locator(
            f"#controls .{name}:visible > :is(select, [type=number], [type=text])"
        ).all():
            if name == "strategy":
                control.select_option(str(value))
            else:
                control.fill(str(value))
    page.fill("#question", question)
    page.press("#question", "Enter")


def offline(server: Served, **fields: Any) -> Generation:
    (found,) = server.offline.chat(
        [{"role": "user", "content": QUESTION}], SamplingParams(**{"max_tokens": 40, **fields})
    )
    return found


def long_seed(server: Served) -> int:
    """Return a seed whose responses do not stop early."""
    return next(seed for seed in range(99) if len(offline(server, seed=seed).token_ids) == 40)


def number(page: Page, name: str, side: int = 0) -> str:
    """Return a number under a canvas."""
    pair = page.locator(".side").nth(side).locator(".numbers div")
    return pair.filter(has=page.get_by_text(name, exact=True)).locator("dd").inner_text()


def test_the_page_is_self_contained_and_its_policy_admits_its_scripts(server: Served) -> None:
    found = httpx2.get(server.url)  # without the key
    assert found.status_code == 200 and found.headers["content-type"].startswith("text/html")
    page, policy = Parsed(found.text), found.headers["content-security-policy"]
    scripts = [e for e in page.all("script") if e.attributes.get("type") != "application/json"]
    for element in (*scripts, *page.all("style")):
        assert csp_hash(element.text) in policy
    assert len(scripts) == 2 and "unsafe" not in policy and "default-src 'none'" in policy
    assert not re.findall(r"(?:src|href)=\"(?!data:)", found.text)
    facts = page.data("facts")
    assert facts["needs_key"] and facts["mask_id"] == server.offline.model.spec.mask_id
    assert facts["defaults"]["threshold"] == SamplingParams().threshold
    assert f'"{NAME}"' not in found.text and KEY not in found.text


@needs_chromium
def test_a_server_without_a_key_shows_its_model_and_its_defaults(
    tmp_path: Path, browser: Browser
) -> None:
    sampling = SamplingParams(threshold=0.6, remask_threshold=0.4, max_tokens=24)
    with served(tmp_path, sampling=sampling) as running:
        page = browser.new_page()
        page.goto(running.url)
        expect(page.locator("#model")).to_have_text(NAME)
        assert page.locator("#key-field").is_hidden()
        assert page.get_by_label("Threshold").first.input_value() == "0.6"
        page.get_by_role("button", name="3+4+5=").click()
        expect(page.locator(".answer.done")).to_be_visible()
        shown: list[list[list[str]]] = page.evaluate(SHOWN)
        page.context.close()
    # Tokens that are masked again are hidden again, and no mask token is shown.
    positions = [{position for position, _ in tokens} for tokens in shown]
    assert any(before - after for before, after in pairwise(positions))
    assert not any("mask" in piece for tokens in shown for _, piece in tokens)


@needs_chromium
def test_a_chat_fills_the_canvas_while_it_is_written(
    browser: Browser, server: Served, gate: Semaphore
) -> None:
    seed = long_seed(server)
    expected = offline(server, seed=seed)
    with visited(browser, server) as page:
        ask(page, max_tokens=40, seed=seed)
        player, answer = page.locator("unmask-player").first, page.locator(".answer")
        expect(player.locator(".counter")).to_contain_text("0 of 2 revealed")
        gate.release(12)
        shown = player.locator(".canvas .token:not(.veiled)")
        expect(shown.nth(4)).to_be_visible()
        expect(answer.locator(".text")).not_to_be_empty()  # the text of the first blocks
        assert shown.count() < 40 and page.locator("#stop").is_visible()
        assert number(page, "forward passes") == NONE  # known at the end
        gate.release(MANY)
        expect(page.locator(".answer.done")).to_be_visible()
        assert answer.locator(".text").evaluate("e => e.textContent") == expected.text
        assert answer.locator(".text").evaluate("e => e.childElementCount") == 0
        assert player.locator(".canvas .token:not(.veiled, .beyond)").count() == 40
        assert number(page, "forward passes") == str(expected.num_forwards)
        assert number(page, "tokens") == "40"


@needs_chromium
def test_two_settings_are_compared_with_one_seed(browser: Browser, server: Served) -> None:
    seed = long_seed(server)
    with visited(browser, server) as page:
        page.get_by_role("button", name="Compare two settings").click()
        second = page.locator("#controls fieldset").nth(1)
        second.locator(".strategy select").select_option("static")
        second.locator(".denoising_steps input").fill("2")
        ask(page, max_tokens=40, seed=seed, temperature=0.5)
        expect(page.locator(".answer.done")).to_have_count(2)
        settings: list[dict[str, Any]] = [{}, {"strategy": "static", "denoising_steps": 2}]
        expected = [offline(server, seed=seed, temperature=0.5, **fields) for fields in settings]
        texts = page.locator(".answer .text").evaluate_all("all => all.map(e => e.textContent)")
        assert texts == [one.text for one in expected]
        for side, one in enumerate(expected):
            assert page.locator("unmask-player").nth(side).is_visible()
            assert number(page, "forward passes", side) == str(one.num_forwards)
            assert float(number(page, "tokens/s", side).replace(",", "")) > 0
        expect(page.locator("#verdict")).to_contain_text("tokens per forward pass")

        # The conversation goes on with the chosen answer.
        page.get_by_label("Continue with this answer").nth(1).check()
        with page.expect_request("**/v1/chat/completions") as sent:
            ask(page, "3")
        messages: list[dict[str, str]] = sent.value.post_data_json["messages"]
        assert [message["content"] for message in messages] == [QUESTION, texts[1], "3"]
        expect(page.locator(".answer.done")).to_have_count(4)

        # An earlier answer is shown again with its own canvas and numbers.
        page.get_by_role("button", name="Show its canvas").nth(1).click()
        assert number(page, "forward passes", 1) == str(expected[1].num_forwards)


@needs_chromium
def test_gaps_of_a_template_are_filled(browser: Browser, server: Served) -> None:
    template = "a=[[3]]; b=[[5]];"
    sampling = server.offline.template(template, SamplingParams(seed=3))
    (expected,) = server.offline.chat([{"role": "user", "content": QUESTION}], sampling)
    with visited(browser, server, is_refused=True) as page:
        ask(page, template=template, seed=3)
        expect(page.locator(".answer.done")).to_be_visible()
        text = page.locator(".answer .text").evaluate("e => e.textContent")
        assert text == expected.text
        given = page.locator("unmask-player .canvas .given")
        assert given.count() == len(sampling.pinned)
        ask(page, max_tokens=9)
        problem = page.locator(".answer .problem:visible")
        expect(problem).to_contain_text("max_tokens: goes without template")


@needs_chromium
def test_stop_ends_the_request_and_keeps_what_was_written(
    browser: Browser, server: Served, gate: Semaphore
) -> None:
    seed = long_seed(server)
    with visited(browser, server) as page:
        ask(page, max_tokens=40, seed=seed)
        gate.release(12)
        expect(page.locator(".answer .text")).not_to_be_empty()
        assert server.engine.num_open == 1
        page.press("#question", "Escape")
        expect(page.locator(".answer.stopped .note")).to_contain_text("stopped")
        assert page.locator("#send").is_visible()
        gate.release(MANY)
        assert server.num_leaked_pages() == 0
        text = page.locator(".answer .text").evaluate("e => e.textContent")
        assert text and offline(server, seed=seed).text.startswith(text)


@needs_chromium
def test_errors_are_sentences_at_the_field_at_fault(browser: Browser, server: Served) -> None:
    with visited(browser, server, is_refused=True) as page:
        ask(page, threshold=3)
        problem = page.locator(".answer .problem")
        expect(problem).to_contain_text("The server answered: threshold = 3: must be above 0")
        marked = page.locator("#controls .threshold [type=number]:visible")
        expect(marked).to_have_attribute("aria-invalid", "true")
        expect(marked).to_be_focused()
        expect(page.locator("#question")).to_have_value(QUESTION)  # to be sent again

        hostile = "<img src=x onerror=alert(1)>"
        ask(page, hostile, threshold=0.5)
        expect(page.locator(".question").nth(1)).to_have_text(hostile)
        assert page.locator("main img").count() == 0
        expect(page.locator(".answer.running")).to_have_count(0)  # nothing is asked before

        control = page.locator("#controls .temperature [type=number]:visible")
        control.press("e")
        ask(page)
        expect(page.locator("#problem")).to_have_text("Temperature: this is not a number.")
        expect(control).to_be_focused()
        control.fill("1")

        page.context.set_offline(True)
        ask(page)
        expect(problem.nth(2)).to_contain_text("The server cannot be reached")
        page.context.set_offline(False)

        page.get_by_role("button", name="New chat").click()
        assert page.locator("#welcome").is_visible() and page.locator(".answer").count() == 0
        page.fill("#key", "wrong")
        page.press("#key", "Tab")
        expect(page.locator("#problem")).to_contain_text("the key is missing or wrong")
        page.fill("#key", "")
        ask(page)
        expect(page.locator("#problem")).to_have_text("This server needs its API key.")
        expect(page.locator("#key")).to_be_focused()


@needs_chromium
def test_the_page_fits_phones_and_desks_light_and_dark(
    browser: Browser, server: Served, tmp_path: Path
) -> None:
    with visited(browser, server) as page:
        page.click("#compare")
        ask(page, seed=1)
        expect(page.locator(".answer.done")).to_have_count(2)
        for width, scheme in product((390, 1280), ("light", "dark")):
            page.set_viewport_size({"width": width, "height": 844})
            page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
            assert page.evaluate("document.documentElement.scrollWidth") == width
            boxes = [player.bounding_box() for player in page.locator("unmask-player").all()]
            first, second = [box for box in boxes if box]
            assert (first["y"] == second["y"]) == (width == 1280)
            assert len(page.screenshot(path=tmp_path / f"{width}-{scheme}.png")) > 10_000
            background = page.evaluate("getComputedStyle(document.body).backgroundColor")
            is_dark = sum(map(int, re.findall(r"\d+", background))) < 200
            assert is_dark == (scheme == "dark")
