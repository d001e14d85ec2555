"""The reader of a model's prompts: chosen by how the model holds images, if it does."""

from pathlib import Path

import torch

from unmask.checkpoints.image_reader import TEXT_ONLY, ImageReader
from unmask.checkpoints.lladav_reader import LladavReader
from unmask.checkpoints.magvit_files import load_magvit
from unmask.checkpoints.mmada_reader import MmadaReader
from unmask.checkpoints.tokenizer import Tokenizer
from unmask.images import ImagePreprocess
from unmask.models.families import family_named
from unmask.models.spec import ModelSpec
from unmask.models.transformer import Model


def build_reader(
    model: Model,
    tokenizer: Tokenizer | None,
    codec: str | Path | None = None,
    preprocess: ImagePreprocess = "pad",
) -> ImageReader:
    """Return the reader of a model.

    Args:
        model: the model.
        tokenizer: of the model.
        codec: directory of the image tokenizer of a model whose images are tokens.
        preprocess: how an image becomes the square that it reads.

    Raises:
        ValueError: as `reader_of_spec`.
    """
    return reader_of_spec(model.spec, tokenizer, codec, preprocess, model.device)


def reader_of_spec(
    spec: ModelSpec,
    tokenizer: Tokenizer | None,
    codec: str | Path | None,
    preprocess: ImagePreprocess,
    device: str | torch.device = "cpu",
) -> ImageReader:
    """Return the reader of a model that is not loaded; arguments as `build_reader`.

    Raises:
        ValueError: if the model has no use for an image tokenizer or a recipe, or as `load_magvit`.
    """
    if spec.image_ids is not None:
        loaded = None if codec is None else load_magvit(codec, device)
        if loaded is not None and loaded.spec.num_codes != spec.image_ids.num_codes:
            raise ValueError(
                f"model.image_codec = {codec}: has {loaded.spec.num_codes} codes, the model "
                f"{spec.image_ids.num_codes}: give the tokenizer that it was trained with"
            )
        return MmadaReader(spec.image_ids, loaded, preprocess)
    if codec is not None or preprocess != "pad":
        key, value = ("image_preprocess", preprocess) if codec is None else ("image_codec", codec)
        raise ValueError(
            f"model.{key} = {value}: the images of {spec.family} are no tokens; leave it out"
        )
    if spec.vision is None:
        return TEXT_ONLY
    start = None if tokenizer is None else tokenizer.special_tokens_map.get("bos_token")
    # Without a chat template a turn of the system would run into the question.
    has_turns = tokenizer is not None and tokenizer.chat_template is not None
    system = family_named(spec.family).system if has_turns else None
    return LladavReader(spec.vision, system, start)
