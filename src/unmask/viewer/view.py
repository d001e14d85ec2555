"""`unmask view`: one page that plays the trajectories of a run or a file, or a picture that plays the last one.

A file holds one record of a trajectory per line (`runs.trajectories`), or is one record; a trajectory
that the player has saved is one too. The page holds the last ones of the file up to a limit of bytes,
and states how many were left out and how many records cannot be played.
"""

import json
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from unmask.json_files import read_objects, read_records
from unmask.runs.files import write_text
from unmask.runs.gradings import read_verdicts, with_verdict
from unmask.runs.read import Record
from unmask.viewer.animation import animated_svg
from unmask.viewer.markup import escape, json_text
from unmask.viewer.page import Page, page_html, section
from unmask.viewer.player import source
from unmask.viewer.thumbnails import images_island, thumbnails
from unmask.viewer.traces import is_playable, is_shown, shown

MAX_BYTES = 32_000_000


@dataclass(slots=True)
class Chosen:
    """The trajectories of a page, and the count of the others.

    Attributes:
        islands: compact JSON of each, in the order of the file.
        num_left_out: playable ones before them that exceed the limit.
        num_unplayable: records without the fields of a trajectory.
    """

    islands: deque[str]
    num_left_out: int = 0
    num_unplayable: int = 0


def write_view(place: Path, out: Path, step: int | None = None) -> Chosen:
    """Write a page that plays the trajectories of a run or a file, or a picture that plays the last one.

    Args:
        place: a run's directory, or a file of trajectories.
        out: the page; a name that ends in `.svg` is that of a picture.
        step: only those of this optimizer step.

    Returns:
        What the page holds and what it leaves out.

    Raises:
        ValueError: the file is missing or damaged, or holds no trajectory that can be played.
        OSError: it cannot be read, or the page cannot be written.
    """
    path = place / "trajectories.jsonl" if place.is_dir() else place
    if place.is_dir():
        verdicts = read_verdicts(place)
        records = (with_verdict(record, verdicts) for record in read_objects(path))
    else:
        records = (item for _, item in read_records(path, "PLACE") if isinstance(item, dict))
    if step is not None:
        records = (record for record in records if record.get("step") == step)
    found = choose_last(records)
    if not found.islands:
        raise ValueError(
            f"{path}: holds no trajectory{f' of step {step}' if step is not None else ''} that can "
            f"be played ({found.num_unplayable:,} other records); a run writes them unless "
            "run.trajectories = 0, and `unmask show` prints the rollouts of dLLM-RL"
        )
    if out.suffix == ".svg":
        write_text(out, animated_svg(json.loads(found.islands[-1])))
        return found
    images = thumbnails(path.parent, found.islands)
    write_text(out, view_html(str(place), found, images))
    return found


def choose_last(records: Iterable[Record], max_bytes: int = MAX_BYTES) -> Chosen:
    """Return the last trajectories whose JSON fits into `max_bytes`, at least one."""
    found, size = Chosen(deque()), 0
    for record in records:
        if is_playable(record):
            island = json_text(shown(record))
        elif is_shown(record):
            island = json_text(record)
        else:
            found.num_unplayable += 1
            continue
        found.islands.append(island)
        size += len(island)
        while size > max_bytes and len(found.islands) > 1:
            size -= len(found.islands.popleft())
            found.num_left_out += 1
    return found


def view_html(name: str, found: Chosen, images: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return the page; `name` is the run or file, `images` are data URLs by digest."""
    count = len(found.islands)
    notes = [f"{count:,} response{'s'[: count != 1]}"]
    if found.num_left_out:
        notes.append(f"{found.num_left_out:,} earlier ones did not fit")
    if found.num_unplayable:
        notes.append(f"{found.num_unplayable:,} records cannot be played")
    head = (
        f"<h1>{escape(Path(name).name)}</h1>"
        f'<dl class="facts"><div><dt>from</dt><dd>{escape(name)}</dd></div></dl>'
    )
    note = (
        f'<p class="note">{"; ".join(notes)}'
        '<span class="keys">. Keys: space plays, left and right step</span></p>'
    )
    body = f"<header>{head}</header>{section('Trajectories', source('trajectories.html'), note)}"
    islands = {"traces-data": f"[{','.join(found.islands)}]", **images_island(images)}
    return page_html(Page(f"Trajectories of {name}", body, islands, has_charts=False))
