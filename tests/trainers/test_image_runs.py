"""Runs of SFT and RL about images: every method, every part that may be trained, and law 6."""

import json
import math
import shutil
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.models.vision import mmada
from tests.trainers.breaking import VARIABLE, start_counting
from tests.trainers.toy_critics import left_behind
from tests.trainers.toy_images import rl_config, sft_config, write_files
from tests.trainers.toy_runs import metrics
from unmask.trainers.rl import train_rl
from unmask.trainers.sft import train_sft

VALUE = ["advantage.kind=value", "advantage.lr=1e-2"]
SHARED = ["advantage.kind=shared_value", "advantage.lr=1e-2"]
LORA = ["lora.rank=2", "optimizer.lr=1e-2"]
REFERENCE = ["loss.kl=0.1", "loss.kl_to=reference"]
RL = {
    "trace": ["minibatches=2", "views.shrink=2"],
    "value": VALUE,
    "shared value": SHARED,
    "coupled": ["views.kind=coupled"],
    "random": ["views.kind=random", "views.count=2"],
    "adapters of both, reference": [*LORA, *REFERENCE, *VALUE, "advantage.lora.rank=2"],
    "projector, reference": ["model.trains=projector", *REFERENCE],
    "all, value": ["model.trains=all", *VALUE],
    "batch-invariant": ["model.batch_invariant=true"],
}
SFT = {
    "random": ["eval.problems=4", "eval.every=1"],
    "semi_ar": ["views.kind=semi_ar", "views.train_block=2"],
    "trace": ["views.kind=trace"],
    "adapters": LORA,
}


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNMASK_CACHE", str(tmp_path / "cache"))


def changed(place: Path, run: Path) -> set[str]:
    """Return the names of the stored weights that a run moved, without numbers of layers."""
    before, after = (
        load_file(path / "model.safetensors") for path in (place / "checkpoint", run / "model")
    )
    assert before.keys() == after.keys()
    return {name for name, weight in before.items() if not torch.equal(weight, after[name])}


@pytest.mark.parametrize("name", RL)
def test_every_method_of_rl(name: str, tmp_path: Path) -> None:
    run = train_rl(rl_config(tmp_path, *RL[name])).parent
    lines = metrics(run)
    assert all(math.isfinite(line["loss"]) and line["gradient_norm"] > 0 for line in lines)
    assert all(line.get("logprob_gap_max", 0) < 1e-5 for line in lines)
    if name == "batch-invariant":
        assert [line["logprob_gap_max"] for line in lines] == [0.0, 0.0]
    assert changed(tmp_path, run)


@pytest.mark.parametrize("train", ["sft", "rl"])
def test_vectors_of_images_count_as_positions(train: str, tmp_path: Path) -> None:
    """A prompt of 6 tokens and an image of 16 vectors, and a response: more than 25 positions."""
    words = ["optimizer.token_budget=25"]
    with pytest.raises(
        ValueError, match=r"token_budget = 25 is too small: one view takes (2[6-9]|3)"
    ):
        if train == "sft":
            train_sft(sft_config(tmp_path, *words))
        else:
            train_rl(rl_config(tmp_path, *words))
    if train == "sft":
        with pytest.raises(ValueError, match=r"data\.max_tokens allows 20 positions"):
            train_sft(sft_config(tmp_path, "data.max_tokens=20", run="other"))


@pytest.mark.parametrize("name", SFT)
def test_every_method_of_sft(name: str, tmp_path: Path) -> None:
    run = train_sft(sft_config(tmp_path, *SFT[name])).parent
    assert all(math.isfinite(line["loss"]) for line in metrics(run))
    moved = changed(tmp_path, run)
    assert moved and not any("vision_tower" in part or "mm_" in part for part in moved)


TOWER, PROJECTOR = "model.vision_tower.", ("model.mm_projector.", "model.image_newline")


