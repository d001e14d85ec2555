"""A scalar reward model: a backbone under a sequence classification head of one label, `score.weight`.

The published ones are autoregressive (`Qwen2ForSequenceClassification`, Qwen3 and Llama likewise): their
backbone runs here under its causal mask, as blocks of one token. A diffusion family's backbone with
such a head runs under its own pattern. The conversation is rendered by the model's own chat template
in its own tokenizer, and the score is the head's output at the last token that is not padding.

`rewards.reward_model` chooses the device of a frozen one; `trainers/reward_model.py` trains one from a policy's
checkpoint.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from unmask.checkpoints.checkpoint import DType, find_checkpoint, load_built, read_spec
from unmask.checkpoints.image_reader import TEXT_ONLY
from unmask.checkpoints.tokenizer import Tokenizer, encode, load_tokenizer, render_text
from unmask.checkpoints.weights import read_headers
from unmask.models.families import families
from unmask.models.families.autoregressive import read_source_spec, source_of
from unmask.models.families.config_file import read_config
from unmask.models.families.family import token_ids
from unmask.models.heads import ValueHead
from unmask.models.spec import ModelSpec
from unmask.models.tiled_attention import plan_documents
from unmask.models.value_model import ValueModel
from unmask.types import Message

SCORE_HEAD = "score.weight"


class RewardModel:
    """A reward model and its tokenizer."""

    def __init__(self, model: ValueModel, tokenizer: Tokenizer, pad_ids: tuple[int, ...]) -> None:
        """Freeze a model; `load_reward_model` finds its parts.

        Args:
            model: its values are the scores.
            tokenizer: of the model.
            pad_ids: tokens that are skipped at the end of a conversation.
        """
        self.model = model.requires_grad_(False)
        self.tokenizer = tokenizer
        self._pad_ids = pad_ids

    def tokenize(self, messages: Sequence[Message]) -> list[int]:
        """Return the token ids of a whole conversation, its last turn included.

        Raises:
            ValueError: if it is longer than the model's context, or has images.
        """
        ids = conversation_ids(messages, self.tokenizer)
        most = self.model.spec.max_length
        if not 1 <= len(ids) <= most:
            raise ValueError(
                f"a conversation of {len(ids)} tokens: the reward model takes 1 to {most}; lower "
                "sampling.max_tokens, or take another model"
            )
        return ids

    @torch.no_grad()
    def score(self, conversations: Sequence[Sequence[int]], token_budget: int) -> list[float]:
        """Return the score of each conversation.

        Args:
            conversations: token ids of each, at least one.
            token_budget: most tokens of a forward pass; a longer conversation is passed alone.
        """
        scores: list[float] = []
        for batch in batches(conversations, token_budget):
            scores += packed_scores(self.model, batch, self._pad_ids).tolist()
        return scores


def conversation_ids(messages: Sequence[Message], tokenizer: Tokenizer) -> list[int]:
    """Return the token ids of a whole conversation, its last turn included.

    Raises:
        ValueError: if it has images.
    """
    text = render_text(messages, tokenizer, add_generation_prompt=False)
    images = [image for message in messages for image in message.images]
    encoded = TEXT_ONLY.tokens(text, images, lambda part: encode(part, tokenizer))
    return list(encoded.token_ids)


def packed_scores(
    model: ValueModel, batch: Sequence[Sequence[int]], pad_ids: tuple[int, ...]
) -> Tensor:
    """Return the scores `(B,)` of conversations, from one forward pass.

    Args:
        model: its values are the scores.
        batch: token ids of `B` conversations.
        pad_ids: tokens that are skipped at the end of a conversation.
    """
    lengths = torch.tensor([len(ids) for ids in batch])
    starts = lengths.cumsum(0) - lengths
    document = torch.repeat_interleave(torch.arange(len(batch)), lengths)  # (T,)
    positions = torch.arange(int(lengths.sum())) - starts[document]
    nothing, size = torch.zeros_like(positions), model.spec.require_block()
    block = nothing if size is None else positions // size
    # Clean copies alone (0), without shared prefixes (-1).
    structure = torch.stack((document, block, nothing, nothing - 1)).to(model.device)
    tokens = torch.tensor([token for ids in batch for token in ids])
    last = starts + torch.tensor([_last(ids, pad_ids) for ids in batch])
    plan = plan_documents(structure)
    return model(tokens.to(model.device), positions.to(model.device), plan, last.to(model.device))


def _last(ids: Sequence[int], pad_ids: tuple[int, ...]) -> int:
    """Return the index of the last token that is not padding; 0 where all are."""
    kept = [place for place, token in enumerate(ids) if token not in pad_ids]
    return kept[-1] if kept else 0


def batches(
    conversations: Sequence[Sequence[int]], token_budget: int
) -> Iterator[list[Sequence[int]]]:
    """Yield neighbouring conversations that fit a budget together; a larger one is yielded alone."""
    batch: list[Sequence[int]] = []
    num_tokens = 0
    for ids in conversations:
        if batch and num_tokens + len(ids) > token_budget:
            yield batch
            batch, num_tokens = [], 0
        batch.append(ids)
        num_tokens += len(ids)
    if batch:
        yield batch


def load_reward_model(
    path_or_hub_id: str | Path, device: str | torch.device = "cpu", dtype: DType = torch.float32
) -> RewardModel:
    """Load a sequence classification checkpoint of one label.

    Args:
        path_or_hub_id: directory, or hub id of a model.
        device: device of the weights.
        dtype: number format in memory, as in `load_model`.

    Raises:
        ValueError: naming the file, key or tensor that is missing, unexpected, of the wrong shape
            or unsupported.
    """
    directory = find_checkpoint(path_or_hub_id)
    tokenizer = load_tokenizer(directory)
    spec = _read_spec(directory)
    model = load_built(lambda: ValueModel(spec, SCORE_HEAD), directory, device, dtype)
    return RewardModel(model, tokenizer, pad_ids_of(directory))


def load_reward_backbone(
    path_or_hub_id: str | Path,
    device: str | torch.device = "cpu",
    dtype: DType = torch.float32,
    mask_id: int | None = None,
    block_size: int | None = None,
    family: str | None = None,
) -> ValueModel:
    """Load a reward model to train: a policy's backbone under a head of zeros, or a saved reward model.

    Args:
        path_or_hub_id: directory, or hub id, of a model of a known family.
        device: device of the weights.
        dtype: number format in memory, as in `load_model`.
        mask_id: as in `load_model`, and so `block_size` and `family`.
        block_size: see above.
        family: see above.

    Raises:
        ValueError: as `load_model`.
    """
    directory = find_checkpoint(path_or_hub_id)
    spec = read_spec(directory, mask_id, block_size, family)
    has_head = SCORE_HEAD in read_headers(directory)
    absent = () if has_head else (SCORE_HEAD,)
    model = load_built(lambda: ValueModel(spec, SCORE_HEAD), directory, device, dtype, absent)
    if not has_head:
        model.value_head = ValueHead(spec).to(model.backbone.embedding.weight)
    return model


def pad_ids_of(path_or_hub_id: str | Path) -> tuple[int, ...]:
    """Return the ids that a checkpoint's config calls padding."""
    return token_ids(read_config(find_checkpoint(path_or_hub_id)).get("pad_token_id"))


def _read_spec(directory: Path) -> ModelSpec:
    """Read the spec of a known family's backbone, else of an autoregressive one."""
    config = read_config(directory)
    stated = (config.get("architectures") or [None])[0]
    if any(stated in family.architectures for family in families()):
        return read_spec(directory)
    kind = source_of(config, "SequenceClassification")
    return read_source_spec(directory, config, kind)
