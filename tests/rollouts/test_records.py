"""Trajectories as lines of `trajectories.jsonl`."""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from tests.models.vision import mmada
from tests.rollouts.toy_groups import group
from tests.toy import toy_checkpoint
from unmask.engine.llm import LLM
from unmask.images import image_from
from unmask.models.vision.image_codec import decode_image
from unmask.presets import preset
from unmask.rollouts.records import rollout_records
from unmask.types import Group
from unmask.viewer.traces import shown


@pytest.mark.parametrize("limit", [0, 1, 3, 99])
def test_the_first_answer_to_every_prompt_is_recorded_then_the_second(
    limit: int, tmp_path: Path
) -> None:
    llm = LLM(toy_checkpoint(tmp_path))
    groups = [
        group([1.0, 0.5], uid=7, parts={"format": [0.25, 0.75]}),
        group([0.0, (0.5, 0.25, 0.0, 0.0)], uid=8),
    ]
    records = list(rollout_records(groups, llm, limit, step=3))
    assert [(r["prompt"]["uid"], r["reward"]) for r in records] == [
        (7, 1.0),
        (8, 0.0),
        (7, 0.5),
        (8, (0.5, 0.25, 0.0, 0.0)),
    ][:limit]
    for record in records:
        assert json.loads(json.dumps(record))["text"] == "3333"
        assert record["step"] == 3
    assert [r["parts"] for r in records[:3]] == [{"format": 0.25}, {}, {"format": 0.75}][:limit]


def test_advantages_are_recorded_where_they_are_given(tmp_path: Path) -> None:
    llm = LLM(toy_checkpoint(tmp_path))
    both = group([1.0, 0.5, 0.0], uid=7)
    first, second, _ = both.trajectories
    advantages = {id(first): [0.5] * 4, id(second): [0.25, 0.0, 0.25, 0.0]}
    records = rollout_records([both], llm, 3, 1, advantages)
    assert [record.get("advantages") for record in records] == [0.5, [0.25, 0.0, 0.25, 0.0], None]


def test_drawn_images_are_kept_and_named(tmp_path: Path) -> None:
    model = shutil.copytree(mmada.FOLDER, tmp_path / "mmada")
    config = json.loads((model / "config.json").read_text())
    ids = replace(mmada.IDS, side=mmada.CASES["image_resolution"] // 4)
    (model / "config.json").write_text(json.dumps(config | {"image_token_ids": asdict(ids)}))
    llm = LLM(model, image_codec=mmada.FOLDER.parent / "magvitv2")
    (drawn,) = llm.draw(["a cat"], preset("mmada_image", denoising_steps=2, seed=1))
    own = Group(drawn.trajectory.prompt, [drawn.trajectory], [1.0])
    (record,) = rollout_records([own], llm, 1, step=3, directory=tmp_path)
    (path,) = (tmp_path / "images").iterdir()
    assert record["drawing"] == {"name": "drawing", "digest": path.stem}
    assert drawn.picture is not None
    assert decode_image(image_from(path)).tobytes() == drawn.picture.tobytes()
    assert shown(json.loads(json.dumps(record)))["drawing"] == record["drawing"]
