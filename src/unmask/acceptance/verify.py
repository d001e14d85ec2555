"""`unmask verify`: the acceptance run for a checkpoint, on the machine and with the weights of its user.

Our tests use tiny models with the published conventions; whether a release keeps to them shows only
with its weights. The checks run in the order in which things break: the logits are finite, the engine
writes the same tokens as the reference sampler, and (on request, `acceptance/reference_code.py`) the
published code gives the same logits.

The report is a short table to paste into an issue: versions, device, sizes and checks. It names the
checkpoint by its last name and holds no path, host name or prompt of the user.
"""

import importlib.metadata
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from unmask import __version__
from unmask.acceptance.agreement import compare_with_reference, logprob_gaps
from unmask.acceptance.reference_code import (
    Job,
    PublishedCodeFailed,
    compare,
    published_logits,
    require_code,
)
from unmask.checkpoints.checkpoint import find_checkpoint
from unmask.checkpoints.memory import count_parameters
from unmask.configs.engine import EngineConfig
from unmask.configs.model import ModelConfig
from unmask.engine.build import build_llm
from unmask.engine.llm import LLM
from unmask.models.families import family_named
from unmask.models.families.json_keys import read_json
from unmask.models.spec import ModelSpec
from unmask.presets import PRESETS, preset
from unmask.runs.print import visible
from unmask.runs.text_table import align
from unmask.sampling_params import SamplingParams
from unmask.types import Message, Prompt

# Folders of an absolute path, up to its last name.
PATH = re.compile(r"""(?<![\w.])~?/(?:[^\s/'":,;]+/)+""")
PROBES = (  # prompts on which engine and reference are compared
    "What is 7 + 5? Reply with the number only.",
    "What is the capital of France? Reply with one word.",
    "How many minutes are there in 3 hours?",
    "Write one line of Python that prints hello.",
)
NUM_TEXTS = 3  # texts whose logits are compared


