"""lm-evaluation-harness: a model class for the `lm_eval` package, under the name `unmask`.

    unmask lm-eval --model unmask --model_args pretrained=PATH,strategy=dynamic,threshold=0.9 --tasks gsm8k

`generate_until` samples with the engine. `loglikelihood` is a lower bound (`likelihood.py`), since a
diffusion model has no exact one: it ranks the choices of a question, as the published evaluations of
such models do. `loglikelihood_rolling` is refused, because a perplexity computed from bounds does not
compare with other perplexities. A generation setting that unmask's samplers do not have is refused by
name, unless its value has no effect (`num_beams: 1`).

Images of a task (`doc_to_image`) stand at the markers `<image>` of its text, which are the harness's own too. They go
with `generate_until`; a likelihood about images is refused.

This module imports the package, so only the command imports this module.
"""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from importlib import import_module
from types import MappingProxyType
from typing import Any

from unmask.checkpoints.image_reader import TEXT_ONLY
from unmask.checkpoints.tokenizer import encode, render_text
from unmask.configs.engine import EngineConfig
from unmask.configs.model import DType, ModelConfig
from unmask.configs.sampling import SamplingConfig
from unmask.engine.build import build_llm
from unmask.evaluation.likelihood import Pair, bound_loglikelihoods
from unmask.images import ImagePreprocess, image_from
from unmask.runs.progress import Progress
from unmask.sampling_params import SamplingParams
from unmask.seeds import derive_seed
from unmask.types import Message, Prompt, Trajectory

# Left untyped: the package is an extra.
LM: Any = import_module("lm_eval.api.model").LM
register_model: Any = import_module("lm_eval.api.registry").register_model

CHUNK = 32
# The package's defaults of --device, also on machines without a GPU, and of --batch_size. The batch size
# does not change responses here, so its default is the engine's.
NO_DEVICE_GIVEN = "cuda:0"
NO_BATCH_SIZE_GIVEN = 1
LENGTHS = ("max_gen_toks", "max_new_tokens")
OURS = {field.name for field in fields(SamplingParams)} - {"n", "stop", "max_tokens"}
# Settings of other samplers, with the value at which they have no effect (True is 1, False is 0).
ONE = "num_beams num_beam_groups num_return_sequences length_penalty repetition_penalty typical_p use_cache"
ZERO = "early_stopping diversity_penalty no_repeat_ngram_size"
NEUTRAL: dict[str, int] = {**dict.fromkeys(ONE.split(), 1), **dict.fromkeys(ZERO.split(), 0)}


