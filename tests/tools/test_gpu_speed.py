"""The parts of groups `speed` and `published` run in small, and their arithmetic is that of the facts."""

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tools.gpu.part import Part, Setting

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
# Part, and figures that it must have.
PARTS = {
    "attention_backends": ("cells", "not_run"),
    "ceilings": ("reached", "card"),
    "compile": ("cells", "layers"),
    "compiled_sampling": ("eager_ms", "compiled_ms", "other_tokens"),
    "engine_1_7b": ("cells", "ceilings", "sampling", "settings"),
    "engine_4b": ("cells", "ceilings", "sampling", "settings"),
    "memory": ("serving", "training", "settings"),
    "published_loop": ("cells", "settings"),
    "published_update": ("ratio", "peak_ratio", "gradient_difference", "counts"),
    "rl_step": ("seconds", "logprob_gap", "settings"),
    "sft_1_7b": ("checkpointing", "work", "card", "settings"),
    "update_1_7b": ("ratio", "ratio_with_old_pass", "peak_ratio", "gradient_difference"),
    "update_8b": ("ratio", "ratio_with_old_pass", "peak_ratio", "gradient_difference"),
    "weight_sync": ("seconds", "bytes"),
}


@pytest.fixture(autouse=True)
def benchmarks_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def part(name: str) -> Part:
    return importlib.import_module(f"tools.gpu.parts.{name}").PART


# Parts that differ from another in the size of their model alone, which is tiny here.
SAME = {"engine_1_7b", "update_1_7b"}


@pytest.mark.parametrize("name", [name for name in PARTS if name not in SAME])
def test_part_runs_in_small(name: str, tmp_path: Path) -> None:
    outcome = part(name).run(Setting(torch.device("cpu"), is_tiny=True, folder=tmp_path))
    assert outcome.summary
    assert outcome.passed is not False
    text = json.dumps(outcome.figures, allow_nan=False)  # raises if a figure is not finite
    figures = json.loads(text)
    assert set(PARTS[name]) <= figures.keys()
    if name.startswith("engine"):
        check_cells(figures["cells"])
    if name == "published_loop":
        assert [cell["same_tokens"] for cell in figures["cells"]] == [1.0] * 4
    if name == "compiled_sampling":
        assert figures["other_tokens"] == figures["entropy_difference"] == 0


def check_cells(cells: list[dict[str, Any]]) -> None:
    for cell in cells:
        # The first block holds the end of the prompt, so it may take a pass for fewer tokens.
        assert cell["tokens_per_forward"] == pytest.approx(cell["tokens_per_pass"], rel=0.06)
        assert cell["tokens_per_s"] > 0
        assert sum(cell["share_of_kernels"].values()) == pytest.approx(1, rel=1e-4)
        total = cell["host_ms"] + cell["waiting_ms"]
        assert total == pytest.approx(cell["ms_per_forward"], rel=1e-4)


def test_long_parts_need_all() -> None:
    parts = [part(name) for name in PARTS]
    assert {p.group for p in parts} == {"speed", "published"}
    long = ["attention_backends", "compile", "compiled_sampling", "published_loop"]
    long += ["published_update", "rl_step", "update_8b"]
    assert [name for name in PARTS if not part(name).is_default] == long


# shape, card, sequences, context, then the printed milliseconds of bytes and of operations.
BOUNDS = [
    ("4B", "H200", 1, 500, 1.69, 0.03),
    ("4B", "H200", 128, 1000, 5.61, 4.47),
    ("4B", "A100", 128, 1000, 13.2, 14.2),
    ("8B", "H200", 1, 500, 3.17, 0.06),
    ("8B", "H200", 16, 1000, 3.64, 1.02),
    ("8B", "H200", 64, 1000, 5.12, 4.07),
    ("8B", "H200", 128, 1000, 7.09, 8.14),
    ("8B", "A100", 128, 1000, 16.7, 25.8),
]


