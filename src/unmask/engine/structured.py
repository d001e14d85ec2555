"""Structured output: the automaton over token ids of a request's regular expression or JSON schema.

The library `outlines_core` (extra `serve`) builds the byte automaton, in a process of its own with limits of
memory and time; `diffusion/automaton.py` lays the tokenizer over it.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from unmask.checkpoints.tokenizer import Tokenizer, token_bytes
from unmask.diffusion.automaton import Automaton, build_automaton
from unmask.diffusion.constrained import Constraint, check_work
from unmask.engine import pattern_child
from unmask.engine.json_schemas import DEPTH, checked_schema, unanchored
from unmask.sampling_params import SamplingParams

MOST_STATES = 2000
# Automata kept; one takes a few MB.
MOST_KEPT = 64


def automata_of(tokenizer: Tokenizer, drawable: Tensor) -> Callable[[SamplingParams], Automaton]:
    """Return what builds the automaton of a request, and keeps the last `MOST_KEPT` of them.

    Args:
        tokenizer: of the model.
        drawable: `(V,)` bool, the ids that the model may write.
    """

    @lru_cache(maxsize=1)
    def texts() -> list[bytes]:
        return token_bytes(tokenizer)

    @lru_cache(maxsize=MOST_KEPT)
    def built(key: str, pattern: str, stop_ids: tuple[int, ...]) -> Automaton:
        try:
            rows, finals = byte_automaton(key, pattern)
            is_final = torch.zeros(len(rows), dtype=torch.bool)
            is_final[torch.tensor(finals, dtype=torch.int64)] = True
            return build_automaton(torch.tensor(rows), is_final, texts(), stop_ids, drawable)
        except ValueError as error:
            shown = pattern if len(pattern) <= 80 else f"{pattern[:77]}..."
            raise ValueError(f"{key} = {shown!r}: {error}") from error

    def automaton(sampling: SamplingParams) -> Automaton:
        stop_ids = sampling.stop_token_ids or ()
        if sampling.regex is not None:
            return built("regex", sampling.regex, stop_ids)
        assert sampling.json_schema is not None
        return built("json_schema", sampling.json_schema, stop_ids)

    return automaton


def byte_automaton(key: str, pattern: str) -> tuple[list[list[int]], list[int]]:
    """Return the next states `(S', 256)` of a pattern, -1 where no text goes on, and its final states.

    Args:
        key: `regex` or `json_schema`.
        pattern: its value.

    Raises:
        ValueError: if it is malformed, cannot be guaranteed, matches nothing, or is too large.
    """
    asked: dict[str, Any] = {"most_states": MOST_STATES}
    if key == "regex":
        asked["regex"] = unanchored(pattern)
    else:
        asked["json_schema"], asked["patterns"] = checked_schema(pattern)
        asked["depth"] = DEPTH
    if find_spec("outlines_core") is None:
        raise ValueError("structured output needs outlines_core: pip install 'unmask[serve]'")
    # -I: nothing of the environment or the working directory is imported.
    command = [sys.executable, "-I", pattern_child.__file__]
    ran = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True)
    if ran.returncode:
        limits = f"{pattern_child.SECONDS} s or {pattern_child.MEMORY >> 20:,} MiB"
        reason = "".join(ran.stderr.splitlines()[-1:])  # empty where a limit ended it
        raise ValueError(reason or f"building its automaton takes more than {limits}: simplify it")
    answer = json.loads(ran.stdout)
    if "error" in answer:
        raise ValueError(answer["error"])
    if not answer["finals"]:
        raise ValueError("no text matches")
    return answer["states"], answer["finals"]


def constraints_of(
    automata: Callable[[SamplingParams], Automaton] | None,
) -> Callable[[SamplingParams], Constraint | None]:
    """Return what builds the constraint of a request, `None` without structured output, and keeps the last ones.

    It raises a ValueError if the pattern cannot be used, or no response fits `max_tokens` and `pinned`.

    Args:
        automata: as `automata_of` returns it.
    """

    @lru_cache(maxsize=MOST_KEPT)
    def built(asked: SamplingParams) -> Constraint:
        assert automata is not None and asked.block_size is not None
        automaton = automata(asked)
        key = "regex" if asked.regex is not None else "json_schema"
        try:
            check_work(automaton, min(asked.block_size, asked.max_tokens))
            return Constraint.of(automaton, asked.max_tokens, asked.pinned)
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from error

    def constraint(resolved: SamplingParams) -> Constraint | None:
        if not resolved.is_structured:
            return None
        # What it depends on, so that requests which differ in their seed share one.
        names = ("regex", "json_schema", "stop_token_ids", "max_tokens", "pinned", "block_size")
        return built(SamplingParams(**{name: getattr(resolved, name) for name in names}))

    return constraint
