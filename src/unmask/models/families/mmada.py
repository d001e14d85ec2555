"""MMaDA: a LLaDA whose vocabulary continues with image codes.

Text ids come first, and only they may be drawn; image codes are rows that the tokenizer cannot decode. Checkpoints
state MMaDA's own class or, as their remote code does, plain LLaDA's.

Yang et al., "MMaDA: Multimodal Large Diffusion Language Models" (2025).
"""

from dataclasses import replace
from typing import Any

from unmask.models.families import llada
from unmask.models.families.family import Config, Family
from unmask.models.spec import ModelSpec


def read_spec(config: Config) -> ModelSpec:
    """Read an MMaDA config; see `Family.read_spec`."""
    spec = llada.read_spec(config)
    num_text = config.get("llm_vocab_size") or spec.num_drawable
    return replace(spec, family="mmada", num_drawable=num_text)


def new_config(spec: ModelSpec) -> dict[str, Any]:
    """Write the fields of a released config, without the number of tokens of an image."""
    return llada.new_config(spec) | {
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


FAMILY = Family(
    name="mmada",
    architectures=("MMadaModelLM", "LLaDAModelLM"),
    model_type="mmada",
    default_mask_id=126336,
    read_spec=read_spec,
    new_config=new_config,
    modules=llada.NAMES,
    tiny=replace(llada.FAMILY.tiny, family="mmada"),
    preset="mmada_official",
    reference_arguments="none",
    dllm_rl_presets={"mmada": "mmada_official"},
)
