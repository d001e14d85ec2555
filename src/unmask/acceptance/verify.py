"""`unmask verify`: the acceptance run for a checkpoint, on the machine and with the weights of its user.

Our own tests stand on tiny models with the published conventions; whether a release keeps to them
shows only where its weights are. So this loads them and looks, in the order in which things break:
do finite numbers come out, does the engine write what the reference sampler writes, does the
published code (if asked for, `acceptance/reference_code.py`) give the same logits, and are the responses
to plain questions sensible. The first three are checks that pass or fail; the last is for a human.

The report is short plain text to be pasted into an issue: versions, device, the numbers, our own
questions and what the model answered. The checkpoint is called by its last name; no path of the
user's machine, no host name and no prompt of theirs is in it.
"""

import importlib.metadata
import platform
import re
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from unmask import __version__
from unmask.acceptance.agreement import compare_with_reference, logprob_gaps
from unmask.acceptance.questions import QUESTIONS, Question
from unmask.acceptance.reference_code import (
    Comparison,
    PublishedCodeFailed,
    compare,
    published_logits,
    require_code,
)
from unmask.acceptance.verify_report import Check, Report, Response
from unmask.checkpoints.checkpoint import find_checkpoint
from unmask.checkpoints.memory import count_parameters
from unmask.configs.engine import EngineConfig
from unmask.configs.model import DType, ModelConfig
from unmask.engine.build import build_llm
from unmask.engine.llm import LLM
from unmask.models.families import family_named
from unmask.models.families.json_keys import read_json
from unmask.models.spec import ModelSpec
from unmask.presets import preset
from unmask.runs.print import visible
from unmask.runs.progress import Progress
from unmask.types import Message, Prompt, SamplingParams, Trajectory

GIB = 2**30
# Folders of an absolute path, up to its last name.
PATH = re.compile(r"""(?<![\w.])~?/(?:[^\s/'":,;]+/)+""")
NUM_PROBES = 4  # prompts on which engine and reference are compared
PROBE_TOKENS = 32  # most tokens of a response there: the reference is slow
NUM_TEXTS = 3  # texts whose logits are looked at


@dataclass(frozen=True, slots=True)
class Bounds:
    """How far two right implementations may be apart in one number format.

    Attributes:
        logprob: mean difference of log-probabilities, in nats.
        tie: gap of a decision that rounding may turn, in probability.
        logits: mean difference of logits, over their standard deviation.
        same_top: least share of positions with the same most likely token.
    """

    logprob: float
    tie: float
    logits: float
    same_top: float


EXACT = Bounds(logprob=1e-5, tie=0.0, logits=1e-4, same_top=0.99)
SINGLE = Bounds(logprob=1e-3, tie=1e-3, logits=1e-4, same_top=0.99)
HALF = Bounds(logprob=0.05, tie=0.05, logits=0.05, same_top=0.9)


@dataclass(frozen=True, slots=True)
class VerifyParams:
    """What is verified, and how.

    Attributes:
        path: directory or hub id of the checkpoint.
        device: as `model.device` of a config.
        dtype: as `model.dtype` of a config.
        num_questions: how many of our questions are asked.
        max_tokens: most tokens of a response.
        preset: sampler, by name; the family's published one when not given.
        published: Python that runs the published code; `None` does not run it.
        mask_id: mask token id; found in the checkpoint when not given.
        block_size: positions of a block; found in the checkpoint when not given.
        family: as `model.family` of a config.
    """

    path: str
    device: str = "auto"
    dtype: DType = "auto"
    num_questions: int = len(QUESTIONS)
    max_tokens: int = 64
    preset: str | None = None
    published: str | None = None
    mask_id: int | None = None
    block_size: int | None = None
    family: str | None = None


