"""Fills the template of a judge's question about an answer.

Each inserted text stands between marks that contain a hash of it. A response cannot contain its own
hash, so it cannot close its mark and add instructions to the judge. The same text has the same marks,
so a repeated question finds its reply in the cache.
"""

import hashlib
import json

from unmask.rewards.weighted import Answer
from unmask.types import Prompt


def marked(name: str, text: str) -> str:
    """Return a text between marks that the text itself cannot contain."""
    mark = f"{name}-{hashlib.sha256(text.encode(errors='replace')).hexdigest()[:12]}"
    return f"<{mark}>\n{text}\n</{mark}>"


def question_text(prompt: Prompt) -> str:
    """Return the question of a prompt; with roles if there is more than one turn."""
    if len(prompt.messages) == 1:
        return prompt.messages[0].content
    return "\n\n".join(f"{message.role}: {message.content}" for message in prompt.messages)


def reference_text(prompt: Prompt) -> str:
    """Return the reference answer; the whole reference as JSON if it has no `answer`."""
    reference = prompt.reference
    if "answer" in reference:
        return str(reference["answer"])
    return json.dumps(dict(reference), default=str, sort_keys=True) if reference else ""


def fill(template: str, answer: Answer, **texts: str) -> str:
    """Return a question about an answer.

    Args:
        template: with fields in braces; checked by `configs.reward`.
        answer: source of the fields `question`, `reference`, `response` and `outcome`.
        texts: further fields, which may replace those; marked in the same way.
    """
    fields = {
        "question": question_text(answer.prompt),
        "reference": reference_text(answer.prompt),
        "response": answer.text,
        **texts,
    }
    marks = {name: marked(name, text) for name, text in fields.items()}
    return template.format(**marks, outcome=f"{answer.outcome_reward:g}")
