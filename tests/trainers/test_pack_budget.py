"""Packs of a chosen budget: their gradients, what chooses them, and what is recorded."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.toy import toy_model
from unmask.configs.load import dump
from unmask.configs.optimizer import OptimizerConfig
from unmask.configs.sft import SFTConfig
from unmask.diffusion.noise import NoiseSchedule
from unmask.diffusion.views import Views, views_of_responses
from unmask.models.value_model import ActorCritic, ValueModel
from unmask.planning import activations
from unmask.planning.memory import pass_cost
from unmask.planning.sizes import sizes_of
from unmask.runs.directory import check_run, with_recorded_budget
from unmask.runs.files import write_json
from unmask.trainers.learner import Learner
from unmask.trainers.pack_budget import Lengths, build_budget, lengths_of, pass_cost_of


def views() -> list[Views]:
    """Return views of responses of several lengths."""
    pairs = [([2 + n] * 5, [4] * (6 + 4 * n)) for n in range(6)]
    return views_of_responses(pairs, 4, (NoiseSchedule(0.2, 0.9), 2), range(6))


def packs(learner: Learner) -> list[int]:
    """Return the tokens of each pack."""
    return [len(pack.tokens) for pack in learner._packs(views())]


def test_a_given_budget_is_taken() -> None:
    learner = Learner(toy_model(), OptimizerConfig(token_budget=64))
    assert learner.budget(Lengths(1000, 1000, 1000)) == 64
    assert max(packs(learner)) <= 64


def test_auto_is_the_memory_of_rows_of_the_longest_prompt_and_response(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(activations, "LEAST_BYTES", 0)
    model = toy_model()
    learner, cost = Learner(model, OptimizerConfig()), pass_cost_of(model)
    lengths = lengths_of(views())
    prompt, canvas, whole, scored = lengths
    assert (prompt, whole) == (5, 5 + canvas)
    expected = max(whole, activations.tokens_of_rows(cost, prompt, canvas, scored))
    assert learner.budget(lengths) == expected
    found = packs(learner)
    assert len(found) > 1 and max(found) <= expected


@pytest.mark.parametrize("budget", [40, 8192])
def test_no_larger_share_of_a_batch_is_scored(budget: int) -> None:
    found = Learner(toy_model(), OptimizerConfig(token_budget=budget))._packs(views())
    scored = sum(len(pack.rows) for pack in found) / sum(len(pack.tokens) for pack in found)
    assert 0 < scored <= lengths_of(views()).scored


def test_a_small_model_packs_everything() -> None:
    assert len(packs(Learner(toy_model(), OptimizerConfig()))) == 1


def test_no_budget_is_smaller_than_a_part_that_cannot_be_split(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(activations, "LEAST_BYTES", 0)
    monkeypatch.setattr(activations, "ROWS", {False: 0, True: 0})
    assert build_budget(toy_model(), None)(Lengths(7, 50, 57)) == 57


def test_gibibytes_are_those_of_state_and_activations() -> None:
    model = toy_model()
    state = 16 * sum(p.numel() for p in model.parameters())
    cost = pass_cost_of(model)
    memory = (state + cost.peak(100, 100)) / 2**30
    learner = Learner(model, OptimizerConfig(memory=memory))
    assert 99 <= learner.budget(Lengths(1, 1, 2)) <= 100
    with pytest.raises(
        ValueError, match=r"optimizer.memory = .* packs of (99|100) tokens, .* takes 300; raise it"
    ):
        learner.budget(Lengths(100, 200, 300))


def test_the_cost_of_a_model_is_that_of_its_plan() -> None:
    from tests.planning.cases import case

    model = toy_model()
    found = case("model.dtype=float32", spec=model.spec, count=1, device="cpu")
    assert pass_cost_of(model) == pass_cost(found.plan().job, found.device)
    assert pass_cost_of(ActorCritic(model)) == pass_cost_of(model)
    value = pass_cost_of(ValueModel(model.spec))
    assert (value.has_logits, value.head_gradient) == (False, 0)
    model.head.projection.weight.requires_grad_(False)
    frozen = pass_cost_of(model)
    assert frozen.is_frozen and frozen.head_gradient == 0
    assert replace(frozen, is_frozen=False, head_gradient=sizes_of(model.spec).vocabulary * 4) == (
        pass_cost_of(toy_model())
    )


def sft(directory: Path, **optimizer: object) -> SFTConfig:
    """Return the config of a run."""
    run = {"dir": str(directory)}
    model, data = {"path": "-"}, {"path": "-"}
    return SFTConfig.model_validate(
        {"run": run, "model": model, "data": data, "optimizer": optimizer}
    )


def test_a_resumed_run_keeps_the_memory_or_budget_that_it_began_with(tmp_path: Path) -> None:
    for key, value in (("memory", 3.25), ("token_budget", 8192), ("memory", "auto")):
        write_json(tmp_path / "config.json", dump(sft(tmp_path, **{key: value})))
        resumed = sft(tmp_path)
        check_run(resumed, resume=True)
        assert getattr(with_recorded_budget(resumed).optimizer, key) == value


def test_a_resumed_run_refuses_another_given_memory_or_budget(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", dump(sft(tmp_path, memory=3.25)))
    for key, value in (("memory", 2.0), ("token_budget", 512)):
        with pytest.raises(ValueError, match=rf"optimizer\.(memory|token_budget) = .*{value}|None"):
            check_run(sft(tmp_path, **{key: value}), resume=True)