@pytest.mark.parametrize(
    ("parts", "train"),
    [
        *(("language", "rl"), ("projector", "sft"), ("with_projector", "rl"), ("all", "sft")),
        *(("all", "rl"), ("published_layers", "sft")),
    ],
)
def test_what_is_trained_moves_and_nothing_else(parts: str, train: str, tmp_path: Path) -> None:
    words = [f"model.trains={parts}", "optimizer.lr=1e-2"]
    if train == "sft":
        run = train_sft(sft_config(tmp_path, *words)).parent
    else:
        run = train_rl(rl_config(tmp_path, *words)).parent
    moved = changed(tmp_path, run)
    tower, projector = (
        {name for name in moved if name.startswith(start)} for start in (TOWER, PROJECTOR)
    )
    language = moved - tower - projector
    assert bool(tower) == (parts == "all")
    assert not any("post_layernorm" in name for name in tower)
    assert bool(projector) == (parts in ("projector", "with_projector", "all"))
    assert not projector or len(projector) == 5  # two weights, two biases, the newline vector
    assert bool(language) == (parts != "projector")
    has_embedding = "model.embed_tokens.weight" in language
    assert has_embedding == (parts not in ("projector", "published_layers"))


@pytest.mark.parametrize(
    "words", [["model.trains=projector", *VALUE], ["model.trains=all", *SHARED]]
)
def test_a_run_about_images_goes_on_to_the_bit(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*words, "steps=3", "save_every=1", "run.keep_last=1"]
    whole = left_behind(train_rl(rl_config(tmp_path, *words, run="whole")).parent)
    monkeypatch.setenv(VARIABLE, "raise:30")
    start_counting()
    with pytest.raises(ValueError):  # in the third rollout
        train_rl(rl_config(tmp_path, *words, run="parts"))
    monkeypatch.delenv(VARIABLE)
    assert (
        left_behind(train_rl(rl_config(tmp_path, *words, run="parts"), resume=True).parent) == whole
    )


@pytest.mark.parametrize("train", ["sft", "rl"])
def test_mmada_reads_images_as_tokens(train: str, tmp_path: Path) -> None:
    model = shutil.copytree(mmada.FOLDER, tmp_path / "mmada")
    config = json.loads((model / "config.json").read_text())
    ids = replace(mmada.IDS, side=mmada.CASES["image_resolution"] // 4)
    (model / "config.json").write_text(json.dumps(config | {"image_token_ids": asdict(ids)}))
    codec = mmada.FOLDER.parent / "magvitv2"
    words = [f"model.path={model}", f"model.image_codec={codec}", "steps=1"]
    if train == "sft":
        write_files(tmp_path)
        record = {"prompt": "<image>\nIs it A?", "response": "yes", "image": "0.png"}
        (tmp_path / "pairs.json").write_text(json.dumps([record]))
        run = train_sft(sft_config(tmp_path, *words, f"data.path={tmp_path / 'pairs.json'}")).parent
    else:
        run = train_rl(rl_config(tmp_path, *words)).parent
    (line,) = metrics(run)
    assert math.isfinite(line["loss"])
    prompts = {"sft": 1, "rl": 8}[train]  # that have an image, at least
    assert line["packed_tokens"] > prompts * 66  # the codes of an image, its start and its end


def test_the_images_of_recorded_responses_are_kept_once(tmp_path: Path) -> None:
    run = train_rl(rl_config(tmp_path, "steps=1")).parent
    lines = [json.loads(line) for line in (run / "trajectories.jsonl").read_text().splitlines()]
    named = {
        image["digest"]
        for line in lines
        for message in line["prompt"]["messages"]
        for image in message.get("images", ())
    }
    assert named and {path.stem for path in (run / "images").iterdir()} == named
    assert all(digest in (run / "report.html").read_text() for digest in named)


@pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra ray")
def test_workers_write_about_images_what_one_process_writes(tmp_path: Path) -> None:
    """Their tower is never sent; a trained projector is, and stale responses are of the one before."""
    words = ["model.trains=with_projector", "optimizer.lr=1e-2", "run.trajectories=99", "steps=3"]
    own = train_rl(rl_config(tmp_path, *words, run="own")).parent
    workers = ["rollout.workers=1"]
    found = train_rl(rl_config(tmp_path, *words, *workers, run="workers")).parent
    for name in ("trajectories.jsonl", "model/model.safetensors"):
        assert (found / name).read_bytes() == (own / name).read_bytes()
    stale = [*workers, "rollout.staleness=1", "loss.max_importance=2"]
    lines = metrics(train_rl(rl_config(tmp_path, *words, *stale, run="stale")).parent)
    assert [line["staleness_max"] for line in lines] == [0, 1, 1]
    assert lines[0]["importance_max"] == pytest.approx(1, abs=1e-4)
    trained = sum(
        weight.numel()
        for name, weight in load_file(own / "model/model.safetensors").items()
        if not name.startswith(TOWER)
    )
    assert lines[0]["weight_sync_bytes"] == 4 * trained
