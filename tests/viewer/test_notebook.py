"""The HTML of a response holds all that the player needs, and its text where no script runs."""

import json
from dataclasses import replace

from tests.viewer.page import Page
from tests.viewer.toy_run import HOSTILE, TRAJECTORY
from unmask.viewer.notebook import trajectory_html
from unmask.viewer.player import player_script


def test_html_is_the_element_with_its_trajectory_and_script() -> None:
    page = Page(trajectory_html(TRAJECTORY, "-5;-", [str(n) for n in range(8)]))
    trace = json.loads(page.all("unmask-player")[0].attributes["trajectory"])
    assert (trace["text"], trace["reward"], trace["block"]) == ("-5;-", None, 4)
    assert (trace["ids"], trace["steps"]) == ([14, 18, 15, 14, 20, 0], [1, 2, 1, 3, 3, 0])
    assert trace["pieces"] == [str(n) for n in range(8)]
    assert page.all("pre")[0].text == "-5;-"
    assert [script.text for script in page.all("script")] == [player_script()]


def test_hostile_text_is_text() -> None:
    pieces = [*HOSTILE[:7], "x"]
    page = Page(trajectory_html(TRAJECTORY, HOSTILE[0], pieces))
    assert len(page.all("script")) == 1 and not page.all("img")
    trace = json.loads(page.all("unmask-player")[0].attributes["trajectory"])
    assert trace["pieces"] == pieces and page.all("pre")[0].text == HOSTILE[0]


def test_pinned_tokens_are_marked() -> None:
    sampling = replace(TRAJECTORY.sampling, pinned=((5, 0),))
    html = trajectory_html(replace(TRAJECTORY, sampling=sampling), "", None)
    trace = json.loads(Page(html).all("unmask-player")[0].attributes["trajectory"])
    assert (trace["pinned"], trace["pieces"]) == ([5], None)
