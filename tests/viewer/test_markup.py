"""Foreign text can neither close its element nor open another one."""

import json

import pytest

from tests.viewer.page import Page
from tests.viewer.toy_run import HOSTILE
from unmask.viewer.markup import csp_hash, escape, json_island, json_text


@pytest.mark.parametrize("text", HOSTILE)
def test_text_stays_text(text: str) -> None:
    page = Page(f'<p title="{escape(text)}">{escape(text)}</p>')
    (element,) = page.elements
    assert element.text == element.attributes["title"] == text


@pytest.mark.parametrize("text", HOSTILE)
def test_data_stays_data(text: str) -> None:
    page = Page(json_island("data", json_text({text: [text]})))
    assert len(page.elements) == 1
    assert page.data("data") == {text: [text]}


def test_data_is_plain_ascii() -> None:
    text = json_text("<\u2028&>")
    assert text.isascii()
    assert not set("<>&") & set(text)


def test_lone_surrogate_can_be_written() -> None:
    surrogate = json.loads('"\\ud800"')
    assert escape(surrogate).encode()
    assert json_text(surrogate).encode()


def test_hash_is_the_one_browsers_compute() -> None:
    # The example of the Content Security Policy specification.
    wanted = "'sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng='"
    assert csp_hash("alert('Hello, world.');") == wanted
