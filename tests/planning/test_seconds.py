"""Operations are those that torch counts; seconds follow from them as the formulas state."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from tests.planning.cases import case
from tests.toy import SPEC
from unmask.models.transformer import Model
from unmask.planning.devices import Device, device_named
from unmask.planning.published import SHAPES
from unmask.planning.seconds import link, row_operations, traffic_s, weights_read

H100 = device_named("h100")


def no_attention(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return something of the shape of attention's output."""
    return q


def test_operations_are_those_that_torch_counts() -> None:
    spec = replace(SPEC, width=256, head_width=64, ffn_width=512)
    tokens = 64
    model = Model(spec)
    ids = torch.zeros(tokens, dtype=torch.long)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(ids, ids, no_attention, ids[:0])
    job = case(spec=spec).plan().job
    # Norms have parameters too, and no products.
    assert tokens * row_operations(job, 0) == pytest.approx(counter.get_total_flops(), rel=0.01)
    scores_and_sum = 4 * spec.num_layers * spec.num_heads * spec.head_width
    assert row_operations(job, 10) - row_operations(job, 0) == 10 * scores_and_sum


def test_experts_are_read_as_rows_choose_them() -> None:
    job = case(spec=SHAPES["30B-A3B"]).plan().job
    one, many = weights_read(job, 1), weights_read(job, 10_000)
    head = job.sizes.vocabulary
    assert one == pytest.approx(job.sizes.body + head, rel=0.01)
    assert many == pytest.approx(job.sizes.total - head, rel=0.01)


def test_more_devices_take_less_time() -> None:
    steps = [case(count=count).plan().seconds for count in (1, 2, 4, 8)]
    assert all(a.update > b.update and a.rollout > b.rollout for a, b in pairwise(steps))
    assert steps[0].sync == 0 < steps[1].sync


def test_recomputation_takes_a_third_more() -> None:
    plain, recomputed = (
        case(*words, count=1).plan().seconds.update
        for words in ((), ("model.gradient_checkpointing=true",))
    )
    assert 1.25 < recomputed / plain < 1.34


def test_adapters_save_the_gradients_of_weights() -> None:
    plain, adapted = (case(*w, count=1).plan().seconds.update for w in ((), ("lora.rank=8",)))
    assert 0.6 < adapted / plain < 0.75


def test_a_response_of_one_sequence_is_bound_by_memory() -> None:
    """A lone sequence passes all weights for every denoising step."""
    words = ("rollout.prompts=1", "rollout.responses=2", "sampling.max_tokens=300")
    found = case(*words, count=2, lengths=replace(case().lengths, response=300)).plan()
    per_pass = found.seconds.rollout / 200
    weights = (found.job.sizes.total - found.job.sizes.vocabulary) * 2
    least = weights / (H100.bandwidth * H100.efficiency.bandwidth) + H100.tick_s
    assert least < per_pass < 1.1 * least


def test_collectives_of_a_node_and_between_nodes() -> None:
    device: Device = replace(H100, link=400.0, network=10.0)
    share = device.efficiency.link
    assert link(device, 8) == pytest.approx(400 * share * 8 / 7)
    assert link(device, 16) == pytest.approx(80 * share * 16 / 15)


def test_shards_within_a_node_are_gathered_within_it() -> None:
    job = case(count=64).plan().job
    (gathered, reduced), (far, alone) = (
        traffic_s(replace(job, shard=shard), H100) for shard in (8, 64)
    )
    assert gathered < far
    assert reduced > alone  # the copies add up their gradients on top
    assert traffic_s(replace(job, devices=1, shard=1), H100) == (0, 0)


def test_adapters_alone_are_synced() -> None:
    full, lora = case().plan(), case("lora.rank=8").plan()
    assert lora.seconds.sync == pytest.approx(full.seconds.sync * lora.job.policy.share)
