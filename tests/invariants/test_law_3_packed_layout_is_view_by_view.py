"""Law 3: a pack equals one dense forward per view, in logits and in gradients."""

import random
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.diffusion.trajectories import random_canvas, random_trajectory
from tests.engine.writers import Ask, by_engine, prompt_of, revising_asks
from tests.invariants import seeing
from tests.invariants.conventions import EVERY_MODEL, TOYS, model_of
from tests.toy import toy_model
from unmask.acceptance.agreement import dense_logits as reference_logits
from unmask.configs.methods import partner
from unmask.configs.methods.views.left_to_right import LeftToRightViews
from unmask.configs.methods.views.semi_ar import SemiARViews
from unmask.configs.methods.views.trace import TraceViews
from unmask.diffusion.layout import pack_views
from unmask.diffusion.noise import NoiseSchedule
from unmask.diffusion.reference_sampler import sample
from unmask.diffusion.views import Canvas, Views, views_of_responses, views_of_trajectory
from unmask.engine.request import resolve
from unmask.models import tiled_attention
from unmask.models.conventions import conventions_of
from unmask.models.heads import Targets
from unmask.models.tiled_attention import plan_documents
from unmask.models.transformer import Model, image_features, image_vectors
from unmask.sampling_params import SamplingParams
from unmask.types import Trajectory

Origin = tuple[int, int, int]  # trajectory, view, position
Logits = dict[Origin, Tensor]
Gradients = dict[str, Tensor]

# How far a logit or a gradient may be off, of the largest: sums run in another order.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}
# In fp32 the dense gradients of LLaDA2's golden weights are themselves off by 1.5e-5 from those in fp64.
ROUGH_TOLERANCE = 1e-4


def doubled_mask(length: int, block: int) -> Tensor:
    """Return who sees whom in `clean | noisy`, both of `length` tokens."""
    place = torch.arange(2 * length)
    is_noisy, number = place >= length, place % length // block
    before = number[None] < number[:, None]
    same = number[None] == number[:, None]
    return ~is_noisy[None] & before | (is_noisy[None] == is_noisy[:, None]) & same


def dense_logits(model: Model, views: Views, view: int) -> Tensor:
    """Return the logits `(C, V)` that predict the canvas positions, in one dense forward of one view."""
    num_prompt, num_slots = len(views.prompt_ids), len(views.canvas_ids)
    place = torch.arange(num_prompt, num_prompt + num_slots)
    row = place - int(model.spec.is_shifted)
    mask_id = model.spec.require_mask_id()
    canvas = views.read_in(view).masked_fill(views.hidden[view], mask_id)
    prompt_ids = views.prompt_ids
    if views.prompt_hidden is not None:
        prompt_ids = prompt_ids.masked_fill(views.prompt_hidden[view], mask_id)
    noisy = torch.cat((prompt_ids, canvas))
    vectors = image_vectors(model.backbone.vision, views.images)
    if model.spec.attention == "full":
        return model.logits(noisy[None], vectors=vectors)[0, row]
    both = torch.cat((prompt_ids, views.canvas_ids, noisy))[None]
    length = len(noisy)
    positions = torch.arange(length).repeat(2)
    logits = model.logits(both, positions, doubled_mask(length, views.block)[None], vectors)[0]
    # A row before the position's own block is clean.
    is_clean = row // views.block < place // views.block
    return logits[row + length * ~is_clean]


def gradients(model: Model, loss: Tensor) -> Gradients:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def dense(model: Model, batch: list[Views]) -> tuple[Logits, Gradients]:
    """Return the logits of every target, and the gradients of the weighted log-likelihood."""
    logits: Logits = {}
    loss = torch.zeros((), dtype=torch.float64)
    for t, views in enumerate(batch):
        for v in range(len(views.target)):
            rows = dense_logits(model, views, v)
            scaled = (rows / views.temperature).masked_fill(~model.head.drawable, -torch.inf)
            logprobs = scaled.log_softmax(-1)
            for s in views.target[v].nonzero()[:, 0].tolist():
                logits[t, v, s] = rows[s].detach()
                gain = views.weight[v, s] * views.advantages[s]
                loss = loss + gain * logprobs[s, views.written()[v, s]]
    return logits, gradients(model, loss)