@register_model("unmask")
class HarnessModel(LM):
    """A diffusion language model with the interface of the harness."""

    def __init__(  # noqa: PLR0913 - one argument per key of --model_args
        self,
        pretrained: str,
        device: str = "auto",
        dtype: DType = "auto",
        adapter: str | None = None,
        image_codec: str | None = None,
        image_preprocess: ImagePreprocess = "pad",
        batch_size: int | str = NO_BATCH_SIZE_GIVEN,
        max_batch_size: int | None = None,
        mc_num: int = 128,
        check_greedy: bool = True,
        seed: int = 0,
        **sampling: Any,
    ) -> None:
        """Load a checkpoint; the arguments are those of `--model_args`.

        Args:
            pretrained: directory in Hugging Face layout, or a hub id.
            device: as `model.device`.
            dtype: as `model.dtype`.
            adapter: as `model.adapter`.
            image_codec: as `model.image_codec`.
            image_preprocess: as `model.image_preprocess`.
            batch_size: sequences of a batch; 1 and `auto` are the engine's default.
            max_batch_size: the harness's, used where `batch_size` is `auto`.
            mc_num: masks per block of a log-likelihood.
            check_greedy: whether `loglikelihood` also decodes greedily to compare with the continuation;
                otherwise it returns False for that.
            seed: key of all draws.
            sampling: keys of `[sampling]`.

        Raises:
            ValueError: an argument is unknown or wrong.
        """
        super().__init__()
        size = int(batch_size) if str(batch_size).isdecimal() else max_batch_size or 1
        engine = EngineConfig(max_sequences=size) if size > NO_BATCH_SIZE_GIVEN else EngineConfig()
        device = "auto" if device == NO_DEVICE_GIVEN else device
        self._path = pretrained
        model = ModelConfig(
            path=pretrained,
            device=device,
            dtype=dtype,
            adapter=adapter,
            image_codec=image_codec,
            image_preprocess=image_preprocess,
        )
        self._llm = build_llm(model, engine)
        self._tokenizer = self._llm.require_tokenizer()
        self._sampling = SamplingConfig(**sampling).to_params(seed=seed)
        self._mc_num, self._check_greedy = mc_num, check_greedy

    @property
    def MULTIMODAL(self) -> bool:
        """Whether tasks with images may be asked."""
        return self._llm.reader is not TEXT_ONLY

    @property
    def tokenizer_name(self) -> str:
        """Name of the tokenizer, for the harness's own caches."""
        return self._path.replace("/", "__")

    def chat_template(self, chat_template: bool | str = False) -> str:
        """Return the chat template, or an empty string for False."""
        return (self._tokenizer.chat_template or "") if chat_template else ""

    def apply_chat_template(
        self, chat_history: Sequence[Mapping[str, Any]], add_generation_prompt: bool = True
    ) -> str:
        """Return a conversation as text; without a generation prompt, its last turn is left open.

        Raises:
            ValueError: the model has no chat template.
        """
        if self._tokenizer.chat_template is None:
            raise ValueError(f"{self._path} has no chat template: leave --apply_chat_template out")
        messages = [Message(turn["role"], turn["content"]) for turn in chat_history]
        is_open = not add_generation_prompt
        conversation = self._llm.reader.conversation(messages)
        return render_text(
            conversation, self._tokenizer, add_generation_prompt, continue_final_message=is_open
        )

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Return a response to every request; a repeated request gets another draw."""
        seen: Counter[bytes] = Counter()
        prompts: list[Prompt] = []
        params: list[SamplingParams] = []
        for context, settings, *others in (request.args for request in requests):
            prompt = self._prompt(context, *others)
            # The ids of a prompt without images are its whole content.
            content = prompt.token_ids if not prompt.images else prompt.digest
            seed = derive_seed(self._sampling.seed, seen[prompt.digest], *content)
            seen[prompt.digest] += 1
            prompts.append(prompt)
            params.append(sampling_of(settings, self._sampling, seed))
        written = self._write(prompts, params, "generate_until")
        texts = [self._llm.text(trajectory) for trajectory in written]
        for request, text in zip(requests, texts, strict=True):
            self.cache_hook.add_partial("generate_until", request.args, text)
        return texts

    def loglikelihood(
        self, requests: Sequence[Any], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """Return a lower bound of each continuation's log-probability, and whether it is the greedy one."""
        pairs = [self._pair(*request.args) for request in requests]
        bounds: list[float] = []
        with Progress(len(pairs), "loglikelihood") as bar:
            for start in range(0, len(pairs), CHUNK):
                chunk = pairs[start : start + CHUNK]
                model, seed = self._llm.model, self._sampling.seed
                bounds += bound_loglikelihoods(model, chunk, self._mc_num, seed)
                bar.advance(len(chunk))
        greedy = self._are_greedy(pairs) if self._check_greedy else [False] * len(pairs)
        answers = list(zip(bounds, greedy, strict=True))
        for request, answer in zip(requests, answers, strict=True):
            self.cache_hook.add_partial("loglikelihood", request.args, answer)
        return answers

    def loglikelihood_rolling(
        self, requests: Sequence[Any], disable_tqdm: bool = False
    ) -> list[float]:
        """Refuse the request.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            "loglikelihood_rolling: a diffusion model gives a bound of the likelihood, and a "
            "perplexity computed from it does not compare with others; leave out tasks of this kind"
        )

    def _prompt(self, context: str, others: Mapping[str, Any] = MappingProxyType({})) -> Prompt:
        """Return the prompt of a rendered text and what a task shows with it."""
        if unread := sorted({*others} - {"visual"}):
            raise ValueError(f"the task has {', '.join(unread)}: only text and images are read")
        visuals = others.get("visual") or []
        images = [image_from(visual, f"image {n}") for n, visual in enumerate(visuals, start=1)]
        tokens = self._llm.reader.tokens(context, images, lambda text: list(self._encode(text)))
        return Prompt("lm_eval", 0, (), tokens.token_ids, images=tokens.images)

    def _pair(self, context: str, continuation: str, *others: Any) -> Pair:
        """Return prompt and response ids, split where the context's own tokens end."""
        if others:
            raise ValueError(
                "loglikelihood: the likelihood of a text about images is not measured; ask tasks with images that "
                "generate (output_type: generate_until)"
            )
        kept = context.rstrip()
        prompt_ids = self._encode(kept)
        whole = self._encode(context + continuation)
        response_ids = whole[len(prompt_ids) :]
        if not response_ids:
            raise ValueError(f"the continuation {continuation!r} adds no token to its context")
        if not prompt_ids and self._llm.model.spec.is_shifted:
            prompt_ids = self._llm.model.spec.eos_ids[:1]  # it predicts a token from the one before
        return prompt_ids, response_ids

    def _are_greedy(self, pairs: Sequence[Pair]) -> list[bool]:
        prompts = [Prompt("lm_eval", 0, (), tuple(prompt_ids)) for prompt_ids, _ in pairs]
        greedy = SamplingParams(strategy="static", temperature=0, stop_token_ids=())
        params = [replace(greedy, max_tokens=len(response_ids)) for _, response_ids in pairs]
        written = self._write(prompts, params, "greedy")
        return [t.response_ids == tuple(ids) for t, (_, ids) in zip(written, pairs, strict=True)]

    def _write(
        self, prompts: Sequence[Prompt], params: Sequence[SamplingParams], label: str
    ) -> list[Trajectory]:
        with Progress(len(prompts), label) as bar:
            return self._llm.complete(prompts, params, lambda _: bar.advance())

    def _encode(self, text: str) -> tuple[int, ...]:
        return tuple(encode(text, self._tokenizer))


