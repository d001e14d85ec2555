"""A chosen budget takes no more memory than its target, and one token more would."""

from dataclasses import replace

import pytest

from tests.planning.cases import case
from unmask.planning.activations import (
    LEAST_BYTES,
    PUBLISHED_SHARE,
    PassCost,
    tokens_of_rows,
    tokens_within,
)
from unmask.planning.job import Lengths
from unmask.planning.memory import pass_cost
from unmask.planning.published import SHAPES

LENGTHS = (150, 850)


def cost_of(**changes: bool) -> PassCost:
    """Return the cost of passes of an 8B model in bf16 on a CPU."""
    found = case(count=1).plan()
    return replace(pass_cost(found.job, case(count=1).device), is_cpu=True, **changes)


@pytest.mark.parametrize("is_checkpointed", [False, True])
@pytest.mark.parametrize("family", ["8B", "LLaDA-8B"])
def test_packs_take_at_most_the_memory_of_published_rows(
    family: str, is_checkpointed: bool
) -> None:
    cost = replace(cost_of(is_checkpointed=is_checkpointed), spec=SHAPES[family])
    tokens = tokens_of_rows(cost, *LENGTHS)
    limit = cost.of_rows(*LENGTHS) * PUBLISHED_SHARE[is_checkpointed]
    assert limit > LEAST_BYTES
    assert cost.peak(tokens, tokens) <= limit < cost.peak(tokens + 1, tokens + 1)


def test_published_rows_hold_two_copies_of_the_response_and_all_logits() -> None:
    cost = cost_of()
    prompt, response = LENGTHS
    logits = 3 * 4 * (prompt + response) * cost.spec.vocab_size
    tokens = prompt + 2 * response
    kept = cost.kept(tokens) + 36 * tokens * 2 * cost.spec.ffn_width * cost.width
    assert cost.of_rows(prompt, response) == kept + logits + cost.head_gradient
    assert replace(cost, has_logits=False).of_rows(prompt, response) < kept + logits


def test_more_memory_holds_more_tokens_and_none_holds_none() -> None:
    cost = cost_of()
    few, many = (tokens_within(cost, gib * 2**30) for gib in (8, 16))
    assert 0 < few < many
    assert tokens_within(cost, 0) == 0


def test_a_gpu_is_given_no_more_than_fills_it() -> None:
    assert tokens_within(replace(cost_of(), is_cpu=False), 2.0**50) == 8192


def test_a_plan_chooses_a_budget_that_fits_the_card() -> None:
    chosen = case("optimizer.memory=auto").plan()
    more = case(f"optimizer.token_budget={chosen.job.token_budget + 1}").plan()
    assert chosen.memory.update <= chosen.memory.usable < more.memory.update


def test_a_plan_on_a_cpu_chooses_as_a_run_does() -> None:
    lengths = Lengths(*LENGTHS, 1.5)
    found = case("optimizer.memory=auto", device="cpu", count=1, lengths=lengths)
    plan = found.plan()
    assert plan.job.token_budget == tokens_of_rows(pass_cost(plan.job, found.device), *LENGTHS)


def test_a_plan_keeps_to_given_memory() -> None:
    found = {gib: case(f"optimizer.memory={gib}").plan().job.token_budget for gib in (40, 50, 1000)}
    assert found[40] < found[50] < found[1000] == 8192