def packed(model: Model, batch: list[Views], budget: int) -> tuple[Logits, Gradients, int]:
    """Return the same by packs of at most `budget` tokens, and how many packs there were."""
    logits: Logits = {}
    loss = torch.zeros((), dtype=torch.float64)
    packs = pack_views(batch, conventions_of(model), budget)
    for pack in packs:
        plan = plan_documents(pack.structure)
        images = image_features(model.backbone.vision, pack.images)
        rows = model(pack.tokens, pack.positions, plan, pack.rows, images=images)
        keys = [(t, v, s) for t, v, s in pack.origin.T.tolist()]
        logits |= dict(zip(keys, rows.detach(), strict=True))
        targets = Targets(pack.targets, pack.temperatures)
        scores = model(pack.tokens, pack.positions, plan, pack.rows, targets, images)
        loss = loss + (pack.weights * pack.advantages * scores.logprobs).sum()
    return logits, gradients(model, loss), len(packs)


def largest_gap(found: dict, expected: dict) -> float:  # type: ignore[type-arg]
    """Return the largest difference, relative to the largest number."""
    assert found.keys() == expected.keys()
    gap = max(float((found[key] - expected[key]).abs().max()) for key in expected)
    return gap / max(float(numbers.abs().max()) for numbers in expected.values())


def assert_packed_is_dense(model: Model, batch: list[Views], budget: int) -> int:
    """Compare the two and return the number of packs."""
    expected_logits, expected_gradients = dense(model, batch)
    logits, found_gradients, num_packs = packed(model, batch, budget)
    is_rough = model.spec.family == "llada2" and model.dtype == torch.float32
    tolerance = ROUGH_TOLERANCE if is_rough else TOLERANCE[model.dtype]
    assert largest_gap(logits, expected_logits) <= tolerance
    assert largest_gap(found_gradients, expected_gradients) <= tolerance
    return num_packs


def weighted(views: list[Views], seed: int) -> list[Views]:
    """Give every target a weight of its own."""
    generator = torch.Generator().manual_seed(seed)
    return [replace(v, weight=torch.rand(v.weight.shape, generator=generator)) for v in views]


def batch_of(model: Model, seed: int, block: int, shrink: int) -> list[Views]:
    """Draw views of six trajectories: two on one prompt, others on any."""
    rng = random.Random(seed)
    is_full, lengths = model.spec.is_full, [rng.randrange(1, 3 * block) for _ in range(5)]
    if is_full:
        trajectories = [random_canvas(rng, length) for length in (*lengths, lengths[0])]
    else:
        trajectories = [random_trajectory(rng, block, length) for length in lengths]
        shared = trajectories[0].prompt.token_ids
        trajectories.append(random_trajectory(rng, block, prompt_ids=shared))
    assert any(len(t.prompt.token_ids) % block for t in trajectories)
    return weighted(
        [views_of_trajectory(t, rng.uniform(-1, 1), shrink, 1, is_full) for t in trajectories], seed
    )


@pytest.mark.parametrize(("shrink", "block", "budget"), [(1, 4, 10_000), (2, 4, 60), (1, 3, 36)])
@pytest.mark.parametrize("name", TOYS)
def test_packed_is_view_by_view(name: str, shrink: int, block: int, budget: int) -> None:
    model = toy_model(2, torch.float64, is_tied=True, **TOYS[name])
    for seed in range(3):
        batch = batch_of(model, seed, block, shrink)
        assert (assert_packed_is_dense(model, batch, budget) == 1) == (budget == 10_000)


