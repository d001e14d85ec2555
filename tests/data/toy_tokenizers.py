"""Tokenizers with a token per character: without a chat template, with one, and with templates of other kinds."""

import string
from pathlib import Path
from typing import Any

from unmask.checkpoints.tokenizer import TEMPLATE_FILE, character_tokenizer, load_tokenizer

ALPHABET = string.ascii_letters + string.digits + string.punctuation + " \n\u2028"
# End of turn of a template, one token; end of text is <eos>.
END = "<|end|>"
PLAIN = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
MARKED = (
    "{% for m in messages %}[{{ m.role }}]{% if m.role == 'assistant' %}"
    "{% generation %}{{ m.content }}<|end|>{% endgeneration %}{% else %}{{ m.content }}<|end|>"
    "{% endif %}\n{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)
# The end of the turn stands outside of the marked text.
UNENDED = MARKED.replace("<|end|>{% endgeneration %}", "{% endgeneration %}<|end|>")
# As Qwen's: the thoughts of all turns but the last are dropped, and the last one always has some.
THINKING = (
    "{% for m in messages %}{% if m.role == 'assistant' %}"
    "{% set parts = m.content.split('</think>') %}"
    "[assistant]{% if loop.last %}<think>{{ (parts[0] if parts|length > 1 else '')"
    ".replace('<think>', '') }}</think>{% endif %}{{ parts[-1] }}<|end|>\n"
    "{% else %}[{{ m.role }}]{{ m.content }}<|end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
# The prompt opens a thought that the rendering of a response does not begin with.
OPENING = PLAIN.replace("[assistant]{% endif %}", "[assistant]<think>{% endif %}")


def toy_tokenizer(place: Path, template: str | None = None) -> Any:
    """Write a tokenizer and return it."""
    loaded: Any = character_tokenizer(ALPHABET, place)
    loaded.add_special_tokens({"additional_special_tokens": [END]})
    loaded.save_pretrained(place)
    if template is not None:
        (place / TEMPLATE_FILE).write_text(template)
    return load_tokenizer(place)
