"""`LLM`: a model, its tokenizer and an engine, with `generate`, `chat` and `stream`.

The place to start from Python:

    llm = LLM("path/or/hub-id")
    llm.generate(["1 + 1 ="], SamplingParams(max_tokens=32))[0].text
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from unmask.checkpoints.build_reader import build_reader
from unmask.checkpoints.checkpoint import load_model
from unmask.checkpoints.image_reader import prompt_tokens
from unmask.checkpoints.tokenizer import (
    Tokenizer,
    decode,
    encode,
    has_tokenizer,
    load_tokenizer,
    token_pieces,
)
from unmask.engine.broken_responses import require_whole
from unmask.engine.engine import Engine
from unmask.engine.events import Committed, Finished, Streams, Written
from unmask.engine.generation import Generation, by_prompt, generation_of
from unmask.engine.infilling import with_template
from unmask.engine.llm_arguments import (
    check_model,
    conversations_of,
    each_response,
    one_of,
    prompts_of,
    refuse_unknown,
    sampling_of,
    token_ids_of,
)
from unmask.engine.options import EngineParams
from unmask.engine.stop_texts import stop_texts_of
from unmask.engine.structured import automata_of
from unmask.engine.text_stream import TextStream
from unmask.engine.text_to_image import Drawing, TextToImage
from unmask.images import ImagePreprocess
from unmask.models.conventions import conventions_of
from unmask.models.placement import device_of, dtype_of
from unmask.models.transformer import Model
from unmask.presets import preset
from unmask.sampling_params import Medium, SamplingParams
from unmask.seeds import derive_seed
from unmask.types import Message, Prompt, Trajectory
from unmask.vllm_names import CHATTING, LOADING, WRITING

OPTIONS = ("model", "device", "dtype", "params", "image_codec", "image_preprocess")
Asked = SamplingParams | Sequence[SamplingParams] | None
Turns = Sequence[Message | Mapping[str, Any]]
Conversations = Turns | Sequence[Turns]


class LLM:
    """A model with its tokenizer and engine.

    Attributes:
        model: the weights.
        tokenizer: text to ids and back; `None` if the checkpoint has none, and then prompts must be
            token ids.
        reader: makes prompts of conversations, with their images.
        engine: writes the responses.
    """

    def __init__(
        self,
        model: str | Path | Model,
        device: str | torch.device = "cpu",
        dtype: str | torch.dtype = torch.float32,
        params: EngineParams | None = None,
        image_codec: str | Path | None = None,
        image_preprocess: ImagePreprocess = "pad",
        **unknown: Any,
    ) -> None:
        """Load a checkpoint, or use a loaded model.

        Args:
            model: directory, hub id, or a model from `load_model`.
            device: device of a checkpoint: `cpu`, `cuda`, `cuda:1`, `auto`.
            dtype: number format of a checkpoint, torch's object or its name; `auto` is float32 on CPU and
                bfloat16 on CUDA.
            params: size and mode of the engine.
            image_codec: directory of the image tokenizer of a model whose images are tokens.
            image_preprocess: how an image becomes the square that it reads.
            unknown: arguments of vLLM without effect here; others are refused, naming what to give instead.

        Raises:
            ValueError: as `load_model`; or for an unknown device, format or model.
            TypeError: for an argument that does not exist.
        """
        refuse_unknown("LLM", OPTIONS, unknown, LOADING)
        check_model(model)
        if params is not None and not isinstance(params, EngineParams):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(f"params = {params!r}: must be EngineParams(max_sequences=..., ...)")
        place = device_of(device)
        number_format = dtype_of(dtype, place)
        if not isinstance(model, Model):
            model = load_model(model, place, number_format)
        self.model, self.tokenizer, self._stop_texts, automata = model, None, None, None
        if model.source is not None and has_tokenizer(model.source):
            self.tokenizer = load_tokenizer(model.source)
            self._stop_texts = stop_texts_of(self.tokenizer)
            automata = automata_of(self.tokenizer, conventions_of(model).drawable)
        self.reader = build_reader(model, self.tokenizer, image_codec, image_preprocess)
        self.engine = Engine(self.model, params, self._stop_texts, automata)

    def generate(
        self,
        prompts: str | Sequence[str | Sequence[int] | Prompt | Mapping[str, Any]],
        sampling: Asked = None,
        *,
        sampling_params: Asked = None,
        **unknown: Any,
    ) -> list[Generation]:
        """Return responses to texts or token ids, without a chat template.

        Args:
            prompts: texts or token ids, or what `prompt` makes of a conversation.
            sampling: sampling parameters; one for all, or one for each prompt.
            sampling_params: another name of `sampling`.
            unknown: as of `LLM`.

        Returns:
            One result for each prompt: the first response, whose `outputs` are all `n`.

        Raises:
            ValueError: if `prompts` is not a list of prompts; or as `complete`: if some responses could
                not be written, the error carries the others.
            TypeError: for an argument that does not exist.
        """
        asked = one_of("sampling", sampling, "sampling_params", sampling_params)
        refuse_unknown("generate", ("prompts", "sampling"), unknown, WRITING)
        return self._write([self.to_prompt("generate", one) for one in prompts_of(prompts)], asked)

    def chat(
        self,
        conversations: Conversations | None = None,
        sampling: Asked = None,
        *,
        messages: Conversations | None = None,
        sampling_params: Asked = None,
        **unknown: Any,
    ) -> list[Generation]:
        """Return responses to conversations, rendered with the model's chat template.

        Args:
            conversations: one, a list of messages, or a list of such lists; a message is a `Message` or
                `{"role": ..., "content": ...}`, whose content is a text or a list of parts, texts and images
                (`message_parts.py`).
            sampling: as in `generate`.
            messages: another name of `conversations`.
            sampling_params: another name of `sampling`.
            unknown: as of `LLM`.

        Returns:
            As `generate`.

        Raises:
            ValueError: if they are not conversations; or as `complete`.
            TypeError: for an argument that does not exist.
        """
        asked = one_of("sampling", sampling, "sampling_params", sampling_params)
        given = one_of("conversations", conversations, "messages", messages)
        refuse_unknown("chat", ("conversations", "sampling"), unknown, CHATTING)
        self.require_tokenizer()
        return self._write([self.prompt(turns) for turns in conversations_of(given)], asked)

    def draw(
        self,
        texts: Sequence[str],
        sampling: SamplingParams | None = None,
        on_finish: Callable[[Trajectory], None] | None = None,
    ) -> list[Drawing]:
        """Return images of texts.

        Args:
            texts: one for each image.
            sampling: by default `preset("mmada_image")`, MMaDA's published sampler; with `n`, so many images of
                each text.
            on_finish: called with every trajectory as it finishes, in any order.

        Returns:
            `n` drawings per text, in the order of the texts; with a picture if the LLM has an `image_codec`.

        Raises:
            ValueError: if the model draws no images or has no tokenizer, or a text is too long; or as `complete`.
        """
        images = self.images()
        found = [images.prompt(text) for text in prompts_of(texts)]
        asked = replace(sampling or preset("mmada_image"), writes="image")
        each = each_response(found, sampling_of(asked, len(found)))
        written = self.complete(*each, on_finish)
        return list(map(images.drawing, written))

    def images(self) -> TextToImage:
        """Return what makes requests of texts, and pictures of responses.

        Raises:
            ValueError: if the model draws no images or has no tokenizer, or Pillow is not installed.
        """
        tokenizer = self.require_tokenizer()
        return TextToImage.of(self.model.spec, lambda text: encode(text, tokenizer), self.reader)

    def stream(
        self, prompt: str | Sequence[int] | Prompt, sampling: SamplingParams | None = None
    ) -> Iterator[str]:
        """Yield the text of one response as its blocks are finished.

        The pieces, joined, are the `text` of the response that `generate` writes. What a stop text may
        begin with is held back until it is certain.

        Raises:
            ValueError: if it does not fit the model, `n` is not 1, the checkpoint has no tokenizer, other
                requests still run, or the model's logits are not finite.
        """
        self.require_tokenizer()
        text = TextStream.of(self.decode, sampling)
        with closing(self.events(*self._request(prompt, sampling), "text")) as events:
            for event in events:
                is_end = isinstance(event, Trajectory)
                piece = text.rest(self.text(event)) if is_end else text.add(event.token_ids)
                if piece:
                    yield piece

    def stream_canvas(
        self, prompt: str | Sequence[int] | Prompt, sampling: SamplingParams | None = None
    ) -> Generator[Written | Generation]:
        """Yield what each denoising step of one response writes, and last the response.

        Close it to drop the response before its end.

        Raises:
            ValueError: as `stream`; token ids need no tokenizer.
        """
        with closing(self.events(*self._request(prompt, sampling), "canvas")) as events:
            for event in events:
                if isinstance(event, Trajectory):
                    yield self._generation(event)
                elif isinstance(event, Written):
                    yield event

    def events(
        self, prompt: Prompt, sampling: SamplingParams, streams: Streams
    ) -> Generator[Written | Committed | Trajectory]:
        """Yield the events of one response, and last its trajectory; close it to drop the response.

        Args:
            prompt: with `token_ids` filled in.
            sampling: with `n` = 1.
            streams: the events that come before the trajectory.

        Raises:
            ValueError: as `complete`, or the model's logits are not finite.
        """
        self._require_idle()
        self.engine.submit(prompt, sampling, streams)
        try:
            while not self.engine.is_idle:
                for event in self.engine.tick():
                    result = event.result if isinstance(event, Finished) else event
                    if isinstance(result, ValueError):
                        raise result
                    yield result
        except BaseException:  # the reader may have stopped early
            self.engine.abort()
            raise

    def add(
        self,
        prompt: str | Sequence[int] | Prompt,
        sampling: SamplingParams | None = None,
        streams: Streams | bool | None = None,
    ) -> int:
        """Queue one response to a text, token ids or a `prompt`, and return its request id; `tick` runs it.

        It is the response that `generate` returns. With `streams = "text"` (or `True`), ticks also return its
        tokens as its blocks are finished (`TextStream` decodes them), with `"canvas"` the writes of every
        denoising step too.

        Raises:
            ValueError: if it does not fit the model, or `n` is not 1, or `streams` is something else.
        """
        return self.engine.submit(*self._request(prompt, sampling), streams)

    def _request(
        self, prompt: str | Sequence[int] | Prompt, sampling: SamplingParams | None
    ) -> tuple[Prompt, SamplingParams]:
        """Return a prompt with its token ids, and the parameters of the first response to it."""
        (asked,) = sampling_of(sampling, 1)
        asked = replace(asked, seed=derive_seed(asked.seed, 0))
        return self.to_prompt("add", prompt), asked

    def tick(self) -> list[Written | Committed | Finished[Generation]]:
        """Take one forward pass and return its events."""
        return [
            event
            if not isinstance(event, Finished)
            else Finished(
                event.request_id,
                event.result
                if isinstance(event.result, ValueError)
                else self._generation(event.result),
            )
            for event in self.engine.tick()
        ]

    def abort(self, request_id: int | None = None) -> None:
        """Drop one added response, or all of them."""
        self.engine.abort(request_id)

    def template(self, text: str, sampling: SamplingParams | None = None) -> SamplingParams:
        """Return sampling parameters under which a response is a template with its gaps filled.

        Args:
            text: the template; `Name: [[8]] Age: [[4]]` leaves 8 and 4 tokens to be written.
            sampling: the other parameters; the template decides `pinned` and `max_tokens`.

        Raises:
            ValueError: if it has no gap, or the checkpoint has no tokenizer.
        """
        tokenizer = self.require_tokenizer()
        return with_template(
            text, lambda part: encode(part, tokenizer), sampling or SamplingParams()
        )

    def tokenize(self, prompts: Sequence[Prompt], writes: Medium = "text") -> list[Prompt]:
        """Return the prompts with `token_ids` and `images`, rendered with the model's chat template.

        With `writes = "image"`, a prompt is the text of an image: its only message.
        """
        if writes == "image":
            return list(map(self.images().prompt_of, prompts))
        tokenizer, found = self.require_tokenizer(), list[Prompt]()
        for prompt in prompts:
            tokens = prompt_tokens(prompt.messages, tokenizer, self.reader)
            found.append(replace(prompt, token_ids=tokens.token_ids, images=tokens.images))
        return found

    def prompt(self, messages: Sequence[Message]) -> Prompt:
        """Return the prompt of a conversation; see `tokenize`."""
        return self.tokenize([Prompt("chat", 0, tuple(messages))])[0]

    def complete(
        self,
        prompts: Sequence[Prompt],
        sampling: Sequence[SamplingParams],
        on_finish: Callable[[Trajectory], None] | None = None,
        before_tick: Callable[[], None] | None = None,
    ) -> list[Trajectory]:
        """Return one trajectory per prompt, as trainers and evaluation need them.

        Args:
            prompts: with `token_ids` filled in.
            sampling: one each, with `n` = 1.
            on_finish: called with every trajectory as it finishes, in any order.
            before_tick: called before every forward pass.

        Returns:
            The trajectories in the order of the prompts.

        Raises:
            ValueError: if one of them does not fit the model, or added requests still run; then none is
                written. After any other exception the engine has no requests.
            BrokenResponses: a ValueError, if the model's logits were not finite for some of them; raised
                after the others have finished, and carries them.
        """
        self._require_idle()
        pairs = list(zip(prompts, sampling, strict=True))
        for pair in pairs:  # before any is queued, so that a refusal leaves the engine empty
            self.engine.resolve(*pair)
        finished: dict[int, Trajectory | ValueError] = {}
        try:
            request_ids = [self.engine.submit(*pair) for pair in pairs]
            for event in self.engine.collect(before_tick):
                finished[event.request_id] = event.result
                if on_finish and not isinstance(event.result, ValueError):
                    on_finish(event.result)
        except BaseException:
            self.engine.abort()
            raise
        results = [finished[request_id] for request_id in request_ids]
        return require_whole(prompts, results, self._generation)

    def _require_idle(self) -> None:
        if not self.engine.is_idle:  # their events would be returned to this call and be lost
            raise ValueError(
                "requests that were added still run: tick until engine.is_idle, or abort() them, "
                "before generate, chat, stream or complete"
            )

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of token ids, without special tokens."""
        return decode(token_ids, self.require_tokenizer())

    def pieces(self, token_ids: Sequence[int]) -> list[str]:
        """Return the text each token adds, special tokens included."""
        return token_pieces(token_ids, self.require_tokenizer())

    def _write(self, prompts: Sequence[Prompt], sampling: Asked) -> list[Generation]:
        asked = sampling_of(sampling, len(prompts))
        written = map(self._generation, self.complete(*each_response(prompts, asked)))
        return by_prompt([*written], [one.n for one in asked])

    def _generation(self, trajectory: Trajectory) -> Generation:
        return generation_of(trajectory, self.text(trajectory), self.tokenizer)

    def text(self, trajectory: Trajectory) -> str:
        """Return a response's text before the first stop text; empty without a tokenizer, and of an image."""
        if self._stop_texts is None or trajectory.sampling.writes == "image":
            return ""
        stop = trajectory.sampling.stop
        if not stop:
            return self.decode(trajectory.response_ids)
        return self._stop_texts(stop).text_before(trajectory.response_ids)

    def to_prompt(self, task: str, prompt: Any) -> Prompt:
        """Return the prompt of a text or token ids, under the name of a task."""
        if isinstance(prompt, Prompt):
            return prompt
        ids = token_ids_of(prompt, lambda text: encode(text, self.require_tokenizer()))
        return Prompt(task, 0, (), ids)

    def require_tokenizer(self) -> Tokenizer:
        """Return the tokenizer.

        Raises:
            ValueError: if the checkpoint has none.
        """
        if self.tokenizer is None:
            raise ValueError(
                f"{self.model.source} has no tokenizer files: give prompts as token ids"
            )
        return self.tokenizer