def verify(params: VerifyParams) -> Report:
    """Load a checkpoint, check it against the reference sampler and ask it our questions.

    Raises:
        ValueError: for a checkpoint that does not load, or values that cannot be honoured.
    """
    _require(params)
    directory = find_checkpoint(params.path)
    if params.published is not None:
        require_code(directory)
    llm, loading = _load(params)
    spec = llm.model.spec
    name = params.preset or family_named(spec.family).preset
    sampling = preset(name, max_tokens=params.max_tokens)
    prompts, note = _prompts(llm)
    probes = prompts[:NUM_PROBES] or _drawn(llm)
    texts = _texts(probes[:NUM_TEXTS], spec)
    logits = [_logits(llm, text) for text in texts]
    checks, responses = [check_finite(logits)], []
    if checks[0].passed:
        checks.append(check_engine(llm, probes, sampling))
        responses = _ask(llm, prompts[: params.num_questions], sampling)
    else:
        note = "not asked: the logits are not numbers"
    facts = (*_facts(llm, name, sampling), ("loading", loading))
    place = (str(llm.model.device), str(llm.model.dtype).removeprefix("torch."))
    if params.published is not None:
        del llm  # before the other process takes as much memory again
        torch.cuda.empty_cache()
        theirs = _Published(directory, texts, spec, place, params.published)
        checks.append(check_published(logits, theirs))
    called = directory.resolve().name if Path(params.path).is_dir() else params.path
    return Report(called, facts, checks, responses, note)


def check_finite(logits: Sequence[Tensor]) -> Check:
    """Check that logits `(L, V)` of every text are numbers."""
    wrong = sum(int((~rows.isfinite()).sum()) for rows in logits)
    rows = sum(map(len, logits))
    spread = torch.cat([text.flatten() for text in logits]).std().item()
    about = f"{len(logits)} texts, {rows} positions, standard deviation {spread:.2f}"
    return Check("finite logits", not wrong, f"{about}, {wrong} not finite" if wrong else about)


def check_engine(llm: LLM, probes: Sequence[Prompt], sampling: SamplingParams) -> Check:
    """Check that the engine writes what the reference sampler writes, at temperature 0.

    Args:
        llm: the model and its engine.
        probes: prompts, answered together by the engine and one by one by the reference.
        sampling: the sampler, but for its temperature.
    """
    length = min(PROBE_TOKENS, sampling.max_tokens)
    greedy = replace(sampling, temperature=0.0, max_tokens=length)
    written = llm.complete(probes, [greedy] * len(probes))
    agreements = [compare_with_reference(llm.model, trajectory) for trajectory in written]
    largest, mean = logprob_gaps(agreements)
    bounds = bounds_of(llm.model.device, llm.model.dtype)
    different = [(a.step, a.gap) for a in agreements if a.step is not None]
    is_tie = bounds.tie > 0 and all(gap <= bounds.tie for _, gap in different)
    found = [
        f"{len(written)} prompts, {sum(t.num_response for t in written)} tokens, "
        f"{sum(t.num_denoising_steps for t in written)} denoising steps: ",
        "the same tokens at the same steps" if not different else _differences(different),
        ", to the bit" if not largest and not different else "",
        f"; log-probabilities apart by {mean:.1e}, at most {largest:.1e}" if largest else "",
    ]
    passed = mean <= bounds.logprob and (is_tie or not different)
    return Check("engine = reference", passed, "".join(found))


def _differences(different: Sequence[tuple[int | None, float]]) -> str:
    step, gap = max(different, key=lambda pair: pair[1])
    return (
        f"{len(different)} of them part, at a decision with a gap of {gap:.1e} at worst "
        f"(denoising step {step})"
    )


def bounds_of(device: torch.device, dtype: torch.dtype) -> Bounds:
    """Return what rounding may do on a device in a number format; on CPU in fp32 nothing is turned by it."""
    if dtype.itemsize < torch.float32.itemsize:
        return HALF
    return EXACT if device.type == "cpu" else SINGLE


@dataclass(frozen=True, slots=True)
class _Published:
    """What the published code is asked, and by which Python."""

    directory: Path
    texts: Sequence[Sequence[int]]
    spec: ModelSpec
    place: tuple[str, str]
    python: str