def written_by_engine(model: Model) -> list[Trajectory]:
    """Let the engine answer eight requests that end in every way."""
    rng = random.Random(3)
    drawable = model.head.drawable.nonzero()[:, 0].tolist()
    asks: list[Ask] = [
        (
            rng.choices(drawable, k=rng.randrange(1, 12)),
            SamplingParams(
                strategy=("static", "dynamic", "random", "left_to_right")[i % 4],
                threshold=0.2,
                block_size=4,
                denoising_steps=rng.choice([None, 2]),
                stop_token_ids=tuple(drawable[:: 5 if i % 2 else len(drawable)]),
                max_tokens=rng.randrange(3, 11),
                seed=i,
            ),
        )
        for i in range(8)
    ]
    return by_engine(model, asks)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        *((name, torch.float64) for name in EVERY_MODEL),
        *((name, torch.float32) for name in ("block-causal", "full, experts", "golden llada2")),
    ],
)
def test_what_the_engine_wrote_is_packed_as_view_by_view(name: str, dtype: torch.dtype) -> None:
    model = model_of(name, dtype)
    trajectories = written_by_engine(model)
    assert {t.finish for t in trajectories} == {"stop", "length"}
    for shrink in (1, 3):
        batch = [
            views_of_trajectory(t, 1.0 - n / 3, shrink, 1, model.spec.is_full)
            for n, t in enumerate(trajectories)
        ]
        assert_packed_is_dense(model, weighted(batch, shrink), 64)


def pass_by_pass(model: Model, ask: Ask) -> tuple[Trajectory, Tensor]:
    """Return a response of the reference sampler, and its log-likelihood by a plain loop over its passes."""
    prompt = prompt_of(ask[0])
    params = resolve(prompt, ask[1], model.spec)
    assert params.block_size is not None
    forward = reference_logits(model, params.block_size)
    texts: list[Tensor] = []

    def recorded(ids: Tensor) -> Tensor:
        texts.append(ids.clone())  # the sampler changes it in place
        return forward(ids)

    found = sample(prompt, params, recorded, conventions_of(model))
    writes = [(r.step, r.position, r.token) for r in found.revisions if r.kind == "write"]
    standing = enumerate(zip(found.step_map, found.canvas_ids, strict=True))
    writes += [(step, position, token) for position, (step, token) in standing if step]
    assert len(texts) == found.num_steps and {step for step, *_ in writes} <= {
        *range(len(texts) + 1)
    }
    total = torch.zeros((), dtype=torch.float64)
    for number, text in enumerate(texts, 1):
        rows = forward(text)[0].masked_fill(~model.head.drawable, -torch.inf)
        logprobs = (rows / params.temperature).log_softmax(-1)
        for step, position, token in writes:
            if step == number:
                row = len(ask[0]) + position - int(model.spec.is_shifted)
                total = total + logprobs[row, token]
    return found, total


@pytest.mark.parametrize("name", [name for name in TOYS if "experts" not in name])
def test_the_likelihood_of_a_revising_trajectory_is_that_of_its_passes(name: str) -> None:
    """Packed, view by view and pass by pass, where tokens are overwritten, masked again or both."""
    model = model_of(name, torch.float64)
    asks = revising_asks(6, 4, model, stop_token_ids=())
    asks = [(ids, replace(one, max_tokens=12)) for ids, one in asks]
    written = [pass_by_pass(model, ask) for ask in asks]
    assert sum(len(t.revisions) for t, _ in written) > 12
    assert {r.kind for t, _ in written for r in t.revisions} == {"write", "remask"}
    total = torch.stack([likelihood for _, likelihood in written]).sum()
    expected = gradients(model, total)
    is_full = model.spec.is_full
    # The canvas may go on behind the response, to the end of its block: all its writes count here.
    whole = [replace(t, num_response=len(t.canvas_ids)) for t, _ in written]
    batch = [views_of_trajectory(t, 1.0, is_full=is_full) for t in whole]
    for budget in (10_000, 64):
        _, found, _ = packed(model, batch, budget)
        assert largest_gap(found, expected) <= TOLERANCE[model.dtype]
    assert_packed_is_dense(model, weighted(batch, 1), 64)


@pytest.mark.parametrize("budget", [10_000, 64])
@pytest.mark.parametrize("name", seeing.KINDS)
def test_responses_about_images_are_packed_as_view_by_view(name: str, budget: int) -> None:
    """Gradients of tower, projector and newline too; a picture stands in a pack once."""
    model = seeing.seeing_model(name)
    trajectories = seeing.written(model, seeing.prompts())
    batch = [
        views_of_trajectory(t, 1.0 - n / 3, 2, 1, model.spec.is_full)
        for n, t in enumerate(trajectories)
    ]
    num_packs = assert_packed_is_dense(model, weighted(batch, 0), budget)
    assert (num_packs == 1) == (budget == 10_000)
    vision = seeing.vision_of(model)
    missing = {n for n, p in vision.named_parameters() if p.grad is None or not p.grad.any()}
    # A bias of all keys alike changes no attention.
    assert {n for n in missing if "k_proj.bias" not in n} == {
        "tower.post_layernorm.weight",
        "tower.post_layernorm.bias",
    }


