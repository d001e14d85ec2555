"""The picture that plays a trajectory is XML, and shows each token from the denoising step that wrote it."""

import json
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

from tests.viewer.toy_run import HOSTILE, TRAJECTORY, hostile_record, record
from unmask.runs.trajectories import trajectory_record
from unmask.viewer.animation import COLUMNS, animated_svg
from unmask.viewer.traces import shown

SVG = "{http://www.w3.org/2000/svg}"


def drawn(whole: dict[str, Any]) -> ElementTree.Element:
    return ElementTree.fromstring(animated_svg(shown(json.loads(json.dumps(whole)))))


def texts(element: ElementTree.Element) -> list[str]:
    return ["".join(text.itertext()) for text in element.iter(f"{SVG}text")]


def test_tokens_appear_in_the_order_of_their_steps() -> None:
    whole = record()
    root = drawn(whole)
    steps = TRAJECTORY.step_map[: TRAJECTORY.num_response]
    numbers = {step: n for n, step in enumerate(sorted(set(steps)), 1)}
    groups = [group for group in root.iter(f"{SVG}g") if group.attrib["class"].startswith("s")]
    assert [group.attrib["class"] for group in groups] == [f"s{numbers[step]}" for step in steps]
    counts = [sum(step <= last for step in steps) for last in sorted(set(steps))]
    labels = [f"denoising step 0 of {len(numbers)}: 0 of {len(steps)} tokens"]
    labels += [
        f"denoising step {n} of {len(numbers)}: {count} of {len(steps)} tokens"
        for n, count in enumerate(counts, 1)
    ]
    assert [text for text in texts(root) if text.startswith("denoising")] == labels
    style = "".join(root.find(f"{SVG}style").itertext())  # type: ignore[union-attr]
    assert all(f".s{n} {{ animation: s{n} " in style for n in range(len(numbers) + 1))


def test_long_responses_are_broken_into_lines() -> None:
    count = 3 * COLUMNS
    long = replace(
        TRAJECTORY,
        canvas_ids=(5,) * count,
        step_map=tuple(range(1, count + 1)),
        behavior_logprobs=(0.0,) * count,
        num_response=count,
    )
    root = drawn(trajectory_record(long, "x" * count, reward=None))
    groups = [group for group in root.iter(f"{SVG}g") if group.attrib["class"].startswith("s")]
    rows = [group.find(f"{SVG}rect").attrib for group in groups]  # type: ignore[union-attr]
    assert len({row["y"] for row in rows}) == 3
    assert max(float(row["x"]) + float(row["width"]) for row in rows) < float(root.attrib["width"])


def test_foreign_text_stays_text() -> None:
    root = drawn(hostile_record())
    assert set(HOSTILE[:3]) <= set(texts(root))
    assert {element.tag for element in root.iter()} == {
        f"{SVG}{name}" for name in ("svg", "title", "style", "text", "g", "rect")
    }
    odd = {**record(), "text": "a\x00b\uffff"}
    assert "a\ufffdb\ufffd" in "".join(drawn(odd).itertext())
