"""Reward models: the scores of `transformers`, in every kind, alone and packed."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from tests.checkpoints.test_convert import SHAPE
from tests.models.toy import family_model
from unmask.checkpoints.checkpoint import save_model
from unmask.checkpoints.random_init import byte_tokenizer
from unmask.checkpoints.reward_model import SCORE_HEAD, batches, load_reward_model
from unmask.checkpoints.tokenizer import decode
from unmask.models.attention import plan_rows
from unmask.models.transformer import attention_pattern
from unmask.types import Message

TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
TEXTS = [[5], [7, 8, 9, 40, 3], [11, 12], list(range(30, 63)), [7, 8, 9, 40, 4]]


def write_reward_model(
    directory: Path, kind: str, dtype: Any = torch.float32, **changes: Any
) -> Any:
    """Write a random sequence classification model of `transformers`, and return it."""
    fields = SHAPE | {"num_labels": 1, "pad_token_id": 0} | changes
    fields |= {"head_dim": 8} if kind == "Qwen3" else {}
    torch.manual_seed(0)
    model = getattr(transformers, f"{kind}ForSequenceClassification")(
        getattr(transformers, f"{kind}Config")(**fields)
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.to(dtype).save_pretrained(directory)
    byte_tokenizer(directory, has_mask=False)
    (directory / "chat_template.jinja").write_text(TEMPLATE)
    return model.eval()


def their_scores(model: Any, texts: list[list[int]]) -> list[float]:
    with torch.no_grad():
        return [float(model(torch.tensor([ids])).logits[0, 0]) for ids in texts]


@pytest.mark.parametrize("kind", ["Qwen2", "Qwen3", "Llama"])
@pytest.mark.parametrize("budget", [1, 40, 1000])
def test_scores_are_those_of_transformers(kind: str, budget: int, tmp_path: Path) -> None:
    theirs = write_reward_model(tmp_path, kind)
    ours = load_reward_model(tmp_path)
    assert ours.score(TEXTS, budget) == pytest.approx(their_scores(theirs, TEXTS), abs=1e-5)
    assert len(set(ours.score(TEXTS, budget))) == len(TEXTS)
    assert not any(p.requires_grad for p in ours.model.parameters())


def test_in_double_precision_they_are_the_same_to_the_last_digits(tmp_path: Path) -> None:
    theirs = write_reward_model(tmp_path, "Qwen2", torch.float64)
    ours = load_reward_model(tmp_path, dtype=torch.float64)
    # transformers takes its norms and rotary tables in fp32 for every format of the weights.
    assert ours.score(TEXTS, 1000) == pytest.approx(their_scores(theirs, TEXTS), abs=1e-6)


def test_the_score_is_read_at_the_last_token_that_is_no_padding(tmp_path: Path) -> None:
    theirs = write_reward_model(tmp_path, "Qwen2")
    ours = load_reward_model(tmp_path)
    padded = [[7, 8, 9, 0, 0], [7, 0, 9], [7, 8, 9]]
    found = ours.score(padded, 1000)
    assert found == pytest.approx(their_scores(theirs, padded), abs=1e-5)
    assert found[0] == pytest.approx(found[2], abs=1e-6)


def test_a_conversation_is_rendered_whole_by_the_models_own_template(tmp_path: Path) -> None:
    write_reward_model(tmp_path, "Qwen2")
    ours = load_reward_model(tmp_path)
    ids = ours.tokenize([Message("user", "1+1"), Message("assistant", "é")])
    assert decode(ids, ours.tokenizer) == "<user>1+1</s><assistant>é</s>"
    with pytest.raises(ValueError, match=r"\d+ tokens: the reward model takes 1 to 64"):
        ours.tokenize([Message("user", "x" * 99)])


@pytest.mark.parametrize("family", ["llada", "sdar"])
def test_a_diffusion_backbone_reads_under_its_own_pattern(family: str, tmp_path: Path) -> None:
    policy = family_model(family)
    save_model(policy, tmp_path)
    byte_tokenizer(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    head = torch.randn(1, policy.spec.width)
    save_file(tensors | {SCORE_HEAD: head}, tmp_path / "model.safetensors")
    ours = load_reward_model(tmp_path)
    ids = [2, 3, 5, 7, 11, 13]
    allowed = attention_pattern(policy.spec, len(ids))[None]
    hidden = policy.backbone(
        torch.tensor([*ids, 0, 0]), torch.arange(8), plan_rows(allowed, 8), torch.tensor([5])
    )
    wanted = float(hidden.detach() @ head[0])
    assert ours.score([[4, 4], ids], 1000)[1] == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_labels": 2}, r"tensor 'score.weight' has shape \(2, 32\), .* asks for \(1, 32\)"),
        ({"architectures": ["BertForSequenceClassification"]}, "Qwen2ForSequenceClassification"),
        ({"architectures": ["Qwen2ForCausalLM"]}, "'Qwen2ForCausalLM' is not supported"),
    ],
)
def test_a_model_without_a_scalar_head_is_refused(
    changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    labels = changes.pop("num_labels", 1)
    write_reward_model(tmp_path, "Qwen2", num_labels=labels)
    config = json.loads((tmp_path / "config.json").read_text()) | changes
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=said):
        load_reward_model(tmp_path)


def test_a_missing_head_is_named(tmp_path: Path) -> None:
    write_reward_model(tmp_path, "Qwen2")
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors[SCORE_HEAD]
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"missing tensor 'score\.weight'"):
        load_reward_model(tmp_path)


def test_texts_share_a_pass_up_to_the_budget() -> None:
    sizes = [[len(ids) for ids in batch] for batch in batches(TEXTS, 8)]
    assert sizes == [[1, 5, 2], [33], [5]]
    assert list(batches([], 8)) == []
