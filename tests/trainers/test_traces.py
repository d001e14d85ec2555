"""`unmask trace`: its records are read again, and trained on in their recorded order; ranks share batches."""

import json
from pathlib import Path

import pytest

from tests.distributed.ranks import on_ranks
from tests.trainers import toy_images
from tests.trainers.toy_runs import metrics, sft_config
from unmask.configs.sft import SFTConfig
from unmask.distributed.world import ALONE, World
from unmask.engine.llm import LLM
from unmask.trainers.sft import train_sft
from unmask.trainers.traces import write_traces

SAMPLING = ["eval.sampling.strategy=static", "eval.sampling.max_tokens=6"]


def records(path: Path) -> list[dict[str, list[int]]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("is_free", [False, True])
def test_traces_are_trained_on(is_free: bool, tmp_path: Path) -> None:
    config, out = sft_config(tmp_path, *SAMPLING), tmp_path / "traces.jsonl"
    assert write_traces(config, out, is_free) == 6
    assert all(len(r["step_map"]) == len(r["response_ids"]) for r in records(out))
    words = [f"data.path={out}", "views.kind=trace", "views.shrink=2", "views.post_num=1"]
    train_sft(sft_config(tmp_path, *words))
    assert [line["step"] for line in metrics(tmp_path / "run")] == [1, 2]


def test_free_traces_are_what_the_engine_writes(tmp_path: Path) -> None:
    config, out = (
        sft_config(tmp_path, *SAMPLING, "eval.sampling.temperature=0"),
        tmp_path / "t.jsonl",
    )
    write_traces(config, out, is_free=True)
    assert config.eval.sampling is not None
    llm = LLM(config.model.path)
    for record in records(out):
        (found,) = llm.generate([record["prompt_ids"]], config.eval.sampling.to_params())
        assert list(found.token_ids) == record["response_ids"]


def test_what_cannot_be_recorded_is_refused(tmp_path: Path) -> None:
    config, out = sft_config(tmp_path, "eval.sampling.strategy=random"), tmp_path / "traces.jsonl"
    with pytest.raises(ValueError, match=r"eval\.sampling\.strategy = 'random': forced decoding"):
        write_traces(config, out)
    assert not out.exists()
    out.write_text("")
    with pytest.raises(ValueError, match=r"traces\.jsonl: exists"):
        write_traces(config, out)


def test_prompts_with_vectors_of_images_are_no_records_of_ids(tmp_path: Path) -> None:
    out = tmp_path / "traces.jsonl"
    message = r"^data\.path = .*demonstrations\.json, item 1: the prompt holds vectors of images"
    with pytest.raises(ValueError, match=message):
        write_traces(toy_images.sft_config(tmp_path), out)
    assert not out.exists()


def traces(world: World, config: SFTConfig, out: Path, is_free: bool) -> int:
    return write_traces(config, out, is_free, world)


@pytest.mark.parametrize("is_free", [False, True])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_traces_are_those_of_one_process(batch_size: int, is_free: bool, tmp_path: Path) -> None:
    config = sft_config(tmp_path, *SAMPLING, f"data.batch_size={batch_size}")
    alone, out = tmp_path / "alone.jsonl", tmp_path / "ranks.jsonl"
    traces(ALONE, config, alone, is_free)
    assert on_ranks(traces, config, out, is_free, size=3) == [6] * 3
    assert out.read_bytes() == alone.read_bytes()
