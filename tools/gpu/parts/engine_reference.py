"""The engine against the reference sampler, in every mode of the engine, alone and among other responses.

Two samplers that round differently part where two numbers that a decision compares are almost equal. Such
near-ties are counted; every other difference is a failure (`unmask/acceptance/agreement.py`).
"""

from itertools import product
from typing import Any

from tools.gpu.part import Outcome, Part, Setting
from tools.gpu.small_models import (
    FORMATS,
    LARGEST,
    LOGPROB,
    TIE,
    random_prompts,
    sampling_of,
    small_model,
)
from unmask.acceptance.agreement import compare_with_reference, first_difference
from unmask.engine.llm import LLM
from unmask.engine.options import EngineParams
from unmask.models.transformer import Model
from unmask.types import Trajectory

MODES = {
    "graphs": EngineParams(reads_late=True, uses_graphs=True),
    "no graphs": EngineParams(reads_late=True, uses_graphs=False),
    "read at once": EngineParams(reads_late=False, uses_graphs=False),
}
BATCHES = (1, 2, 16)
COMPARED = 3  # responses of a batch, which the reference sampler writes again, one pass per step


def run(setting: Setting) -> Outcome:
    """Compare batches of 1, 2 and 16 in three modes and two number formats."""
    count = 4 if setting.is_tiny else max(BATCHES)
    longest, max_tokens = (12, 8) if setting.is_tiny else (600, 24)
    figures: dict[str, Any] = {"max_tokens": max_tokens, "longest_prompt": longest}
    passed = True
    for name, dtype in FORMATS.items():
        model = small_model(setting, dtype)
        prompts = random_prompts(count, model.spec.num_drawable, longest)
        params = sampling_of(count, max_tokens)
        modes: dict[str, list[Trajectory]] = {}
        for mode, batch in product(MODES, BATCHES):
            llm = LLM(model, params=MODES[mode])
            # Twice: where steps are captured, the second run replays them.
            written = [llm.complete(prompts[:batch], params[:batch]) for _ in range(2)]
            found = compare(model, written[1][:COMPARED])
            found["repeats"] = same(*written)
            figures[f"{name}, {mode}, batch {batch}"] = found
            passed &= found["mean_logprob_gap"] <= LOGPROB[name]
            passed &= found["largest_logprob_gap"] <= LARGEST[name]
            passed &= found["largest_gap_of_a_decision"] <= TIE[name]
            modes[mode] = written[1]
        figures[f"{name}: responses alike in all modes"] = {
            mode: same(written, modes["graphs"]) for mode, written in modes.items()
        }
    cells = [x for x in figures.values() if isinstance(x, dict) and "near_ties" in x]
    ties, total = (sum(x[key] for x in cells) for key in ("near_ties", "responses"))
    gap = max(x["largest_logprob_gap"] for x in cells)
    summary = f"{ties} near-ties in {total} responses, log-probabilities within {gap:.1e}"
    return Outcome(summary, passed, figures)


def compare(model: Model, written: list[Trajectory]) -> dict[str, Any]:
    """Return how far the reference sampler agrees with responses."""
    found = [compare_with_reference(model, trajectory) for trajectory in written]
    gaps = [gap for agreement in found for gap in agreement.logprob_gaps]
    return {
        "responses": len(found),
        "near_ties": sum(agreement.step is not None for agreement in found),
        "largest_gap_of_a_decision": max(agreement.gap for agreement in found),
        "largest_logprob_gap": max(gaps, default=0.0),
        "mean_logprob_gap": sum(gaps) / max(len(gaps), 1),
    }


def same(one: list[Trajectory], other: list[Trajectory]) -> float:
    """Return the share of responses that are equal, log-probabilities included."""
    pairs = list(zip(one, other, strict=True))
    equal = [
        first_difference(a, b) is None and a.behavior_logprobs == b.behavior_logprobs
        for a, b in pairs
    ]
    return sum(equal) / len(pairs)


# 36 responses again by the reference, 24 passes each of about 5 ms; about 100 graphs are captured: 40 s.
PART = Part("engine against the reference sampler, all modes", "correctness", run, limit_s=90)