@pytest.mark.parametrize("name", TOYS)
def test_responses_under_noise_are_packed_as_view_by_view(name: str) -> None:
    """Noise hides a block's first position in some views and others in others, as no sampler would."""
    model = toy_model(2, torch.float64, **TOYS[name])
    pairs = [([3] * num_prompt, list(range(2, 2 + size))) for num_prompt, size in ((5, 9), (8, 1))]
    noise = NoiseSchedule(0.2, 0.9), 4
    canvas_tokens = 12 if model.spec.is_full else 0
    batch = views_of_responses(pairs, model.spec.require_block(), noise, [1, 2], canvas_tokens)
    assert_packed_is_dense(model, batch, 40)


@pytest.mark.parametrize("name", TOYS)
def test_demonstrations_are_packed_as_view_by_view(name: str) -> None:
    """Blocks in order, a recorded order and tokens from left to right, wherever the model can be trained so."""
    model = model_of(name, torch.float64)
    is_full, drawable = model.spec.is_full, model.head.drawable.nonzero()[:, 0].tolist()
    given = [
        (drawable[:num_prompt], drawable[-size:], [i * 7 % 5 for i in range(size)])
        for num_prompt, size in ((5, 9), (8, 1))
    ]
    canvas = Canvas(3 if is_full else model.spec.require_block(), is_full, 12 if is_full else 0)
    tables = [SemiARViews(train_block=3, count=2), TraceViews(shrink=2), LeftToRightViews()]
    for table in tables if not is_full or model.spec.is_shifted else tables[:2]:
        method = partner(table, "unmask.diffusion.methods")
        batch = method.of_demonstrations(given, table, canvas, [1, 2])
        if table.is_causal and is_full:
            assert_causal_is_dense(model, batch)
        else:
            assert_packed_is_dense(model, weighted(batch, 1), 40)


def assert_causal_is_dense(model: Model, batch: list[Views]) -> None:
    """Compare next-token logits under full attention with those of the sequence under a causal mask."""
    logits, _, _ = packed(model, batch, 40)
    for t, views in enumerate(batch):
        ids, start = torch.cat((views.prompt_ids, views.canvas_ids)), len(views.prompt_ids) - 1
        causal = torch.ones(len(ids), len(ids), dtype=torch.bool).tril()[None]
        rows = model.logits(ids[None], torch.arange(len(ids)), causal)[0].detach()
        found = {key: value for key, value in logits.items() if key[0] == t}
        expected = {(t, 0, s): rows[start + s] for s in range(len(views.canvas_ids))}
        assert largest_gap(found, expected) <= TOLERANCE[model.dtype]


def test_two_block_sizes_in_one_pack() -> None:
    """The same prompt on two grids is two prompts."""
    rng = random.Random(0)
    prompt = tuple(range(2, 18))
    batch = [
        views_of_trajectory(random_trajectory(rng, block, prompt_ids=prompt), 1.0)
        for block in (4, 8)
    ]
    for name in ("block-causal", "block-causal, shifted"):
        assert assert_packed_is_dense(model_of(name, torch.float64), batch, 10_000) == 1


@pytest.mark.parametrize("name", ["block-causal", "full"])
def test_a_view_of_two_thousand_tokens_is_its_dense_forward(name: str) -> None:
    """Long enough for tiles that share no keys, masks that are not kept, and several batches."""
    changes = TOYS[name] | {"num_layers": 1, "num_heads": 2, "num_kv_heads": 1}
    model = toy_model(2, torch.float32, **changes)
    prompt, response = [2 + i % 17 for i in range(303)], [2 + i * i % 17 for i in range(1745)]
    block = None if model.spec.is_full else 4
    noise = NoiseSchedule(0.3, 0.9), 1
    batch = weighted(views_of_responses([(prompt, response)], block, noise, [0]), 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiled_attention, "KEPT_PAIRS", 0)
        assert assert_packed_is_dense(model, batch, 10_000) == 1
