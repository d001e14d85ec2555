"""Bytes of a plan are those of the tensors that a run holds."""

from dataclasses import replace

import pytest

from tests.planning.cases import case
from tests.toy import toy_model
from unmask.checkpoints.memory import memory
from unmask.checkpoints.random_init import random_spec
from unmask.engine.llm import LLM
from unmask.planning.job import Lengths
from unmask.planning.memory import Memory, cache, cache_per_token
from unmask.planning.sizes import sizes_of
from unmask.sampling_params import SamplingParams
from unmask.types import Prompt

STATE = ("weights", "masters", "moments", "gradients")


def parts(found: Memory) -> dict[str, float]:
    """Return the bytes of the update by kind."""
    return {part.name: part.update for part in found.parts}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_state_on_one_device_is_that_of_inspect(dtype: str) -> None:
    """At the end of a pack of a narrow model, its gradients are there twice: see `checkpoints/memory.py`."""
    job = case(f"model.dtype={dtype}", count=1).plan()
    held = sum(parts(job.memory).get(name, 0) for name in STATE)
    (row,) = [row for row in memory(job.job.spec, job.job.sizes.total, 0) if row.dtype == dtype]
    own_gradients = 0 if dtype == "float32" else 2 * job.job.sizes.total
    assert held + own_gradients == row.training[0]


def test_state_is_shared_out() -> None:
    one, eight = (parts(case(count=count).plan().memory) for count in (1, 8))
    for name in STATE:
        assert eight[name] == pytest.approx(one[name] / 8)
    assert one.get("engine's copy") is None
    assert eight["engine's copy"] == one["weights"]
    assert eight["activations"] == one["activations"]


def test_a_frozen_tower_is_whole_on_every_device_and_has_no_moments() -> None:
    """FSDP2 leaves it out: its output is computed outside of the model's pass."""
    spec = random_spec("lladav", "tiny", 128)
    sizes = sizes_of(spec)
    frozen, trained = (
        case(f"model.trains={name}", spec=spec, count=8).plan() for name in ("projector", "all")
    )
    width = frozen.job.width
    rest = (sizes.total - sizes.tower) / 8
    assert parts(frozen.memory)["weights"] == (rest + sizes.tower) * width
    assert parts(trained.memory)["weights"] == sizes.total / 8 * width
    assert parts(frozen.memory)["moments"] < 0.2 * parts(trained.memory)["moments"]


def test_checkpointing_keeps_the_stream_alone() -> None:
    words = ("optimizer.token_budget=65536", "model.gradient_checkpointing=true")
    plain, recomputed = (case(*words[:count]).plan() for count in (1, 2))
    job = recomputed.job
    stream = job.spec.num_layers * job.token_budget * job.spec.width * job.width
    assert parts(recomputed.memory)["activations"] == stream < parts(plain.memory)["activations"]


def test_offload_moves_the_optimizer_to_the_host() -> None:
    before, after = (
        case(*words, count=1).plan().memory for words in ((), ("optimizer.offload=true",))
    )
    moved = sum(parts(before)[name] for name in ("masters", "moments", "gradients"))
    assert after.host == moved
    assert before.peak - after.peak == pytest.approx(moved)


def test_offload_of_fp32_on_a_cpu_takes_a_second_copy() -> None:
    lengths = Lengths(64, 64, 1.0)
    words = ("model.dtype=float32", "optimizer.offload=true")
    plain, copied = (
        case(*words[:count], count=1, device="cpu", lengths=lengths).plan() for count in (1, 2)
    )
    assert parts(copied.memory)["masters"] == parts(plain.memory)["weights"]
    assert copied.memory.host == 0


@pytest.mark.parametrize(
    ("prompt", "response", "groups", "responses"),
    [(20, 60, 4, 3), (130, 124, 4, 3), (64, 124, 2, 5), (70, 300, 3, 4)],
)
def test_cache_is_what_the_engine_takes(
    prompt: int, response: int, groups: int, responses: int
) -> None:
    model = toy_model(max_length=512)
    llm = LLM(model)
    prompts = [Prompt("toy", uid, (), (2 + uid, *[3] * (prompt - 1))) for uid in range(groups)]
    params = SamplingParams(max_tokens=response, stop_token_ids=(23,))  # an id that is never drawn
    asked = [(p, replace(params, seed=seed)) for p in prompts for seed in range(responses)]
    llm.complete([p for p, _ in asked], [s for _, s in asked])
    words = (f"rollout.prompts={groups}", f"rollout.responses={responses}")
    lengths = Lengths(prompt, response, 1.0)
    planned = case(*words, spec=model.spec, count=1, device="cpu", lengths=lengths)
    held = llm.engine._pages.num_pages * 64 * cache_per_token(model.spec, 4)
    assert cache(planned.plan().job, planned.device) == (groups * responses, held)


def test_a_bounded_cache_holds_fewer_sequences() -> None:
    free, bounded = (case(*words, count=1).plan() for words in ((), ("engine.cache_tokens=8192",)))
    assert bounded.memory.sequences < free.memory.sequences
    rollout = {part.name: part.update for part in bounded.memory.parts}["keys and values"]
    assert rollout == 8192 * cache_per_token(bounded.job.spec, 2)
    assert bounded.seconds.rollout > free.seconds.rollout


def test_sft_has_no_rollout() -> None:
    found = case("data.batch_size=64", kind="sft").plan()
    assert found.memory.sequences == 0 and found.seconds.rollout == 0
    assert "keys and values" not in parts(found.memory)


def test_chunks_of_logits_are_bounded() -> None:
    """A larger pack has more chunks of the same size."""
    small, large = (
        parts(case(f"optimizer.token_budget={size}").plan().memory) for size in (32768, 65536)
    )
    more = large["logits and working memory"] - small["logits and working memory"]
    assert 0 <= more < large["activations"] - small["activations"]
