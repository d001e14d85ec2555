"""A page holds the parts that it needs, and its policy admits these parts alone."""

from typing import Any

import pytest

from tests.viewer.page import Page as Parsed
from unmask.viewer.page import Page, page_html, section


def parsed(**options: Any) -> Parsed:
    return Parsed(page_html(Page("<b>", section("Part", "text", "more"), {}, **options)))


@pytest.mark.parametrize(
    ("options", "num_scripts"),
    [({}, 5), ({"has_charts": False}, 3), ({"has_charts": False, "has_player": False}, 1)],
)
def test_policy_admits_only_the_scripts_and_styles_of_the_page(
    options: dict[str, bool], num_scripts: int
) -> None:
    page = parsed(**options)
    (policy,) = (
        e.attributes["content"]
        for e in page.all("meta")
        if e.attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert len(page.all("script")) == num_scripts
    assert policy.count("sha256-") == num_scripts + len(page.all("style"))
    assert not [e for e in page.elements if "style" in e.attributes]
    assert not [e for e in page.elements if any(name.startswith("on") for name in e.attributes)]


def test_page_holds_the_licence_of_uplot() -> None:
    uplot = parsed().all("script")[0].text
    assert uplot.startswith("/*\nThe MIT License") and "Copyright (c) 2022 Leon Sorokin" in uplot


def test_title_and_heading_are_text() -> None:
    page = parsed()
    assert page.all("title")[0].text == "<b>" and page.all("h2")[0].text == "Part"
    assert page.one("part").name == "section"
