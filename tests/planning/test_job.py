"""Packed tokens are those that the layout packs; models and passes are those that a run has."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.planning.cases import LENGTHS, case
from tests.toy import SPEC, toy_model
from tests.trainers.toy_methods import row
from unmask.configs.methods import partner
from unmask.configs.methods.view_section import ViewSection
from unmask.configs.methods.views.coupled import CoupledViews
from unmask.configs.methods.views.random import RandomViews
from unmask.configs.methods.views.trace import TraceViews
from unmask.configs.sft import SFTConfig
from unmask.data.demonstrations import Demonstration
from unmask.diffusion.layout import pack_views
from unmask.diffusion.noise import NoiseSchedule
from unmask.diffusion.views import Views, views_of_responses, views_of_trajectory
from unmask.engine.llm import LLM
from unmask.models.conventions import conventions_of
from unmask.models.spec import ModelSpec
from unmask.planning.job import Lengths, packing
from unmask.sampling_params import SamplingParams
from unmask.trainers.sft import noisy_views
from unmask.types import Prompt, Trajectory

PROMPT, RESPONSE, COUNT = 8, 40, 60
ONE = Lengths(PROMPT, RESPONSE, 1.0)


def packed(views: Sequence[Views], spec: ModelSpec) -> tuple[int, int]:
    """Return the tokens and the scored rows of real packs."""
    model = toy_model(attention=spec.attention)
    packs = pack_views(views, conventions_of(model), 4096)
    return sum(len(p.tokens) for p in packs), sum(len(p.targets) for p in packs)


def spec_with(attention: str) -> ModelSpec:
    return replace(SPEC, attention=attention)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("attention", ["block_causal", "full"])
@pytest.mark.parametrize(("low", "high"), [(0.1, 0.9), (0.05, 0.3)])
def test_random_views(attention: str, low: float, high: float) -> None:
    spec = spec_with(attention)
    prompts = [[2 + n % 18, *[3] * (PROMPT - 1)] for n in range(COUNT)]
    pairs = [(prompt, [4] * RESPONSE) for prompt in prompts]
    block = None if spec.is_full else spec.block_size
    views = views_of_responses(pairs, block, (NoiseSchedule(low, high), 2), range(COUNT))
    tokens, scored = packed(views, spec)
    section = RandomViews(low=low, high=high, count=2)
    predicted = packing(section, spec, ONE, COUNT, 18 if not spec.is_full else COUNT)
    assert predicted == (pytest.approx(tokens, rel=0.06), pytest.approx(scored, rel=0.1))


def test_semi_autoregressive_views_have_one_per_block() -> None:
    spec = replace(spec_with("full"), block_size=None)
    config = SFTConfig.model_validate(
        {"model": {"path": "-"}, "views": {"kind": "semi_ar", "train_block": 8}}
    )
    text = Demonstration((2,) * PROMPT, (4,) * RESPONSE)
    views = noisy_views([text] * COUNT, range(COUNT), config, spec, 1, 0)
    tokens, scored = packed(views, spec)
    predicted = packing(config.views, spec, ONE, COUNT, COUNT)
    assert predicted == (pytest.approx(tokens, rel=0.06), pytest.approx(scored, rel=0.1))


@pytest.mark.parametrize("attention", ["block_causal", "full"])
def test_trace_views(attention: str) -> None:
    spec = spec_with(attention)
    model = toy_model(attention=spec.attention)
    prompts = [Prompt("toy", uid, (), (2 + uid, *[3] * (PROMPT - 1))) for uid in range(4)]
    params = SamplingParams(
        max_tokens=RESPONSE, strategy="static", block_size=4, stop_token_ids=(23,)
    )
    asked = [(prompt, replace(params, seed=seed)) for prompt in prompts for seed in range(3)]
    written = LLM(model).complete([p for p, _ in asked], [s for _, s in asked])
    tokens, scored = packed(
        [views_of_trajectory(t, 1.0, is_full=spec.is_full) for t in written], spec
    )
    predicted = packing(TraceViews(), spec, ONE, 12, 4)
    assert predicted == (pytest.approx(tokens, rel=0.06), pytest.approx(scored, rel=0.01))


# Tolerances of packed tokens, in block-causal models; under full attention there are as many as views.
# Of a block of 4 tokens 1 to 4 are hidden, which is more than the half that is predicted.
MASKED = {
    "counted": ({"count": 2}, 0.1),
    "counted, coupled": ({"kind": "counted", "count": 2, "coupled": True}, 0.15),
    "counted, block": ({"kind": "counted", "level": "block"}, 0.06),
    "quadrature": ({"points": 3}, 0.15),
    "one_step": ({"count": 2}, 0.08),
    "one_step, whole prompt": ({"kind": "one_step", "prompt_noise": 0}, 0.06),
    "blockwise": ({"count": 2}, 0.3),
    "steps": ({"count": 4}, 0.1),
}


@pytest.mark.parametrize("attention", ["block_causal", "full"])
@pytest.mark.parametrize("name", MASKED)
def test_masked_views_of_rollouts(name: str, attention: str) -> None:
    choice, tolerance = MASKED[name]
    spec, section = spec_with(attention), row({"kind": name.split(",")[0], **choice}).views
    of_trajectory = partner(section, "unmask.diffusion.methods").of_trajectory
    ids, steps = tuple([4] * RESPONSE), tuple(range(1, RESPONSE + 1))
    views = [
        of_trajectory(
            Trajectory(
                prompt=Prompt("toy", n, (), (2 + n % 18, *[3] * (PROMPT - 1))),
                canvas_ids=ids,
                step_map=steps,
                behavior_logprobs=(-1.0,) * RESPONSE,
                num_response=RESPONSE,
                finish="length",
                policy_version=0,
                sampling=SamplingParams(block_size=4, seed=n),
                num_forwards=RESPONSE,
            ),
            1.0,
            section,
            spec.is_full,
        )
        for n in range(COUNT)
    ]
    tokens, scored = packed(views, spec)
    predicted = packing(section, spec, ONE, COUNT, 18 if not spec.is_full else COUNT)
    bound = 0.06 if spec.is_full else tolerance
    assert predicted == (pytest.approx(tokens, rel=bound), pytest.approx(scored, rel=0.22))


def test_a_loss_of_responses_scores_its_views_once_more_in_each_epoch() -> None:
    words = ["views.kind=counted", "epochs=3"]
    plain, of_responses = (
        case(*words, f"loss.kind={k}").plan().job for k in ("weighted", "boundary")
    )
    assert of_responses.scorings == plain.scorings + 3


def test_drafts_have_one_view_each() -> None:
    plain, drafted = (case(f"rollout.drafts={count}").plan().job for count in (0, 3))
    assert drafted.scored == pytest.approx(3 * plain.scored)
    assert drafted.packed < 3 * plain.packed


def test_coupled_views_score_every_token_of_a_mask_once() -> None:
    tokens, scored = packing(CoupledViews(), spec_with("full"), ONE, 10, 10)
    assert (tokens, scored) == (10 * 2 * (PROMPT + RESPONSE), 10 * RESPONSE)


@pytest.mark.parametrize("views", [TraceViews(shrink=2), TraceViews(train_block=8)])
def test_merged_views_and_larger_blocks(views: ViewSection) -> None:
    tokens, _ = packing(views, SPEC, ONE, 1, 1)
    copies = 2 if views.train_block is None else 8
    assert tokens == PROMPT + RESPONSE * (1 + copies)


def test_adapters_and_moments() -> None:
    full, lora = case().plan().job, case("lora.rank=8").plan().job
    assert full.policy.trained == full.policy.held == full.sizes.total
    assert full.policy.moments == 8 * full.policy.trained
    assert lora.policy.held == full.sizes.total + lora.policy.trained
    assert lora.policy.share < 0.01
    muon = case("optimizer.kind=muon").plan().job.policy.moments
    assert muon == 8 * full.sizes.total - 4 * full.sizes.matrices
    narrow = case("optimizer.kind=adamw_8bit").plan().job.policy.moments
    assert narrow == pytest.approx(full.policy.moments / 4, rel=0.02)


def test_value_models() -> None:
    assert case("advantage.kind=shared_value").plan().job.critic is None
    own = case("advantage.kind=value").plan().job
    assert own.critic is not None
    head = own.sizes.vocabulary - own.spec.width
    assert own.critic.trained == own.critic.held == own.sizes.total - head
    words = ("advantage.kind=value", "advantage.lora.rank=8", "lora.rank=8")
    shared = case(*words, count=1).plan().job.critic
    assert shared is not None and shared.held == shared.trained
    # Several ranks shard a twin of each, and a stored head comes with its own backbone.
    for others in (case(*words), case(*words, "advantage.head=stored", count=1)):
        twin = others.plan().job.critic
        assert twin is not None and twin.held == own.critic.held + shared.trained


def test_reference_and_scorings() -> None:
    assert case().plan().job.scorings == 0  # one update, measured from itself
    anchored = case("loss.kl=0.1", "loss.kl_to=reference").plan().job
    assert (anchored.frozen, anchored.scorings) == (anchored.sizes.total, 1)
    adapted = case("loss.kl=0.1", "loss.kl_to=reference", "lora.rank=8").plan().job
    assert (adapted.frozen, adapted.scorings) == (0, 1)
    # In bf16 the engine's log-probabilities do not serve as the old ones.
    assert case("minibatches=4").plan().job.scorings == 1
    wide = ("minibatches=4", "model.dtype=float32")
    assert case(*wide).plan().job.scorings == 0
    stale = ("rollout.workers=8", "rollout.staleness=1", "loss.max_importance=2")
    assert case(*wide, *stale).plan().job.scorings == 1


def test_packs_of_a_device() -> None:
    job = case("minibatches=2", "epochs=3").plan().job
    own = job.packed / 2 / 8
    assert (job.updates, job.passes) == (6, 3)
    assert (job.packs - 1) * job.token_budget < own <= job.packs * job.token_budget


def test_fewer_trajectories_than_devices_are_refused() -> None:
    with pytest.raises(ValueError, match=r"data.batch_size = 32 trajectories, fewer than devices"):
        case(kind="sft", count=64, lengths=LENGTHS).plan()