def check_published(ours: Sequence[Tensor], asked: _Published) -> Check:
    """Run the published code, in another process, and check that its logits `(L, V)` are ours."""
    name = "published code"
    device, dtype = asked.place
    try:
        theirs, version = published_logits(
            asked.directory, asked.texts, asked.spec, asked.place, asked.python
        )
        found = compare(ours, theirs)
    except PublishedCodeFailed as error:
        said = _without_paths(str(error), asked.directory)
        return Check(name, False, f"it gave nothing to compare: {said[:300]}; {_way_out(asked)}")
    bounds = bounds_of(torch.device(device), getattr(torch, dtype))
    passed = found.mean <= bounds.logits * found.std and found.same_top >= bounds.same_top
    about = f"transformers {version}, {_apart(found)}"
    return Check(name, passed, about if passed else f"{about}; {_way_out(asked)}")


def _way_out(asked: _Published) -> str:
    """Say which transformers the code was published for: another one may load it and compute nonsense."""
    stated = read_json(asked.directory / "config.json").get("transformers_version")
    return (
        f"config.json was written by transformers {stated or '(not stated)'}: with another one here, "
        "try --published-python with a Python that has that version"
    )


def _apart(found: Comparison) -> str:
    return (
        f"{found.num_rows} positions: |difference| mean {found.mean:.1e}, max {found.largest:.1e}, "
        f"of logits with standard deviation {found.std:.2f}; worst position {found.worst_row:.1e}; "
        f"same top-1 at {found.same_top:.1%}"
    )


def _without_paths(text: str, directory: Path) -> str:
    """Return a message as it may be shown to others: of every path only its last name."""
    for path in (directory.resolve(), Path.home()):  # these may hold spaces
        text = text.replace(f"{path}/", "")
    return visible(PATH.sub("", text))


def _require(params: VerifyParams) -> None:
    if not 0 <= params.num_questions <= len(QUESTIONS):
        raise ValueError(
            f"--questions {params.num_questions}: there are {len(QUESTIONS)}, and 0 asks none"
        )
    if params.max_tokens < 1:
        raise ValueError(f"--max-tokens {params.max_tokens}: must be at least 1")
    if params.preset is not None:
        preset(params.preset)


def _load(params: VerifyParams) -> tuple[LLM, str]:
    """Return the model, and how long it took and what it took to load."""
    has_gpu = torch.cuda.is_available()
    for index in range(torch.cuda.device_count() if has_gpu else 0):
        torch.cuda.reset_peak_memory_stats(index)
    start = time.perf_counter()
    config = ModelConfig(
        path=params.path,
        device=params.device,
        dtype=params.dtype,
        mask_id=params.mask_id,
        block_size=params.block_size,
        family=params.family,
    )
    llm = build_llm(config, EngineConfig())
    seconds = time.perf_counter() - start
    peak = _peak_memory(llm.model.device)
    return llm, f"{seconds:.1f} s, peak of {peak / GIB:.2f} GiB"


