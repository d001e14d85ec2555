"""A CLIP model: vectors of images and of texts, whose cosine is the CLIP score (Radford et al. 2021).

The model, its tokenizer and its preparation of images are those of transformers, read from a directory in Hugging
Face layout with weights in safetensors. It is never trained; `rewards.clip_score` chooses its device.

A text has `max_tokens` tokens at most, 77 in published models, start and end included: a longer one is
refused here, where published scores cut it. A special token that is spelled in a text is text.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unmask.images import Image
from unmask.models.vision.image_codec import decode_image


class ClipModel:
    """A CLIP model with its tokenizer and its preparation of images."""

    def __init__(self, model: Any, tokenizer: Any, processor: Any, batch_size: int) -> None:
        """Freeze a model; `load_clip` finds its parts.

        Args:
            model: `transformers.CLIPModel`.
            tokenizer: of the model.
            processor: the model's image processor.
            batch_size: images or texts of a forward pass.
        """
        self._model = model.requires_grad_(False).eval()
        self._tokenizer, self._processor, self._batch_size = tokenizer, processor, batch_size
        self.max_tokens: int = model.config.text_config.max_position_embeddings

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a text between start and end, however long it is."""
        return self._tokenizer(text, split_special_tokens=True, verbose=False).input_ids

    def image_vectors(self, images: Sequence[Image]) -> Tensor:
        """Return the vectors of images, of length 1: fp32 `(n, D)` on the CPU.

        Raises:
            ValueError: naming the image that cannot be decoded.
        """

        def features(batch: Sequence[Image]) -> Any:
            pictures = [decode_image(image) for image in batch]
            pixels = self._processor(images=pictures, return_tensors="pt").pixel_values
            return self._model.get_image_features(pixels.to(self._model.device, self._model.dtype))

        return self._vectors(images, features)

    def text_vectors(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """Return the vectors of texts, of length 1: fp32 `(n, D)` on the CPU.

        Args:
            texts: token ids of `encode`, `max_tokens` at most.
        """

        def features(batch: Sequence[Sequence[int]]) -> Any:
            padded = self._tokenizer.pad({"input_ids": [*batch]}, return_tensors="pt")
            return self._model.get_text_features(**padded.to(self._model.device))

        return self._vectors(texts, features)

    @torch.no_grad()
    def _vectors(self, items: Sequence[Any], features: Callable[[Sequence[Any]], Any]) -> Tensor:
        starts = range(0, len(items), self._batch_size)
        found = [features(items[start : start + self._batch_size]) for start in starts]
        vectors = torch.cat([batch.pooler_output.float() for batch in found])
        return (vectors / vectors.norm(dim=-1, keepdim=True)).cpu()


def load_clip(
    directory: str | Path, device: torch.device, dtype: torch.dtype, batch_size: int, key: str
) -> ClipModel:
    """Load a CLIP model.

    Args:
        directory: with `config.json`, safetensors, tokenizer and `preprocessor_config.json`.
        device: device of the weights.
        dtype: number format in memory.
        batch_size: images or texts of a forward pass.
        key: config key of the directory, for messages.

    Raises:
        ValueError: naming the directory that transformers cannot read as a CLIP model, or the weight that is
            missing, unexpected or of another shape.
    """
    import transformers
    from transformers import CLIPModel, CLIPTokenizer

    name = f"{key} = {directory}"
    if not Path(directory).is_dir():
        raise ValueError(f"{name}: no such directory; download the CLIP model first")
    # Of Pillow, as the other images are resampled: the class of this name takes torchvision where there is one.
    processors: Any = getattr(transformers, "CLIPImageProcessorPil", None)
    try:
        loaded: Any = CLIPModel.from_pretrained(
            directory,
            local_files_only=True,
            use_safetensors=True,
            dtype=dtype,
            output_loading_info=True,
        )
        tokenizer = CLIPTokenizer.from_pretrained(directory, local_files_only=True)
        processors = processors or transformers.CLIPImageProcessor
        processor = processors.from_pretrained(directory, local_files_only=True)
    except Exception as error:  # of the libraries that read it: JSON, keys, values, anything
        reason = " ".join(str(error).split())
        raise ValueError(f"{name}: cannot be read as a CLIP model: {reason}") from error
    model, report = loaded
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if found := sorted(map(str, report[problem])):
            raise ValueError(
                f"{name}: no CLIP model: {problem.replace('_', ' ')} {', '.join(found[:3])}"
            )
    return ClipModel(model.to(device), tokenizer, processor, batch_size)
