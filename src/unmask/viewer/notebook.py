"""A response as HTML that plays itself, for the output of a notebook."""

import json
from collections.abc import Sequence

from unmask.images import Image
from unmask.runs.trajectories import prompt_images, trajectory_record
from unmask.types import Trajectory
from unmask.viewer.markup import escape
from unmask.viewer.player import player_script
from unmask.viewer.thumbnails import thumbnail
from unmask.viewer.traces import shown


def trajectory_html(trajectory: Trajectory, text: str, pieces: Sequence[str] | None) -> str:
    """Return the images of the prompt and the player, with all that it needs; where scripts do not run, the text.

    Args:
        trajectory: of one response.
        text: the response.
        pieces: the text of each of `runs.trajectories.grid_ids(trajectory)`; ids are shown without.
    """
    record = trajectory_record(trajectory, text, reward=None, pieces=pieces)
    # Through JSON, as a record is read from a file: tuples are lists.
    data = json.dumps(shown(json.loads(json.dumps(record))), separators=(",", ":"))
    images = "".join(map(_image, prompt_images(trajectory.prompt)))
    return (
        f'{images}<unmask-player trajectory="{escape(data)}"><pre>{escape(text)}</pre></unmask-player>'
        f"<script>{player_script()}</script>"
    )


def _image(image: Image) -> str:
    """Return a small copy of an image, or its name."""
    url = thumbnail(image)
    name = escape(image.name)
    return f'<img src="{url}" alt="{name}" title="{name}"> ' if url else f"<code>{name}</code> "
