"""CLIP score: the cosine of a caption and the image of its prompt, as a reward term.

The caption is what a grader would compare: the response without its thought, and of that the last box or
`<answer>` if there is one. An image is encoded once for all captions of it. A response that is an image
(text-to-image) is compared with the text of its prompt.

Earning 0, without a pass of the model:

    empty      a caption without a token: the model has a vector, and so a score, for no text as well
    too_long   a caption of more tokens than the model reads. Published scores are those of its first 77
               tokens, so anything may follow them
"""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from unmask.checkpoints.clip_model import ClipModel
from unmask.checkpoints.tokenizer import THOUGHT
from unmask.images import Image
from unmask.rewards.answers import answer_from_response
from unmask.rewards.question import is_caption, question_images, question_text
from unmask.rewards.weighted import Answer, AnswerGroup
from unmask.types import Prompt, Score

Pair = tuple[Image, str]
# Start and end alone.
LEAST_TOKENS = 2
# Images whose vectors are kept from one step to the next, of some KiB each.
MOST_KEPT = 10_000


class ClipScores:
    """Scores of captions, and of drawings."""

    def __init__(self, model: ClipModel, prompts: Literal["captions", "all"]) -> None:
        """Set the model and the prompts whose responses are scored."""
        self._model, self._prompts = model, prompts
        self._of_images: dict[bytes, Tensor] = {}

    def __call__(self, groups: Sequence[AnswerGroup]) -> list[list[Score]]:
        """Return the score of each answer, and whether its text is empty or too long.

        Raises:
            ValueError: a prompt whose responses are scored has no image or several, or one that cannot be read.
        """
        pairs = [[self._pair(answer) for answer in group] for group in groups]
        scored = [pair for group in pairs for pair in group if pair is not None]
        self._encode([image for image, _ in scored])
        texts = dict.fromkeys(text for _, text in scored)
        tokens = {text: self._model.encode(text) for text in texts}
        read = [text for text, ids in tokens.items() if self._is_read(ids)]
        vectors = self._model.text_vectors([tokens[text] for text in read]) if read else []
        of_texts = dict(zip(read, vectors, strict=True))

        def score(pair: Pair | None) -> Score:
            if pair is None:
                return Score(0.0, {"empty": 0.0, "too_long": 0.0})
            image, text = pair
            vector, length = of_texts.get(text), len(tokens[text])
            parts = {
                "empty": float(length <= LEAST_TOKENS),
                "too_long": float(length > self._model.max_tokens),
            }
            cosine = 0.0 if vector is None else float(vector @ self._of_images[image.digest])
            return Score(cosine, parts)

        return [[score(pair) for pair in group] for group in pairs]

    def _pair(self, answer: Answer) -> Pair | None:
        """Return the image and the text that are compared; None for an answer that is not scored."""
        if answer.drawing is not None:
            return answer.drawing, question_text(answer.prompt)
        if self._prompts == "all" or is_caption(answer.prompt):
            return the_image(answer.prompt), caption_of(answer)
        return None

    def _is_read(self, ids: Sequence[int]) -> bool:
        return LEAST_TOKENS < len(ids) <= self._model.max_tokens

    def _encode(self, images: Sequence[Image]) -> None:
        """Encode those images that are not encoded yet."""
        if len(self._of_images) > MOST_KEPT:
            self._of_images.clear()
        missing = {i.digest: i for i in images if i.digest not in self._of_images}
        if missing:
            vectors = self._model.image_vectors([*missing.values()])
            self._of_images.update(zip(missing, vectors, strict=True))


def caption_of(answer: Answer) -> str:
    """Return the caption in a response: without thoughts, an unfinished one too, the last box or tag if any."""
    after_thoughts = THOUGHT.sub("", answer.text)
    return answer_from_response(after_thoughts.partition("<think>")[0])


def the_image(prompt: Prompt) -> Image:
    """Return the image of a prompt.

    Raises:
        ValueError: it has none, or different ones.
    """
    images = question_images(prompt)
    if len(images) != 1:
        raise ValueError(
            f"reward: a CLIP score compares a response with the image of its prompt, and prompt {prompt.uid} of "
            f"task {prompt.task!r} has {len(images) or 'no'} image{'s' * (len(images) > 1)}: must have one"
        )
    return images[0]
