"""What structured output costs, and whether it is ever invalid.

    python benchmarks/constrained.py                      # about two hours on one core

    cost       a checkpoint (the converted SmolLM2-135M of `real_model.py`) writes for 16 prompts, one token
               per forward pass and sequence, with and without a JSON schema of 380 states; ticks of the two engines
               alternate, all 16 sequences run in each
    schemas    10,000 random schemas (`random_schemas.py`), one response each, by a random model with a token per
               byte, under every strategy, at temperatures from 0 to 2 and with filters; checked by a validator
               that shares no code with the package

Reading the table: milliseconds are CPU time per tick. `cost` is the share of tokens per second that the schema
takes: both write one token per tick and sequence. Any invalid response fails the run.

Writes `benchmarks/results/constrained.json`, with the settings and the machine.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from random_schemas import is_valid, random_schema
from rich.console import Console
from rich.table import Table
from setting import RESULTS, describe_machine, write_result

from unmask.checkpoints.random_init import init
from unmask.diffusion.sampling_tensors import STRATEGIES
from unmask.engine.llm import LLM
from unmask.engine.options import EngineParams
from unmask.engine.structured import automata_of
from unmask.models.conventions import conventions_of
from unmask.sampling_params import SamplingParams

MODEL = Path.home() / ".cache" / "unmask" / "real-model" / "start"
BATCH, TICKS, WARM = 16, 40, 8
SCHEMAS, GROUP = 10_000, 50
PROMPT = "Describe a person as a JSON object with name, age, tags, address and kind.\n"
ADDRESS = {
    "type": "object",
    "properties": {
        "street": {"type": "string"},
        "city": {"type": "string", "maxLength": 20},
        "zip": {"type": "string", "pattern": "[0-9]{5}"},
    },
    "required": ["street", "city", "zip"],
}
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "address": ADDRESS,
        "kind": {"enum": ["person", "company"]},
    },
    "required": ["name", "age", "tags", "address", "kind"],
}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=MODEL, help="checkpoint of the cost")
    parser.add_argument("--schemas", type=int, default=SCHEMAS, help="random schemas")
    parser.add_argument(
        "--parts", nargs="+", choices=("cost", "schemas"), default=["cost", "schemas"]
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="a tiny model and few schemas")
    parser.add_argument("--out", type=Path, help="where the results are written")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, Any] = {"machine": describe_machine(), "seed": arguments.seed}
    with tempfile.TemporaryDirectory() as place:
        tiny = Path(place) / "tiny"
        init(tiny, "sdar", "tiny")
        if "cost" in arguments.parts:
            model = tiny if arguments.smoke else arguments.model
            result["cost"] = cost(model, WARM + 2 if arguments.smoke else TICKS)
        if "schemas" in arguments.parts:
            count = 12 if arguments.smoke else arguments.schemas
            result["schemas"] = fuzz(tiny, count, arguments.seed)
    report(result)
    default = None if arguments.smoke else RESULTS / "constrained.json"
    write_result(arguments.out or default, result)
    if result.get("schemas", {}).get("invalid"):
        sys.exit(1)


def cost(model: Path, ticks: int) -> dict[str, Any]:
    """Return CPU milliseconds per tick with and without a schema, and the share of tokens/s that it takes."""
    schema = json.dumps(PERSON)
    # Long enough that no response ends within the ticks; `stop_token_ids` of the free engine never come.
    common = SamplingParams(strategy="static", max_tokens=256, temperature=1.0)
    llms = {
        name: LLM(model, params=EngineParams(max_sequences=BATCH)) for name in ("free", "schema")
    }
    begun = time.process_time()
    llm = llms["schema"]
    drawable = conventions_of(llm.model).drawable
    asked = replace(common, json_schema=schema, stop_token_ids=llm.model.spec.eos_ids)
    automaton = automata_of(llm.require_tokenizer(), drawable)(asked)
    built = time.process_time() - begun
    for seed in range(BATCH):
        llms["free"].add(PROMPT, replace(common, seed=seed, stop_token_ids=()))
        llms["schema"].add(PROMPT, replace(common, seed=seed, json_schema=schema))
    times: dict[str, list[float]] = {name: [] for name in llms}
    for _ in range(ticks):
        for name, one in llms.items():
            start = time.process_time()
            ended = one.tick()
            times[name].append((time.process_time() - start) * 1e3)
            assert not ended, "every sequence runs in every tick"
    ms = {name: median(values[WARM:]) for name, values in times.items()}
    return {
        "model": str(model),
        "batch": BATCH,
        "states": automaton.num_states,
        "classes": automaton.table.shape[1],
        "edges": len(automaton.source),
        "build_s": built,
        "free_ms": ms["free"],
        "schema_ms": ms["schema"],
        "cost": 1 - ms["free"] / ms["schema"],
    }


def fuzz(model: Path, count: int, seed: int) -> dict[str, Any]:
    """Return how many responses to random schemas are invalid, and the first of them."""
    rng, llm = random.Random(seed), LLM(model)
    invalid: list[dict[str, str]] = []
    num_tokens = num_refused = done = 0
    while done < count:
        asked: list[tuple[dict[str, Any], SamplingParams]] = []
        while len(asked) < min(GROUP, count - done):
            schema = random_schema(rng)
            params = random_params(rng, json.dumps(schema))
            try:
                llm.engine.constraint(replace(params, stop_token_ids=llm.model.spec.eos_ids))
            except ValueError:  # needs more than max_tokens, or too large an automaton
                num_refused += 1
                continue
            asked.append((schema, params))
        prompts = [[rng.randrange(2, 250) for _ in range(rng.randrange(8))] for _ in asked]
        for (schema, _), written in zip(
            asked, llm.generate(prompts, [params for _, params in asked]), strict=True
        ):
            num_tokens += len(written.token_ids)
            if not is_valid(written.text, schema):
                invalid.append({"schema": json.dumps(schema), "text": written.text})
        done += len(asked)
    return {
        "count": count,
        "tokens": num_tokens,
        "refused": num_refused,
        "invalid": len(invalid),
        "first_invalid": invalid[:3],
    }


def random_params(rng: random.Random, schema: str) -> SamplingParams:
    """Return random sampling parameters for a schema."""
    return SamplingParams(
        json_schema=schema,
        strategy=rng.choice(STRATEGIES),
        block_size=rng.choice([4, 8, 16]),
        sub_block_size=rng.choice([None, None, 4]),
        denoising_steps=rng.choice([1, 2, 4]),
        threshold=rng.choice([0.1, 0.5]),
        temperature=rng.choice([0.0, 0.5, 1.0, 2.0]),
        top_k=rng.choice([0, 0, 3]),
        top_p=rng.choice([1.0, 1.0, 0.7]),
        confidence=rng.choice(["raw", "filtered"]),
        max_tokens=rng.choice([32, 64, 100]),
        seed=rng.randrange(2**31),
    )


def report(result: dict[str, Any]) -> None:
    """Print the tables."""
    for name in ("cost", "schemas"):
        if name in result:
            shown = {key: value for key, value in result[name].items() if key != "first_invalid"}
            table = Table(*shown, title=name)
            table.add_row(*(f"{x:.3g}" if isinstance(x, float) else str(x) for x in shown.values()))
            Console().print(table)


if __name__ == "__main__":
    main()