@pytest.mark.parametrize(("shape", "card", "sequences", "context", "bytes_ms", "flop_ms"), BOUNDS)
def test_roofline_is_the_printed_table(
    shape: str, card: str, sequences: int, context: int, bytes_ms: float, flop_ms: float
) -> None:
    from shapes import sdar_spec

    from tools.gpu.measure import CARDS, Load, ModelCost, roofline

    limits = next(one for one in CARDS if one.name == card)
    bound = roofline(
        ModelCost.of(sdar_spec(shape)), Load(sequences, context, 4 * sequences), limits
    )
    # The table is rounded to three digits.
    assert 1e3 * bound.bytes_s == pytest.approx(bytes_ms, rel=0.003)
    assert 1e3 * bound.flop_s == pytest.approx(flop_ms, rel=0.003, abs=0.005)
    assert bound.seconds == max(bound.bytes_s, bound.flop_s)
    assert bound.limit == ("memory" if bytes_ms > flop_ms else "compute")


@pytest.mark.parametrize(
    ("shape", "body", "head", "cache_kib"),
    [("1.7B", 1.41, 0.311, 112), ("4B", 3.63, 0.389, 144), ("8B", 6.95, 0.622, 144)],
)
def test_models_have_the_published_constants(
    shape: str, body: float, head: float, cache_kib: int
) -> None:
    from shapes import sdar_spec

    from tools.gpu.measure import ModelCost, parameters
    from unmask.checkpoints.memory import meta_model

    spec = sdar_spec(shape)
    cost = ModelCost.of(spec)
    assert (cost.body / 1e9, cost.head / 1e9) == (
        pytest.approx(body, abs=0.006),
        pytest.approx(head, abs=6e-4),
    )
    assert cost.cache_bytes == cache_kib * 1024
    total = parameters(meta_model(spec))
    norms = total - cost.body - cost.head * (1 if spec.is_tied else 2)
    assert 0 < norms < 1e6


def test_training_flops_count_parameters_and_pairs() -> None:
    from tools.gpu.measure import ModelCost, training_flops

    cost = ModelCost(body=100, head=10, cache_bytes=4, channels=6)
    assert training_flops(cost, tokens=7, pairs=5) == 6 * 110 * 7 + 12 * 5 * 6


def test_pairs_are_those_of_the_mask() -> None:
    from tests.toy import toy_model
    from tools.gpu.train import count_pairs, draw_samples
    from unmask.diffusion.layout import pack_views
    from unmask.models.attention import sees
    from unmask.models.conventions import conventions_of

    packs = pack_views(draw_samples(20, 4000), conventions_of(toy_model()), 2048)
    assert len(packs) > 1
    expected = sum(int(sees(p.structure[:, :, None], p.structure[:, None]).sum()) for p in packs)
    assert count_pairs(packs, torch.device("cpu")) == expected


def test_weights_are_drawn_with_the_sizes_of_fresh_ones() -> None:
    from shapes import drawn_model, sdar_spec

    from unmask.models.transformer import Model, initialise

    spec = sdar_spec("1.7B", is_tiny=True)
    drawn, fresh = drawn_model(spec, torch.device("cpu"), torch.float32), Model(spec)
    initialise(fresh, 1)
    for (name, one), other in zip(drawn.named_parameters(), fresh.parameters(), strict=True):
        assert float(one.detach().std()) == pytest.approx(float(other.detach().std()), rel=0.1), (
            name
        )
    assert torch.equal(drawn.head.drawable, fresh.head.drawable)
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("attend_tile", "attention"),
        ("triton_flash_fwd", "attention"),
        ("nvjet_hsh_128x256_64x4_2x1_v_bz_coopA_TNT", "matmul"),
        ("sm90_xmma_gemm_bf16bf16_bf16f32", "matmul"),
        ("void cublasLt::splitKreduce_kernel", "matmul"),
        ("void at::native::(anonymous namespace)::cunn_SoftMaxForward", "sampling"),
        ("void at::native::vectorized_elementwise_kernel<4, at::native::FillFunctor>", "other"),
        ("aten::mm", "matmul"),
    ],
)
def test_kernels_are_grouped_by_name(name: str, group: str) -> None:
    from tools.gpu.measure import group_of

    assert group_of(name) == group


def test_a_card_is_found_by_its_name() -> None:
    from tools.gpu.measure import card_of

    card = card_of("NVIDIA H200")
    assert card is not None and (card.flops, card.bandwidth) == (989e12, 4.8e12)
    assert card_of("cpu") is None