@dataclass(frozen=True, slots=True)
class Bounds:
    """The largest differences between two right implementations in one number format.

    Attributes:
        logprob: mean difference of log-probabilities, in nats.
        tie: gap of a decision that rounding may change, in probability.
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
    """The checkpoint to verify, and how.

    Attributes:
        model: the checkpoint, as the `[model]` section of a config.
        max_tokens: most tokens of a compared response; the reference is slow.
        preset: name of the sampler; the family's published one when not given.
        published: Python that runs the published code; `None` does not run it.
    """

    model: ModelConfig
    max_tokens: int = 32
    preset: str | None = None
    published: str | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """One check and its result."""

    name: str
    passed: bool
    found: str


@dataclass(frozen=True, slots=True)
class Report:
    """The result of `unmask verify`.

    Attributes:
        name: of the checkpoint, without its directory.
        facts: names and values of the model and the machine.
        checks: those that ran.
    """

    name: str
    facts: Sequence[tuple[str, str]]
    checks: Sequence[Check]

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return all(check.passed for check in self.checks)

    def text(self) -> str:
        """Return the report as it is printed."""
        rows = [("ok" if c.passed else "FAILED", c.name, c.found) for c in self.checks]
        failed = ", ".join(check.name for check in self.checks if not check.passed)
        verdict = "Every check passed." if self.passed else f"FAILED: {failed}."
        parts = (f"unmask verify {self.name}", align(self.facts), "", align(rows), "", verdict)
        return "\n".join(parts)


def verify(params: VerifyParams) -> Report:
    """Load a checkpoint and check it against the reference sampler, and on request the published code.

    Raises:
        ValueError: for a checkpoint that does not load, or parameters out of range.
    """
    preset(params.preset or next(iter(PRESETS)), max_tokens=params.max_tokens)  # refused unloaded
    directory = find_checkpoint(params.model.path)
    if params.published is not None:
        require_code(directory)
    llm = build_llm(params.model, EngineConfig())
    spec = llm.model.spec
    name = params.preset or family_named(spec.family).preset
    sampling = preset(name, max_tokens=params.max_tokens)
    probes, origin = _probes(llm)
    texts = _texts(probes[:NUM_TEXTS], spec)
    logits = [_logits(llm, text) for text in texts]
    checks = [check_finite(logits)]
    if checks[0].passed:
        checks.append(check_engine(llm, probes, sampling))
    facts = [
        *_facts(llm),
        ("prompts", origin),
        ("preset", f"{name}, {sampling.strategy}, temperature {sampling.temperature:g}"),
    ]
    if params.published is not None:
        place = (str(llm.model.device), str(llm.model.dtype).removeprefix("torch."))
        del llm  # before the other process takes as much memory again
        torch.cuda.empty_cache()
        checks.append(check_published(logits, Job(directory, texts, spec, place, params.published)))
    path = params.model.path
    return Report(directory.resolve().name if Path(path).is_dir() else path, facts, checks)


def check_finite(logits: Sequence[Tensor]) -> Check:
    """Check that the logits `(L, V)` of every text are finite."""
    wrong = sum(int((~rows.isfinite()).sum()) for rows in logits)
    rows = sum(map(len, logits))
    spread = torch.cat([text.flatten() for text in logits]).std().item()
    about = f"{len(logits)} texts, {rows} positions, standard deviation {spread:.2f}"
    return Check("finite logits", not wrong, f"{about}, {wrong} not finite" if wrong else about)


def check_engine(llm: LLM, probes: Sequence[Prompt], sampling: SamplingParams) -> Check:
    """Check that the engine writes the same tokens as the reference sampler, at temperature 0.

    Args:
        llm: the model and its engine.
        probes: prompts, answered together by the engine and one by one by the reference.
        sampling: the sampler; its temperature is not used.
    """
    greedy = replace(sampling, temperature=0.0)
    written = llm.complete(probes, [greedy] * len(probes))
    agreements = [compare_with_reference(llm.model, trajectory) for trajectory in written]
    largest, mean = logprob_gaps(agreements)
    bounds = bounds_of(llm.model.device, llm.model.dtype)
    # (gap, denoising step) of the first difference of each response that differs
    different = [(a.gap, a.step) for a in agreements if a.step is not None]
    is_tie = bounds.tie > 0 and all(gap <= bounds.tie for gap, _ in different)
    found = (
        f"{len(written)} prompts, {sum(t.num_response for t in written)} tokens, "
        f"{sum(t.num_steps for t in written)} denoising steps: "
    )
    if different:
        gap, step = max(different)
        found += (
            f"{len(different)} of them differ, at a decision with a gap of {gap:.1e} at worst "
            f"(denoising step {step})"
        )
    else:
        found += f"the same tokens at the same steps{'' if largest else ', to the bit'}"
    if largest:
        found += f"; log-probabilities differ by {mean:.1e} on average, at most {largest:.1e}"
    passed = mean <= bounds.logprob and (is_tie or not different)
    return Check("engine = reference", passed, found)


def bounds_of(device: torch.device, dtype: torch.dtype) -> Bounds:
    """Return the differences that rounding may cause; on CPU in fp32 it changes no decision."""
    if dtype.itemsize < torch.float32.itemsize:
        return HALF
    return EXACT if device.type == "cpu" else SINGLE


def check_published(ours: Sequence[Tensor], job: Job) -> Check:
    """Check that the published code, run in another process, gives our logits `(L, V)` of the job's texts."""
    device, dtype = job.place
    bounds, passed = bounds_of(torch.device(device), getattr(torch, dtype)), False
    try:
        theirs, version = published_logits(job)
        c = compare(ours, theirs)
        passed = c.mean <= bounds.logits * c.std and c.same_top >= bounds.same_top
        found = (
            f"transformers {version}, {c.num_rows} positions: |difference| mean {c.mean:.1e}, "
            f"max {c.largest:.1e}, of logits with standard deviation {c.std:.2f}; worst position "
            f"{c.worst_row:.1e}; same top-1 at {c.same_top:.1%}"
        )
    except PublishedCodeFailed as error:
        found = f"it returned no logits: {_without_paths(str(error), job.directory)[:300]}"
    if not passed:  # another transformers than the code was published for may load it and be wrong
        stated = read_json(job.directory / "config.json").get("transformers_version")
        found += (
            f"; config.json was written by transformers {stated or '(not stated)'}: if this one "
            "differs, try --published-python with a Python that has that version"
        )
    return Check("published code", passed, found)


