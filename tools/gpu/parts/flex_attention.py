"""FlexAttention of a training pack against the dense mask, forward and gradients.

The pack is one of real views: shared prompts, a clean copy and noisy copies of each block, filled to its budget.
The reference is softmax attention in fp64 under the whole mask, head by head.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from tools.gpu.part import Outcome, Part, Setting
from tools.gpu.small_models import FORMATS, relative, worst
from unmask.diffusion.conventions import Conventions
from unmask.diffusion.layout import pack_views
from unmask.diffusion.noise import NoiseSchedule
from unmask.diffusion.views import views_of_responses
from unmask.models.attention import sees
from unmask.models.tiled_attention import plan_documents

# Formats, tokens, head width, query heads, key heads. Widths below 16 are padded, 96 is no power of two, 7 heads
# share keys in Qwen2.5-7B. Each takes seconds of compilation, so that few are run in both formats.
BOTH = ("fp32", "bf16")
SHAPES = (
    (BOTH, 8192, 128, 4, 1),
    (("bf16",), 2048, 64, 8, 2),
    (("bf16",), 2048, 96, 2, 2),
    (("bf16",), 2048, 128, 7, 1),
    (("fp32",), 1024, 8, 2, 1),
)
TINY_SHAPES = ((BOTH, 256, 8, 2, 1), (BOTH, 256, 16, 2, 2))
# Largest difference as a share of the largest value: of the output, and of the gradients.
BOUND = {"fp32": (1e-5, 5e-5), "bf16": (1e-2, 2e-2)}


def run(setting: Setting) -> Outcome:
    """Compare all shapes; a kernel is compiled for each."""
    figures: dict[str, Any] = {}
    passed = True
    for formats, tokens, *shape in TINY_SHAPES if setting.is_tiny else SHAPES:
        structure = pack_structure(tokens).to(setting.device)
        for name in formats:
            torch.compiler.reset()  # shapes of other parts count against torch's limit
            output, gradients = compare(structure, shape, FORMATS[name])
            figures[f"{name} {tokens} x {shape}"] = {"output": output, "gradients": gradients}
            passed &= relative(output) <= BOUND[name][0]
            passed &= relative(gradients) <= BOUND[name][1]
    largest = {
        (name, part): max(relative(x[part]) for key, x in figures.items() if key.startswith(name))
        for name in FORMATS
        for part in ("output", "gradients")
    }
    parts = (f"{name} {part} {share:.1e}" for (name, part), share in largest.items())
    return Outcome(f"of the largest value: {', '.join(parts)}", passed, figures)


def pack_structure(tokens: int) -> Tensor:
    """Return the structure `(4, T)` of a pack with a budget of `tokens`, filled as on a GPU."""
    length = max(16, tokens // 32)
    pairs = [
        (tuple(range(2, 2 + 9 + number // 2)), list(range(2, 2 + length))) for number in range(64)
    ]
    views = views_of_responses(pairs, 4, (NoiseSchedule(0.2, 0.9), 2), range(len(pairs)))
    pack = pack_views(views, Conventions(1, torch.ones(8192, dtype=torch.bool)), tokens)[0]
    return pack.filled(tokens).structure


def compare(
    structure: Tensor, shape: list[int], dtype: torch.dtype
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the differences of output and gradients from dense attention in fp64."""
    width, heads, kv_heads = shape
    generator = torch.Generator().manual_seed(width)
    drawn = [
        torch.randn(structure.shape[1], h, width, generator=generator)
        for h in (heads, kv_heads, kv_heads, heads)
    ]
    q, k, v, slope = (x.to(structure.device, dtype) for x in drawn)
    plan = plan_documents(structure)
    found = with_gradients(partial(plan, 0), (q, k, v), slope)
    mask = sees(structure[:, :, None], structure[:, None])
    expected = with_gradients(
        partial(dense, mask=mask), tuple(x.double() for x in (q, k, v)), slope
    )
    return worst(found[:1], expected[:1]), worst(found[1:], expected[1:])


def with_gradients(attend: Any, given: tuple[Tensor, ...], slope: Tensor) -> list[Tensor]:
    """Return an output and the gradients of its inner product with `slope`."""
    leaves = [x.detach().requires_grad_() for x in given]
    mixed = attend(*leaves)
    return [mixed.detach(), *torch.autograd.grad(mixed, leaves, slope.to(mixed.dtype))]


def dense(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Return softmax attention of `q (T, H, E)` over `k, v (T, Hk, E)`, one head at a time."""
    ratio = q.shape[1] // k.shape[1]
    heads = [
        (q[:, h] @ k[:, h // ratio].T * q.shape[-1] ** -0.5)
        .masked_fill(~mask, -torch.inf)
        .softmax(-1)
        @ v[:, h // ratio]
        for h in range(q.shape[1])
    ]
    return torch.stack(heads, 1)


# Six kernels forward and six backward, 2 to 3 s of compilation each; four heads of 8,192 squared in fp64: 35 s.
PART = Part("FlexAttention against the dense mask, with gradients", "correctness", run, limit_s=120)
