"""Every shipped method on one of the kinds of model in turn: a run trains what it should, and law 6 holds.

Law 6: save, kill, resume is the uninterrupted run, to the bit. The same runs show that losses are finite and that
adapters and experts are trained.
"""

import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.invariants.test_law_6_resume import interrupt, left_behind
from tests.models.toy import FAMILY_CHANGES
from tests.toy import toy_checkpoint
from tests.trainers import breaking
from tests.trainers.toy_methods import FILES, shipped, words_of
from tests.trainers.toy_runs import metrics, rl_config
from unmask.checkpoints.checkpoint import load_model, save_model
from unmask.trainers.rl import train_rl
from unmask.types import Prompt

STEPS = 2
LORA = ["lora.rank=2", 'lora.targets=["attention","ffn"]']
# Of each kind of model: its family, and what is trained of it.
KINDS: dict[str, tuple[str, list[str]]] = {
    "block-causal, adapters": ("sdar", LORA),
    "full, adapters": ("llada", LORA),
    "full, shifted": ("dream", []),
    "experts": ("sdar_moe", []),
}


def reward(prompt: Prompt, response: str) -> Any:
    """Reward digits, of which every response has another share."""
    return breaking.reward(prompt, response) + sum(c.isdigit() for c in response) / 16


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a model of each family that is unsure of everything, so that responses differ."""
    place = tmp_path_factory.mktemp("models")
    for family, _ in KINDS.values():
        changes: dict[str, Any] = FAMILY_CHANGES[family] | {"mask_id": 1}
        model = load_model(toy_checkpoint(place / family, family=family, **changes))
        with torch.no_grad():
            model.head.projection.weight.mul_(0.2)
        save_model(model, place / family)
    return place


def short_rl(models: Path, kind: str, place: Path, name: str, *words: str) -> Path:
    """Train by RL; 6 rewards a step, and of drafts as many for each."""
    family, trained = KINDS[kind]
    settings = [f"task.reward={__name__}:reward", f"steps={STEPS}", f"model.path={models / family}"]
    settings += ["rollout.prompts=2", "rollout.responses=3", "eval.problems=1", *trained, *words]
    return train_rl(rl_config(place, *settings, run=name), resume=True).parent


def check_trained(run: Path, model: Path, has_adapters: bool) -> None:
    """Check that numbers are finite and that every adapter, or every weight of experts, has moved."""
    lines = metrics(run)
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    numbers = [v for line in lines for v in line.values() if isinstance(v, float)]
    assert all(map(math.isfinite, numbers))
    updated = [line for line in lines if line["updates"]]
    assert updated and all(line["gradient_norm"] > 0 for line in updated)
    if has_adapters:
        held = load_file(run / "adapter" / "adapter_model.safetensors")
        moved = {name: bool(tensor.any()) for name, tensor in held.items() if "lora_B" in name}
    else:
        before = dict(load_model(model).named_parameters())
        after = dict(load_model(run / "model").named_parameters())
        trained = [name for name in before if "layers" in name]
        moved = {name: not torch.equal(before[name], after[name]) for name in trained}
    assert moved and all(moved.values()), [name for name, has in moved.items() if not has]


def refuses(method: str, kind: str) -> bool:
    """Return whether the views of a method refuse a kind of model."""
    family, _ = KINDS[kind]
    is_full = FAMILY_CHANGES[family].get("attention") == "full"
    return bool(shipped(method).views.refusal(is_full, family == "dream"))


@pytest.mark.parametrize(
    ("method", "kind"), [(m, k) for m in FILES for k in KINDS if refuses(m, k)]
)
def test_a_method_refuses_a_model_that_it_cannot_train(
    method: str, kind: str, models: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"set views\.kind = "):
        short_rl(models, kind, tmp_path, "run", *words_of(method))


# Each kind in turn; law 9 trains all weights of a block-causal model by every method.
@pytest.mark.parametrize(
    ("method", "kind"), [(m, [*KINDS][n % len(KINDS)]) for n, m in enumerate(FILES)]
)
def test_a_method_trains_a_model_and_resumes(
    method: str, kind: str, models: Path, tmp_path: Path
) -> None:
    assert not refuses(method, kind)
    train = partial(short_rl, models, kind)
    # Two epochs have every term that four have.
    words = [word if word != "epochs=4" else "epochs=2" for word in words_of(method)]
    words.append("save_every=1")
    words += ["loss.right_from=0"] * (method == "dopsd")  # no toy is ever right
    family, trained = KINDS[kind]
    run = train(tmp_path, "whole", *words)
    check_trained(run, models / family, bool(trained))
    per_step = 6 * (1 + shipped(method).rollout.drafts)
    interrupt(train, tmp_path, "parts", f"raise:{per_step + 3}", *words)
    assert (tmp_path / "parts" / "checkpoints" / "step-000001").is_dir()
    assert left_behind(train(tmp_path, "parts", *words)) == left_behind(run)