def _peak_memory(device: torch.device) -> int:
    """Return the most bytes held so far: of tensors on a GPU, else of the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _prompts(llm: LLM) -> tuple[list[Prompt], str]:
    """Return our questions as the model reads them, or none and why."""
    asked = [
        Prompt("verify", uid, (Message("user", question.text),))
        for uid, question in enumerate(QUESTIONS)
    ]
    if llm.tokenizer is None:
        return [], "not asked: the checkpoint has no tokenizer"
    try:
        return llm.tokenize(asked), ""
    except ValueError as error:
        return [], f"not asked: {error}"


def _drawn(llm: LLM) -> list[Prompt]:
    """Return prompts for a model that cannot read our questions: ids it may write, drawn once for all."""
    generator = torch.Generator().manual_seed(0)
    ids = llm.model.head.drawable.nonzero()[:, 0].cpu()
    lengths = (5, 8, 13, 18)[:NUM_PROBES]
    drawn = [ids[torch.randint(len(ids), (n,), generator=generator)].tolist() for n in lengths]
    return [Prompt("verify", uid, (), tuple(text)) for uid, text in enumerate(drawn)]


def _texts(probes: Sequence[Prompt], spec: ModelSpec) -> list[tuple[int, ...]]:
    """Return texts with masks in them: each probe, then masks with a token of it here and there."""
    mask_id = spec.require_mask_id()
    texts: list[tuple[int, ...]] = []
    for index, probe in enumerate(probes):
        length = len(probe.token_ids)
        count = 2 * (spec.block_size or 16) + 3 + index  # ends within a block, and not always alike
        tail = (probe.token_ids[i % length] if i % 3 == 1 else mask_id for i in range(count))
        texts.append((*probe.token_ids, *tail)[: spec.max_length])
    return texts


@torch.inference_mode()
def _logits(llm: LLM, text: Sequence[int]) -> Tensor:
    """Return the dense logits `(L, V)` of a text, on the CPU."""
    return llm.model.logits(torch.tensor([text], device=llm.model.device))[0].cpu()


def _ask(llm: LLM, prompts: Sequence[Prompt], sampling: SamplingParams) -> list[Response]:
    """Answer the first of our questions one by one, so that each one's seconds are its own."""
    responses: list[Response] = []
    with Progress(len(prompts), "questions") as bar:
        for question, prompt in zip(QUESTIONS, prompts, strict=False):
            start = time.perf_counter()
            (trajectory,) = llm.complete([prompt], [sampling])
            seconds = time.perf_counter() - start
            responses.append(_response(llm, question, trajectory, seconds))
            bar.advance()
    return responses


def _response(llm: LLM, question: Question, trajectory: Trajectory, seconds: float) -> Response:
    return Response(
        question=question,
        text=llm.decode(trajectory.response_ids),
        num_tokens=trajectory.num_response,
        num_steps=trajectory.num_denoising_steps,
        num_forwards=trajectory.num_forwards,
        seconds=seconds,
    )


def _facts(llm: LLM, name: str, sampling: SamplingParams) -> list[tuple[str, str]]:
    model = llm.model
    device = str(model.device)
    if model.device.type == "cuda":
        device += f", {torch.cuda.get_device_name(model.device)}"
    total, active = count_parameters(model)
    return [
        ("versions", ", ".join(_versions())),
        ("device", f"{device}; {platform.machine()}, {torch.get_num_threads()} threads"),
        ("family", _shape(model.spec)),
        ("parameters", f"{total:,}" + (f", {active:,} per token" if active < total else "")),
        ("number format", str(model.dtype).removeprefix("torch.")),
        ("prompts", _kind_of_prompts(llm)),
        ("preset", f"{name}, {sampling.strategy}, temperature {sampling.temperature:g}"),
    ]


def _kind_of_prompts(llm: LLM) -> str:
    if llm.tokenizer is None:
        return "token ids drawn at random, no tokenizer"
    return "chat template" if llm.tokenizer.chat_template else "plain text, no chat template"


def _versions() -> list[str]:
    others = [f"{name} {importlib.metadata.version(name)}" for name in ("torch", "transformers")]
    return [f"unmask {__version__}", *others, f"python {platform.python_version()}"]


def _shape(spec: ModelSpec) -> str:
    """Return a spec in one line."""
    parts = [
        f"{spec.family}: {spec.num_layers} layers of width {spec.width}",
        f"{spec.num_heads}/{spec.num_kv_heads} heads of {spec.head_width}",
        f"{spec.vocab_size} ids ({spec.num_drawable} drawable)",
        f"{spec.attention} attention",
        f"block {spec.block_size}",
        f"mask id {spec.mask_id}",
        *(["shifted"] if spec.is_shifted else []),
        *([f"{spec.moe.num_experts} experts"] if spec.moe else []),
    ]
    return ", ".join(parts)
