"""OpenAI's answer objects, whole and as chunks, for chat and for completions.

`meta_info` holds what only a diffusion model has: forward passes, tokens per forward pass, the step map.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from unmask.checkpoints.tokenizer import text_ends
from unmask.engine.events import Written
from unmask.engine.llm import LLM, Generation
from unmask.engine.request import Request
from unmask.engine.text_stream import TextStream
from unmask.server.request import AnswerOptions, Asked

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Form:
    """What differs between the two kinds of answers.

    Attributes:
        prefix: of the answer's id.
        whole: name of an answer's object.
        chunk: name of a chunk's object.
        text: a whole text, as fields of a choice.
        piece: a piece of text, as fields of a choice.
        opening: fields of the first chunk of a choice; no chunk if empty.
        logprobs: tokens and their log-probabilities.
    """

    prefix: str
    whole: str
    chunk: str
    text: Callable[[str], Json]
    piece: Callable[[str], Json]
    opening: Json
    logprobs: Callable[[LLM, Generation], Json]


def _chat_logprobs(llm: LLM, generation: Generation) -> Json:
    pairs = zip(llm.pieces(generation.token_ids), generation.logprobs, strict=True)
    return {
        "content": [
            {
                "token": piece,
                "logprob": logprob,
                "bytes": list(piece.encode()),
                "top_logprobs": [],
            }
            for piece, logprob in pairs
        ],
        "refusal": None,
    }


def _text_logprobs(llm: LLM, generation: Generation) -> Json:
    ends = text_ends(generation.token_ids, llm.require_tokenizer())
    return {
        "tokens": llm.pieces(generation.token_ids),
        "token_logprobs": generation.logprobs,
        "top_logprobs": None,
        "text_offset": [0, *ends[:-1]],
    }


CHAT = Form(
    "chatcmpl-",
    "chat.completion",
    "chat.completion.chunk",
    lambda text: {"message": {"role": "assistant", "content": text, "refusal": None}},
    lambda text: {"delta": {"content": text} if text else {}},
    {"delta": {"role": "assistant", "content": ""}},
    _chat_logprobs,
)
TEXT = Form(
    "cmpl-",
    "text_completion",
    "text_completion",
    lambda text: {"text": text},
    lambda text: {"text": text},
    {},
    _text_logprobs,
)


class Answer:
    """Builds the objects of one answer.

    Attributes:
        form: chat or completions.
        asked: the request.
    """

    def __init__(self, form: Form, asked: Asked, llm: LLM, model: str) -> None:
        """Start an answer.

        Args:
            form: chat or completions.
            asked: the request.
            llm: decodes tokens.
            model: name of the model.
        """
        self.form, self.asked, self._llm = form, asked, llm
        self._head = {"id": form.prefix + uuid4().hex, "created": int(time.time()), "model": model}
        self._num_tokens = 0
        num_held = max(map(len, asked.sampling.stop), default=1) - 1
        count = len(asked.prompts) * asked.sampling.n
        self._texts = [TextStream(llm.decode, num_held) for _ in range(count)]
        self._num_sent = [0] * count

    def whole(self, generations: Sequence[Generation], seconds: float) -> Json:
        """Return the object of an answer that is sent at once."""
        choices = [
            {"index": index, **self.form.text(one.text), **self._end(index, one, seconds)}
            for index, one in enumerate(generations)
        ]
        self._num_tokens = sum(len(one.token_ids) for one in generations)
        return {**self._head, "object": self.form.whole, "choices": choices, "usage": self.usage()}

    def openings(self) -> list[Json]:
        """Return the chunks before the first text: of each response its role, and the size of its canvas."""
        indices, chunks = range(len(self._texts)), list[Json]()
        if self.form.opening:
            chunks += [self._chunk(index, self.form.opening) for index in indices]
        if self.asked.options.stream_canvas:
            chunks += [self._canvas_chunk(index, self._first_canvas(index)) for index in indices]
        return chunks

    def written(self, index: int, event: Written) -> Json:
        """Return the chunk of what a denoising step of a response wrote."""
        columns = (event.positions, event.token_ids, event.logprobs, event.confidences)
        writes = [self._write(*row) for row in zip(*columns, strict=True)]
        return self._canvas_chunk(index, {"step": event.step, "writes": writes})

    def committed(self, index: int, token_ids: Sequence[int]) -> Json | None:
        """Return the chunk of new tokens of a response, if they make text that is certain."""
        piece = self._texts[index].add(token_ids)
        self._num_sent[index] += len(piece)
        return self._chunk(index, self.form.piece(piece)) if piece else None

    def finished(self, index: int, generation: Generation, seconds: float) -> list[Json]:
        """Return the last chunks of a response: the rest of its text, and why it ended."""
        rest = generation.text[self._num_sent[index] :]
        self._num_tokens += len(generation.token_ids)
        last = {**self.form.piece(""), **self._end(index, generation, seconds)}
        chunks = [self._chunk(index, self.form.piece(rest))] if rest else []
        return [*chunks, self._chunk(index, last)]

    def last(self) -> list[Json]:
        """Return the chunks after all responses: the counts of tokens, if they were asked for."""
        if not self.asked.options.include_usage:
            return []
        return [
            {**self._head, "object": self.form.chunk, "choices": [], "usage": self.usage()},
        ]

    def usage(self) -> Json:
        """Return the counts of tokens: of all prompts, and of the responses so far, stop tokens included."""
        prompt = sum(len(prompt.token_ids) for prompt in self.asked.prompts)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": self._num_tokens,
            "total_tokens": prompt + self._num_tokens,
        }

    def _chunk(self, index: int, fields: Json) -> Json:
        choice = {"index": index, "finish_reason": None, "logprobs": None, **fields}
        return {**self._head, "object": self.form.chunk, "choices": [choice]}

    def _write(self, position: int, token_id: int, logprob: float, confidence: float) -> Json:
        return {
            "position": position,
            "token_id": token_id,
            "text": self._llm.pieces((token_id,))[0],
            "logprob": logprob,
            "confidence": confidence,
        }

    def _canvas_chunk(self, index: int, canvas: Json) -> Json:
        return {**self._chunk(index, self.form.piece("")), "canvas": canvas}

    def _first_canvas(self, index: int) -> Json:
        """Return the canvas before the first denoising step: its size, and the pinned tokens."""
        prompt = self.asked.prompts[index // self.asked.sampling.n]
        resolved = self._llm.engine.resolve(prompt, self.asked.sampling)
        of_request = Request(0, prompt, resolved, self._llm.model.spec.is_full)
        num_before = len(prompt.token_ids)
        return {
            "step": 0,
            "length": of_request.max_length - num_before,
            "block_size": resolved.block_size,
            "offset": num_before - of_request.first_block,  # prompt tokens in the first block
            "writes": [self._write(*pair, 0.0, 1.0) for pair in resolved.pinned],
        }

    def _end(self, index: int, generation: Generation, seconds: float) -> Json:
        """Return the fields of a choice that has ended."""
        options = self.asked.options
        fields: Json = {
            # A structured response that takes all of max_tokens matches, so nothing is cut off.
            "finish_reason": "stop" if self.asked.sampling.is_structured else generation.finish,
            "logprobs": self.form.logprobs(self._llm, generation) if options.logprobs else None,
            "meta_info": self._meta_info(generation, seconds, options),
        }
        if options.return_token_ids:
            prompt = self.asked.prompts[index // self.asked.sampling.n]
            fields |= {"prompt_token_ids": prompt.token_ids, "token_ids": generation.token_ids}
        return fields

    def _meta_info(self, generation: Generation, seconds: float, options: AnswerOptions) -> Json:
        fields: Json = {
            "num_forwards": generation.num_forwards,
            "tokens_per_forward": generation.tokens_per_forward,
            "seconds": seconds,
            "seed": self.asked.sampling.seed,
            "policy_version": generation.policy_version,
        }
        if options.return_step_maps:
            fields["step_maps"] = generation.step_map
        if options.logprobs:
            fields["raw_logprobs"] = generation.raw_logprobs
        return fields