def _without_paths(text: str, directory: Path) -> str:
    """Return a message with every path cut to its last name."""
    for path in (directory.resolve(), Path.home()):  # these may hold spaces
        text = text.replace(f"{path}/", "")
    return visible(PATH.sub("", text))


def _probes(llm: LLM) -> tuple[list[Prompt], str]:
    """Return the prompts and their origin: `PROBES`, or drawn ids for a model that cannot read those."""
    asked = [Prompt("verify", uid, (Message("user", text),)) for uid, text in enumerate(PROBES)]
    reason = "no tokenizer"
    if llm.tokenizer is not None:
        try:
            has_template = llm.tokenizer.chat_template
            return llm.tokenize(asked), "chat template" if has_template else "no chat template"
        except ValueError as error:
            reason = str(error)
    generator = torch.Generator().manual_seed(0)  # the same ids at every call
    ids = llm.model.head.drawable.nonzero()[:, 0].cpu()
    drawn = [
        ids[torch.randint(len(ids), (n,), generator=generator)].tolist() for n in (5, 8, 13, 18)
    ]
    found = [Prompt("verify", uid, (), tuple(text)) for uid, text in enumerate(drawn)]
    return found, f"token ids drawn at random, {reason}"


def _texts(probes: Sequence[Prompt], spec: ModelSpec) -> list[tuple[int, ...]]:
    """Return texts with masks in them: each probe, then masks with some of its tokens between."""
    mask_id = spec.require_mask_id()
    texts: list[tuple[int, ...]] = []
    for index, probe in enumerate(probes):
        length = len(probe.token_ids)
        # Ends within a block, at another place in each text.
        count = 2 * (spec.block_size or 16) + 3 + index
        tail = (probe.token_ids[i % length] if i % 3 == 1 else mask_id for i in range(count))
        texts.append((*probe.token_ids, *tail)[: spec.max_length])
    return texts


@torch.inference_mode()
def _logits(llm: LLM, text: Sequence[int]) -> Tensor:
    """Return the dense logits `(L, V)` of a text, on the CPU."""
    return llm.model.logits(torch.tensor([text], device=llm.model.device))[0].cpu()


def _facts(llm: LLM) -> list[tuple[str, str]]:
    """Return the versions, the machine and the model as rows of the report."""
    model, spec = llm.model, llm.model.spec
    versions = [f"{lib} {importlib.metadata.version(lib)}" for lib in ("torch", "transformers")]
    device = str(model.device)
    if model.device.type == "cuda":
        device += f", {torch.cuda.get_device_name(model.device)}"
    total, active = count_parameters(model)
    shape = (
        f"{spec.family}: {spec.num_layers} layers of width {spec.width}",
        f"{spec.num_heads}/{spec.num_kv_heads} heads of {spec.head_width}",
        f"{spec.vocab_size} ids ({spec.num_drawable} drawable)",
        f"{spec.attention} attention",
        f"block {spec.block_size}",
        f"mask id {spec.mask_id}",
        *(["shifted"] if spec.is_shifted else []),
        *([f"{spec.moe.num_experts} experts"] if spec.moe else []),
    )
    python = f"python {platform.python_version()}"
    return [
        ("versions", ", ".join((f"unmask {__version__}", *versions, python))),
        ("device", f"{device}; {platform.machine()}, {torch.get_num_threads()} threads"),
        ("family", ", ".join(shape)),
        ("parameters", f"{total:,}" + (f", {active:,} per token" if active < total else "")),
        ("number format", str(model.dtype).removeprefix("torch.")),
    ]
