"""`unmask generate` and `unmask trace` as real processes on two ranks."""

from pathlib import Path

from tests.distributed.processes import run_ranks
from tests.end_to_end.real_command import end, start
from tests.toy import toy_checkpoint
from tests.trainers.test_traces import SAMPLING
from tests.trainers.toy_runs import sft_config
from unmask.configs.keys import to_toml
from unmask.configs.load import dump, flatten
from unmask.trainers.traces import write_traces


def test_generate_writes_one_file(tmp_path: Path) -> None:
    model, prompts = toy_checkpoint(tmp_path / "model"), tmp_path / "prompts.txt"
    prompts.write_text("1+2=\n3+4=\n5\n")
    words = ["generate", str(model), "--from", str(prompts), "--max-tokens", "9", "--n", "2"]
    alone, out = tmp_path / "alone.jsonl", tmp_path / "ranks.jsonl"
    assert end(start([*words, "--out", str(alone)]))[0] == 0
    first, second = run_ranks([*words, "--out", str(out)])
    assert first[0] == 0 and "generate 6/6" in first[1] and second == (0, "")
    assert out.read_bytes() == alone.read_bytes()
    # Refused before the ranks meet, and after it.
    for more in (["--out", str(out)], ["--out", str(tmp_path / "new"), "--max-tokens", "500"]):
        first, second = run_ranks([*words, *more])
        assert (first[0], second[0]) == (2, 2) and len(first[1].splitlines()) == 1
        # torch may warn of the store of rank 0, which has ended.
        assert not [line for line in second[1].splitlines() if line.startswith("error: ")]
    assert not (tmp_path / "new").exists()


def test_trace_writes_one_file(tmp_path: Path) -> None:
    config = sft_config(tmp_path, *SAMPLING, "data.batch_size=2")
    alone, out = tmp_path / "alone.jsonl", tmp_path / "ranks.jsonl"
    write_traces(config, alone)
    words = [f"{name}={to_toml(value)}" for name, value in flatten(dump(config))]
    first, second = run_ranks(["trace", *words, "--out", str(out)])
    assert first[0] == 0 and first[1].endswith(f"6 trajectories in {out}\n") and second == (0, "")
    assert out.read_bytes() == alone.read_bytes()
