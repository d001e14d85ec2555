"""MMaDA: a LLaDA whose vocabulary continues with image codes.

Text ids come first, and only they may be drawn as text; image codes are rows that the tokenizer cannot decode.
Checkpoints state MMaDA's own class or, as their remote code does, plain LLaDA's. The ids of image tokens are in the key
`image_token_ids`, which is ours; without it they are those of the released checkpoints, if the model has as many rows.

Yang et al., "MMaDA: Multimodal Large Diffusion Language Models" (2025).
"""

from dataclasses import asdict, replace
from math import isqrt
from typing import Any

from unmask.models.families import llada
from unmask.models.families.family import Config, Family
from unmask.models.spec import ModelSpec
from unmask.models.vision.mmada_prompt import MmadaIds

RELEASED_ROWS = 134_656


def read_spec(config: Config) -> ModelSpec:
    """Read an MMaDA config; see `Family.read_spec`."""
    spec = llada.read_spec(config)
    num_text = config.get("llm_vocab_size") or spec.num_drawable
    return replace(spec, family="mmada", num_drawable=num_text, image_ids=read_ids(config, spec))


def read_ids(config: Config, spec: ModelSpec) -> MmadaIds | None:
    """Return the ids of image tokens, or `None` if the config does not state them.

    Raises:
        ValueError: naming an id that is not one of `MmadaIds`, or outside the model's.
    """
    stated = config.get("image_token_ids")
    if stated is None:
        side = isqrt(config.get("num_vq_tokens", 1024))
        return MmadaIds(side=side) if spec.vocab_size == RELEASED_ROWS else None
    if stated.keys() != asdict(MmadaIds()).keys():
        raise ValueError(
            f"config.json: image_token_ids must have the keys {', '.join(asdict(MmadaIds()))}"
        )
    ids = MmadaIds(**stated)
    last = ids.image_offset + ids.num_codes - 1
    if max(last, *stated.values()) >= spec.vocab_size:
        raise ValueError(
            f"config.json: image_token_ids reach {max(last, *stated.values())}, outside the "
            f"{spec.vocab_size} ids of the model"
        )
    return ids


def ids_behind(vocab_size: int, ids: MmadaIds) -> MmadaIds:
    """Return the ids of image tokens that continue a text vocabulary, whose ids 0 and 1 are end and mask."""
    names = ("start_of_text", "start_of_image", "end_of_image", "text_to_image", "understanding")
    places = {name: vocab_size + place for place, name in enumerate((*names, "filling"))}
    return replace(ids, **places, image_offset=vocab_size + len(places), end_of_text=0, mask=1)


def new_config(spec: ModelSpec) -> dict[str, Any]:
    """Write the fields of a released config, and the ids of image tokens."""
    ids = spec.image_ids
    images = ids and {"image_token_ids": asdict(ids), "num_vq_tokens": ids.side**2}
    return (
        llada.new_config(spec)
        | (images or {})
        | {
            "architectures": ["MMadaModelLM"],
            "codebook_size": spec.vocab_size - spec.num_drawable,
            "llm_vocab_size": spec.num_drawable,
            "model_type": "mmada",
            "new_vocab_size": spec.vocab_size,
            "num_new_special_tokens": 0,
            "tie_word_embeddings": spec.is_tied,
            "vocab_size": spec.vocab_size,
            "w_clip_vit": False,
        }
    )


FAMILY = Family(
    name="mmada",
    architectures=("MMadaModelLM", "LLaDAModelLM"),
    model_type="mmada",
    default_mask_id=126336,
    read_spec=read_spec,
    new_config=new_config,
    modules=llada.NAMES,
    tiny=replace(
        llada.FAMILY.tiny,
        family="mmada",
        vocab_size=392,
        image_ids=ids_behind(258, MmadaIds(num_codes=128, side=4)),
    ),
    preset="mmada_official",
    reference_arguments="none",
    dllm_rl_presets={"mmada": "mmada_official"},
)
