"""A program that opens exports by transformers alone: `python -I open_elsewhere.py JOB.json`.

It writes the logits of every text in fp64, and what it found out about classes and tokenizers. Importing unmask is
an error.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

sys.modules["unmask"] = None  # type: ignore[assignment]


def opened(place: str) -> Any:
    """Open a model as its card tells users to."""
    model = AutoModelForCausalLM.from_pretrained(place, trust_remote_code=True, dtype=torch.float64)
    return model.eval()


@torch.no_grad()
def logits_of(model: Any, text: list[int], block: int | None = None) -> Tensor:
    """Return logits `(L, V)`; published code of SDAR wants the mask in blocks of `block`."""
    arguments: dict[str, Tensor] = {}
    if block is not None:
        blocks = torch.arange(len(text)) // block
        seen = (blocks[None, :] <= blocks[:, None])[None, None]
        arguments = {"attention_mask": seen.long(), "position_ids": torch.arange(len(text))[None]}
    return model(input_ids=torch.tensor([text]), **arguments).logits[0].contiguous()


def tokens(place: str) -> dict[str, Any]:
    """Return a text's ids, a rendered conversation and the mask token's id."""
    tokenizer = AutoTokenizer.from_pretrained(place)
    turns = [{"role": "user", "content": "3+4"}]
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    return {"ids": tokenizer("3+4=").input_ids, "text": text, "mask": tokenizer.mask_token_id}


def main(job: Path) -> None:
    """Do what the job names."""
    asked = json.loads(job.read_text())
    texts, logits, found = asked["texts"], {}, {}
    for name, place in asked["models"].items():
        model = opened(place)
        found[name] = type(model).__name__
        for index, text in enumerate(texts):
            logits[f"{name}.{index}"] = logits_of(model, text)
    model.save_pretrained(asked["saved_again"])
    logits["published"] = logits_of(opened(asked["published"]), texts[0], asked["block"])
    from peft import PeftModel

    adapted = PeftModel.from_pretrained(opened(asked["base"]), asked["adapter"])
    logits["adapter"] = logits_of(adapted, texts[0])
    sys.stderr.write("tokenizer\n")  # what follows is not about models
    found["tokens"] = tokens(asked["tokenizer"])
    save_file(logits, job.with_name("logits.safetensors"))
    job.with_name("found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
