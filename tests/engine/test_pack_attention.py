"""The pages of a pack: every row reads the tokens that it sees, in order of position."""

import pytest
import torch
from torch import Tensor

from tests.engine.writers import Ask, by_engine
from tests.invariants.conventions import model_of
from tests.toy import toy_model
from unmask.diffusion.layout import Pack, pack_views
from unmask.diffusion.views import views_of_trajectory
from unmask.engine.attention import Shapes
from unmask.engine.engine import Engine
from unmask.engine.options import EngineParams
from unmask.engine.pack_attention import lay_pages, plan_pages
from unmask.engine.scoring import score_pack
from unmask.models.attention import KEY_CHUNK, sees
from unmask.models.batch_invariant import make_batch_invariant
from unmask.models.conventions import conventions_of
from unmask.models.tiled_attention import plan_documents
from unmask.models.transformer import Model
from unmask.sampling_params import SamplingParams

MODELS = ["block-causal", "block-causal, shifted", "full", "full, shifted"]
# Prompts that end inside a page, on its border and inside a block; two share one, and one is short.
PROMPTS = [70, 70, KEY_CHUNK, 60, 2 * KEY_CHUNK - 13, 3]


def packs_of(model: Model, budget: int) -> list[Pack]:
    """Return the packs of responses to prompts of several pages."""
    asks: list[Ask] = [
        ([2 + i % 7 for i in range(length)], SamplingParams(max_tokens=9, seed=seed))
        for seed, length in enumerate(PROMPTS)
    ]
    is_full = model.spec.is_full
    views = [views_of_trajectory(t, 1.0, is_full=is_full) for t in by_engine(model, asks)]
    return pack_views(views, conventions_of(model), budget)


@pytest.mark.parametrize("budget", [2048, 170])
@pytest.mark.parametrize("name", MODELS)
def test_a_row_reads_the_tokens_it_sees(name: str, budget: int) -> None:
    for pack in packs_of(model_of(name, torch.float32), budget):
        filled = pack.filled(len(pack.tokens) + 150)  # two dead copies, one of them short
        rows, table, source = lay_pages(filled.structure, filled.positions)
        structure = filled.structure
        for row in range(len(filled.tokens)):
            limit = int(rows.limit[row])
            read = source[table[rows.sequence[row]]].flatten()[:limit]
            seen = sees(structure[:, row, None], structure)
            assert torch.equal(read.sort().values, seen.nonzero()[:, 0])
            assert torch.equal(filled.positions[read], torch.arange(limit))
        assert not source[0].any()


@pytest.mark.parametrize("name", MODELS)
def test_clean_pages_are_shared(name: str) -> None:
    """A noisy copy has a page or two of its own, whatever the length of its prompt."""
    (pack,) = packs_of(model_of(name, torch.float32), 10_000)
    rows, _, source = lay_pages(pack.structure, pack.positions)
    begin = pack.positions[rows.starts]
    own = (begin + rows.counts - 1) // KEY_CHUNK - begin // KEY_CHUNK + 1
    assert len(source) == 1 + int(own.sum())
    if name.startswith("block"):
        assert int(own[pack.structure[2][rows.starts] > 0].max()) == 1


@pytest.mark.parametrize("name", MODELS)
def test_it_is_the_attention_of_packs(name: str) -> None:
    """Outputs and gradients, in fp64."""
    model = model_of(name, torch.float64)
    spec = model.spec
    generator = torch.Generator().manual_seed(0)
    for pack in packs_of(model, 400):
        heads = (spec.num_heads, spec.num_kv_heads, spec.num_kv_heads)
        inputs = [
            torch.randn(len(pack.tokens), n, spec.head_width, generator=generator).double()
            for n in heads
        ]
        upstream = torch.randn(inputs[0].shape, generator=generator).double()
        found: list[tuple[Tensor, ...]] = []
        for attend in (
            plan_documents(pack.structure),
            plan_pages(pack.structure, pack.positions, Shapes.of(model)),
        ):
            leaves = [x.clone().requires_grad_() for x in inputs]
            mixed = attend(0, *leaves)
            found.append((mixed.detach(), *torch.autograd.grad(mixed, leaves, upstream)))
        torch.testing.assert_close(found[1], found[0], rtol=0, atol=1e-12)


def test_another_attention_is_refused() -> None:
    model = toy_model()
    make_batch_invariant(model)
    assert Engine(model, EngineParams(attention="plain")).attention == "plain"
    with pytest.raises(ValueError, match=r"attention = 'flex': .* takes 'plain' on cpu"):
        Engine(model, EngineParams(attention="flex"))


@pytest.mark.parametrize(
    ("name", "checkpoints"), [(name, bool(n % 2)) for n, name in enumerate(MODELS)]
)
def test_gradients_of_a_batch_invariant_model_are_those_of_any(
    name: str, checkpoints: bool
) -> None:
    model = model_of(name, torch.float64)
    (pack,) = packs_of(model, 10_000)

    def gradients() -> tuple[Tensor, Tensor]:
        model.zero_grad()
        logprobs = score_pack(model, pack).logprobs
        logprobs.square().sum().backward()
        return logprobs.detach(), torch.cat(
            [p.grad.flatten() for p in model.parameters() if p.grad is not None]
        )

    plain = gradients()
    make_batch_invariant(model)
    model.backbone.gradient_checkpointing = checkpoints
    torch.testing.assert_close(gradients(), plain, rtol=0, atol=1e-9)
