"""`LLM`: a model, its tokenizer and an engine behind two verbs.

The place to start from Python:

    llm = LLM("path/or/hub-id")
    llm.generate(["1 + 1 ="], SamplingParams(max_tokens=32))[0].text
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from unmask.engine.engine import Engine
from unmask.engine.params import EngineParams
from unmask.engine.request import resolve
from unmask.models.checkpoint import load_model
from unmask.models.tokenizer import (
    Tokenizer,
    decode,
    encode,
    has_tokenizer,
    load_tokenizer,
    render,
    token_pieces,
)
from unmask.models.transformer import Model
from unmask.seeds import derive_seed
from unmask.types import Finish, Message, Prompt, SamplingParams, Trajectory


@dataclass(frozen=True, slots=True)
class Generation:
    """One response.

    Attributes:
        text: without special tokens; empty if the checkpoint has no tokenizer.
        token_ids: `R` ids, stop token included.
        step_map: `R` denoising steps, counted from 1, that revealed them.
        logprobs: `R` log-probabilities under the distribution they were drawn from.
        finish: `stop` or `length`.
        num_forwards: forward passes it took part in.
    """

    text: str
    token_ids: tuple[int, ...]
    step_map: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish: Finish
    num_forwards: int


class LLM:
    """A model that answers.

    Attributes:
        model: the weights.
        tokenizer: text to ids and back; `None` if the checkpoint has none, and then prompts must be
            token ids.
        engine: what writes the responses.
    """

    def __init__(
        self,
        model: str | Path | Model,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        max_slots: int = 256,
    ) -> None:
        """Load a checkpoint, or take a loaded model as it is.

        Args:
            model: directory, hub id, or a model from `load_model`.
            device: where to put a checkpoint.
            dtype: number format to hold a checkpoint in.
            max_slots: responses written at the same time.
        """
        self.model = model if isinstance(model, Model) else load_model(model, device, dtype)
        self.tokenizer = _tokenizer_of(self.model)
        self.engine = Engine(self.model, EngineParams(max_slots=max_slots))

    def generate(
        self,
        prompts: Sequence[str | Sequence[int]],
        sampling: SamplingParams | None = None,
    ) -> list[Generation]:
        """Continue texts, or token ids, as they stand.

        Args:
            prompts: texts or token ids.
            sampling: how responses are unmasked.

        Returns:
            `n` generations per prompt, in the order of the prompts.
        """
        token_ids = [self._encode(p) if isinstance(p, str) else tuple(p) for p in prompts]
        return self._write(token_ids, sampling or SamplingParams())

    def chat(
        self,
        conversations: Sequence[Sequence[Message]],
        sampling: SamplingParams | None = None,
    ) -> list[Generation]:
        """Answer conversations, rendered with the model's chat template; returns as `generate` does."""
        token_ids = [
            tuple(render(messages, self.require_tokenizer())) for messages in conversations
        ]
        return self._write(token_ids, sampling or SamplingParams())

    def tokenize(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """Return the prompts with their `token_ids` filled in, rendered with the model's chat template."""
        tokenizer = self.require_tokenizer()
        return [replace(p, token_ids=tuple(render(p.messages, tokenizer))) for p in prompts]

    def complete(
        self,
        prompts: Sequence[Prompt],
        sampling: Sequence[SamplingParams],
        on_finish: Callable[[Trajectory], None] | None = None,
    ) -> list[Trajectory]:
        """Write one trajectory per prompt; what trainers and evaluation call.

        Args:
            prompts: with `token_ids` filled in.
            sampling: one each.
            on_finish: told of every trajectory as it ends, in no particular order.

        Returns:
            The trajectories in the order of the prompts.

        Raises:
            ValueError: if one of them does not fit the model; none is then written. Whatever else
                ends it early, the engine is left without requests.
        """
        pairs = list(zip(prompts, sampling, strict=True))
        for pair in pairs:  # refused before any is queued, or the others would stay behind
            resolve(*pair, self.model.spec)
        finished: dict[int, Trajectory] = {}
        try:
            numbers = [self.engine.submit(*pair) for pair in pairs]
            for number, trajectory in self.engine.collect():
                finished[number] = trajectory
                if on_finish:
                    on_finish(trajectory)
        except BaseException:
            self.engine.abort()
            raise
        return [finished[number] for number in numbers]

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of token ids, without special tokens."""
        return decode(token_ids, self.require_tokenizer())

    def pieces(self, token_ids: Sequence[int]) -> list[str]:
        """Return the text each token adds, special tokens included."""
        return token_pieces(token_ids, self.require_tokenizer())

    def _write(
        self, token_ids: Sequence[tuple[int, ...]], sampling: SamplingParams
    ) -> list[Generation]:
        prompts: list[Prompt] = []
        params: list[SamplingParams] = []
        for uid, ids in enumerate(token_ids):
            for index in range(sampling.n):
                prompts.append(Prompt("generate", uid, (), ids))
                params.append(replace(sampling, n=1, seed=derive_seed(sampling.seed, index)))
        return [self._generation(trajectory) for trajectory in self.complete(prompts, params)]

    def _generation(self, trajectory: Trajectory) -> Generation:
        length = trajectory.num_response
        return Generation(
            text=self.decode(trajectory.response_ids) if self.tokenizer else "",
            token_ids=trajectory.response_ids,
            step_map=trajectory.step_map[:length],
            logprobs=trajectory.behavior_logprobs[:length],
            finish=trajectory.finish,
            num_forwards=trajectory.num_forwards,
        )

    def _encode(self, text: str) -> tuple[int, ...]:
        return tuple(encode(text, self.require_tokenizer()))

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


def _tokenizer_of(model: Model) -> Tokenizer | None:
    if model.source is None or not has_tokenizer(model.source):
        return None
    return load_tokenizer(model.source)
