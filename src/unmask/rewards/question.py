"""What a judge is asked about an answer: a template, filled in.

What the model wrote, and what it was asked, stand between marks that hold a hash of the text between
them. A response cannot spell its own hash, so it cannot close its mark and speak as the examiner; the
same text has the same marks, so a question asked again finds its reply.
"""

import hashlib
import json

from unmask.rewards.weighted import Answer
from unmask.types import Prompt


def marked(name: str, text: str) -> str:
    """Return a text between marks that it cannot hold itself."""
    mark = f"{name}-{hashlib.sha256(text.encode(errors='replace')).hexdigest()[:12]}"
    return f"<{mark}>\n{text}\n</{mark}>"


def question_text(prompt: Prompt) -> str:
    """Return what the model was asked; the roles are named where there is more than one turn."""
    if len(prompt.messages) == 1:
        return prompt.messages[0].content
    return "\n\n".join(f"{message.role}: {message.content}" for message in prompt.messages)


def reference_text(prompt: Prompt) -> str:
    """Return the task's own answer; all that its grader knows, where no `answer` is among it."""
    reference = prompt.reference
    if "answer" in reference:
        return str(reference["answer"])
    return json.dumps(dict(reference), default=str, sort_keys=True) if reference else ""


def fill(template: str, answer: Answer, **texts: str) -> str:
    """Return a question about an answer.

    Args:
        template: with fields in braces; checked by `configs.reward`.
        answer: gives `question`, `reference`, `response` and `outcome`.
        texts: more fields, or others in their place; marked like the rest.
    """
    fields = {
        "question": question_text(answer.prompt),
        "reference": reference_text(answer.prompt),
        "response": answer.text,
        **texts,
    }
    marks = {name: marked(name, text) for name, text in fields.items()}
    return template.format(**marks, outcome=f"{answer.outcome_reward:g}")