def sampling_of(settings: Mapping[str, Any], base: SamplingParams, seed: int) -> SamplingParams:
    """Return the sampling parameters of a request: its generation settings override the model's.

    Args:
        settings: `until`, `max_gen_toks`, `do_sample`, any field of `SamplingParams`, and settings of other
            samplers at a value without effect.
        base: of the model.
        seed: of the request.

    Raises:
        ValueError: any other setting; names it.
    """
    asked = {k for k, v in settings.items() if v is not None and v != NEUTRAL.get(k)}
    unknown = asked - OURS - {"until", "do_sample", *LENGTHS}
    if unknown:
        raise ValueError(
            f"generation settings {', '.join(sorted(unknown))}: unmask's samplers do not have them; allowed are "
            f"until, do_sample, max_gen_toks, {', '.join(sorted(OURS))}"
        )
    changes: dict[str, Any] = {name: settings[name] for name in OURS & settings.keys()}
    if settings.get("do_sample") is False:
        changes["temperature"] = 0.0
    if (until := settings.get("until")) is not None:
        changes["stop"] = (until,) if isinstance(until, str) else tuple(until)
    for name in LENGTHS:
        if name in settings:
            changes["max_tokens"] = int(settings[name])
    return replace(base, **{**changes, "seed": seed})


def run_harness(words: Sequence[str]) -> None:
    """Run the harness's command with these words."""
    sys.argv = ["lm_eval", *words]
    import_module("lm_eval.__main__").cli_evaluate()
