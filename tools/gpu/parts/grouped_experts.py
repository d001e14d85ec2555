"""Grouped products of experts against the loop over experts, and an engine with experts under CUDA graphs."""

from typing import Any

import torch
from torch import Tensor

from tools.gpu.part import Outcome, Part, Setting
from tools.gpu.small_models import (
    FORMATS,
    LOGPROB,
    TIE,
    random_prompts,
    relative,
    sampling_of,
    small_experts,
    small_model,
    worst,
)
from unmask.acceptance.agreement import compare_with_reference
from unmask.engine.llm import LLM
from unmask.models.stacked_linear import (
    is_groupable,
    project_groups,
    project_groups_in_loop,
    waits_for_router,
)

BOUND = {"fp32": 1e-5, "bf16": 1e-2}  # of the largest value


def run(setting: Setting) -> Outcome:
    """Compare products with groups of every size, then responses of a model with experts."""
    figures: dict[str, Any] = {}
    passed = True
    for name, dtype in FORMATS.items():
        found = compare_products(setting, dtype)
        figures[f"products {name}"] = found
        passed &= relative(found) <= BOUND[name]
        served = figures[f"engine {name}"] = serve(setting, dtype)
        passed &= served["mean_logprob_gap"] <= LOGPROB[name]
        # In bf16 a token near a border between experts may go to another one, and decisions with it.
        passed &= name == "bf16" or served["largest_gap_of_a_decision"] <= TIE[name]
        passed &= served["repeats"]
    bf16 = figures["engine bf16"]
    how = "under CUDA graphs" if bf16["uses_graphs"] else "without CUDA graphs"
    share = max(relative(figures[f"products {name}"]) for name in FORMATS)
    summary = f"products within {share:.1e} of the largest value; bf16 engine {how}"
    return Outcome(summary, passed, figures)


def compare_products(setting: Setting, dtype: torch.dtype) -> dict[str, float]:
    """Return the difference of grouped and looped products and of their gradients."""
    moe = small_experts(setting)
    width_in, width_out = (32, 64) if setting.is_tiny else (2048, 768)
    generator = torch.Generator().manual_seed(0)
    # Multiples of a row tile, some empty, as training never has them but sampling does.
    sizes = torch.randint(0, 5, (moe.num_experts,), generator=generator) * 8
    sizes[:2] = torch.tensor([0, 256])
    ends = sizes.cumsum(0).int().to(setting.device)
    num_rows, used = int(sizes.sum()) + 16, int(sizes.sum())
    x = torch.randn(num_rows, width_in, generator=generator).to(setting.device, dtype)
    weight = torch.randn(moe.num_experts, width_out, width_in, generator=generator) * width_in**-0.5
    weight = weight.to(setting.device, dtype)
    assert is_groupable(weight)
    slope = torch.randn(used, width_out, generator=generator).to(setting.device, dtype)

    def results(project: Any) -> list[Tensor]:
        leaves = [x.clone().requires_grad_(), weight.clone().requires_grad_()]
        product = project(*leaves, ends)[:used]
        of_x, of_weight = torch.autograd.grad(product, leaves, slope)
        return [product.detach(), of_x[:used], of_weight[sizes > 0]]

    return worst(results(project_groups), results(project_groups_in_loop))


def serve(setting: Setting, dtype: torch.dtype) -> dict[str, Any]:
    """Let an engine with experts write twice, and compare with the reference sampler."""
    count, longest, max_tokens = (2, 12, 8) if setting.is_tiny else (4, 200, 16)
    model = small_model(setting, dtype, moe=small_experts(setting))
    prompts = random_prompts(count, model.spec.num_drawable, longest)
    llm = LLM(model)
    first, again = (llm.complete(prompts, sampling_of(count, max_tokens)) for _ in range(2))
    found = [compare_with_reference(model, trajectory) for trajectory in again]
    gaps = [gap for agreement in found for gap in agreement.logprob_gaps]
    return {
        "uses_graphs": setting.device.type == "cuda" and not waits_for_router(model),
        "repeats": [t.canvas_ids for t in first] == [t.canvas_ids for t in again],
        "near_ties": sum(agreement.step is not None for agreement in found),
        "largest_gap_of_a_decision": max(agreement.gap for agreement in found),
        "mean_logprob_gap": sum(gaps) / max(len(gaps), 1),
        "largest_logprob_gap": max(gaps, default=0.0),
    }


PART = Part(
    "grouped experts against the loop; experts in the engine",
    "correctness",
    run,
    limit_s=60,
    is_default=False,
)
