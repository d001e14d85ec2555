"""The server against the engine without it, and what happens when clients leave.

    python benchmarks/serve.py                     # ten minutes on two cores, the model of docs/real-model.md
    python benchmarks/serve.py --smoke

Two processes share one core, in turn: `offline`, an `LLM` that writes 64 responses in one call of `generate`, and
`unmask serve`, which gets the same as 64 concurrent requests. This process, the client, has the other core.
The responses must be equal. Then the same requests are streamed, together and one alone.

    overhead     what the server adds to the engine's time: of the seconds on the clock, which another
                 program on the machine spoils, and of CPU seconds, which it does not
    first block  seconds from sending a request to its first text

`leavers` is a minute of 128 concurrent requests to a small random model, of which every third is left early,
streams and others. Afterwards no response may run or wait, no page may be in use, and every response that
was read to its end must equal the offline one.

Writes `benchmarks/results/serve.json`, with the settings and the machine.
"""

import argparse
import asyncio
import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import httpx2
from setting import RESULTS, describe_machine, write_result
from word_problems import problems

from unmask.checkpoints.random_init import init
from unmask.engine.llm import LLM
from unmask.sampling_params import SamplingParams

CACHE = Path(os.environ.get("UNMASK_CACHE", "~/.cache/unmask")).expanduser() / "real-model"
FIELDS: dict[str, Any] = {"strategy": "static", "denoising_steps": 2, "stop_token_ids": []}
ROUNDS = 3
NUM_LEAVERS, LEAVER_PROMPTS = 128, 200
CORES = sorted(os.sched_getaffinity(0))  # the first is the engine's, the last the client's
TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Load:
    """Concurrent requests: their prompts, and the tokens of each response."""

    prompts: list[str]
    max_tokens: int


@dataclass(frozen=True)
class Measured:
    """One round: seconds on the clock, CPU seconds of the process that has the engine, and the responses."""

    seconds: float
    cpu_seconds: float
    texts: list[str]


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=CACHE / "start")
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--max-tokens", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=60.0, help="of the requests that are left")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--out", type=Path, help="where the results are written")
    parser.add_argument("--offline", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.offline:
        write_offline(arguments.model)
        return
    os.sched_setaffinity(0, CORES[-1:])
    with TemporaryDirectory() as directory:
        small = Path(directory) / "small"
        init(small, "sdar", seed=0)
        model = small if arguments.smoke else arguments.model
        count, seconds = (8, 2.0) if arguments.smoke else (arguments.requests, arguments.seconds)
        stream = problems(0)
        prompts = [next(stream)["question"] for _ in range(count)]
        load = Load(prompts, arguments.max_tokens)
        found = {
            "machine": describe_machine(),
            "settings": {"requests": count, "max_tokens": load.max_tokens, **FIELDS},
            "overhead": overhead(model, load, 1 if arguments.smoke else ROUNDS),
            "leavers": asyncio.run(leavers(small, seconds)),
        }
    print(json.dumps(found, indent=2))
    write_result(arguments.out or (None if arguments.smoke else RESULTS / "serve.json"), found)


def overhead(model: Path, load: Load, rounds: int) -> dict[str, Any]:
    """Return what the server adds, and the seconds to the first text."""
    with offline_process(model) as offline, server_process(model) as (server, url):
        offline_round(offline, load)  # warms both
        asyncio.run(served_round(server.pid, url, load))
        pairs = [
            (offline_round(offline, load), asyncio.run(served_round(server.pid, url, load)))
            for _ in range(rounds)
        ]
        together = asyncio.run(first_texts(url, load, load.prompts))
        alone = [asyncio.run(first_texts(url, load, load.prompts[:1]))[0] for _ in range(3)]
    assert all(ours.texts == theirs.texts for ours, theirs in pairs), "responses differ"
    num_tokens = len(load.prompts) * load.max_tokens
    found: dict[str, Any] = {"model": str(model)}
    for index, name in enumerate(("offline", "served")):
        seconds = [pair[index].seconds for pair in pairs]
        found[name] = {
            "seconds": seconds,
            "cpu_seconds": [pair[index].cpu_seconds for pair in pairs],
            "tokens_per_second": num_tokens / median(seconds),
        }
    for unit in ("seconds", "cpu_seconds"):
        ratios = [getattr(pair[1], unit) / getattr(pair[0], unit) for pair in pairs]
        found[f"overhead_of_{unit}"] = median(ratios) - 1
    found["first_block_seconds"] = {
        "alone": median(alone),
        "together_median": median(together),
        "together_most": max(together),
    }
    return found


@contextmanager
def offline_process(model: Path) -> Iterator["subprocess.Popen[str]"]:
    """Start the process with the `LLM`, on the engine's core."""
    command = [sys.executable, __file__, "--offline", "--model", str(model)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, preexec_fn=on_engine_core, **pipes) as process:
        yield process
        process.terminate()


def write_offline(model: Path) -> None:
    """Answer one line of JSON after the other with the responses to its prompts."""
    llm = LLM(model)
    for line in sys.stdin:
        load = Load(**json.loads(line))
        sampling = [sampling_of(number, load) for number in range(len(load.prompts))]
        started, cpu = time.perf_counter(), time.process_time()
        texts = [one.text for one in llm.generate(load.prompts, sampling)]
        seconds = time.perf_counter() - started
        print(
            json.dumps(asdict(Measured(seconds, time.process_time() - cpu, texts))),
            flush=True,
        )


def sampling_of(number: int, load: Load) -> SamplingParams:
    """Return the parameters of a request: its number is its seed."""
    return SamplingParams(
        max_tokens=load.max_tokens,
        seed=number,
        **{**FIELDS, "stop_token_ids": ()},
    )


def offline_round(process: "subprocess.Popen[str]", load: Load) -> Measured:
    """Return the responses without a server."""
    assert process.stdin and process.stdout
    process.stdin.write(json.dumps(asdict(load)) + "\n")
    process.stdin.flush()
    return Measured(**json.loads(process.stdout.readline()))


@contextmanager
def server_process(model: Path, *options: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """Start `unmask serve` on the engine's core; yield the process and its address."""
    words = ["serve", str(model), "--name", "m", "--port", "0", "--device", "cpu", *options]
    command = [sys.executable, "-m", "unmask", *words]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, preexec_fn=on_engine_core
    ) as process:
        assert process.stderr
        found = re.search(r"http://\S+:\d+", process.stderr.readline())
        assert found, process.stderr.read()
        yield process, found[0]
        process.terminate()


def on_engine_core() -> None:
    """Pin this process to the core of the engine."""
    os.sched_setaffinity(0, CORES[:1])


async def served_round(pid: int, url: str, load: Load) -> Measured:
    """Return the responses of concurrent requests."""
    async with client(url) as http:
        started, cpu = time.perf_counter(), cpu_seconds(pid)
        texts = await asyncio.gather(
            *(one_text(http, body_of(number, load)) for number in range(len(load.prompts)))
        )
        return Measured(time.perf_counter() - started, cpu_seconds(pid) - cpu, list(texts))


async def first_texts(url: str, load: Load, prompts: list[str]) -> list[float]:
    """Return the seconds to the first text of each of the first requests, sent together."""
    async with client(url) as http:
        return await asyncio.gather(
            *(first_text(http, body_of(number, load)) for number in range(len(prompts)))
        )


def body_of(number: int, load: Load) -> dict[str, Any]:
    """Return the body of a request."""
    return {
        **{"prompt": load.prompts[number], "max_tokens": load.max_tokens, "seed": number},
        **FIELDS,
    }


def client(url: str) -> httpx2.AsyncClient:
    """Return a client with as many connections as there are requests."""
    limits = httpx2.Limits(max_connections=None)
    return httpx2.AsyncClient(base_url=url, timeout=600.0, limits=limits)


async def one_text(http: httpx2.AsyncClient, body: dict[str, Any]) -> str:
    """Return the text of a whole answer."""
    answer = await http.post("/v1/completions", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]["text"]


async def first_text(http: httpx2.AsyncClient, body: dict[str, Any]) -> float:
    """Return the seconds to the first text of a stream, which is read to its end."""
    started, first = time.perf_counter(), None
    async with http.stream("POST", "/v1/completions", json={**body, "stream": True}) as stream:
        async for line in stream.aiter_lines():
            if first is None and line.startswith("data: "):
                first = time.perf_counter() - started
    assert first is not None
    return first


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds of a process so far, all its threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_SECONDS


async def leavers(model: Path, seconds: float) -> dict[str, Any]:
    """Send requests for some time, of which every third is left early, and check what remains."""
    rng = random.Random(0)
    # Too short to be shared: no page is in use when nothing runs.
    prompts = [
        "".join(rng.choices("0123456789+-", k=rng.randint(1, 24))) for _ in range(LEAVER_PROMPTS)
    ]
    read: dict[int, str] = {}
    counts = {"read": 0, "left": 0}

    async def work(http: httpx2.AsyncClient, worker: int, end: float) -> None:
        draws = random.Random(worker)
        while time.monotonic() < end:
            number = draws.randrange(LEAVER_PROMPTS)
            body = {
                "prompt": prompts[number],
                "max_tokens": 64,
                "seed": number,
                "stop_token_ids": [],
            }
            is_streamed, leaves = draws.random() < 0.5, draws.random() < 1 / 3
            text = await one_of(http, body, is_streamed, draws.uniform(0, 3) if leaves else None)
            counts["left" if text is None else "read"] += 1
            if text is not None:
                assert read.setdefault(number, text) == text, "a response changed"

    with server_process(model, "--max-sequences", "32") as (process, url):
        async with client(url) as http:
            end = time.monotonic() + seconds
            await asyncio.gather(*(work(http, worker, end) for worker in range(NUM_LEAVERS)))
            await asyncio.sleep(1.0)
            answer = await http.get("/metrics")
        memory = int(
            re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())[0]
        )
    lines = [line.split() for line in answer.text.splitlines() if line[:1] != "#"]
    values = {line[0]: float(line[1]) for line in lines}
    remains = {
        name: values[f"unmask_{name}"]
        for name in ("responses_running", "responses_waiting", "pages_used")
    }
    assert not any(remains.values()), remains
    sampling = [SamplingParams(max_tokens=64, seed=number, stop_token_ids=()) for number in read]
    expected = LLM(model).generate([prompts[number] for number in read], sampling)
    assert [one.text for one in expected] == list(read.values()), "responses differ"
    aborted = values.get('unmask_responses_total{finish="aborted"}', 0)
    return {
        **counts,
        "aborted": aborted,
        **remains,
        "equal": len(read),
        "server_mib": memory // 1024,
    }


async def one_of(
    http: httpx2.AsyncClient, body: dict[str, Any], is_streamed: bool, leaves_after: float | None
) -> str | None:
    """Return the text of an answer; `None` if its reader left after some seconds."""
    try:
        async with asyncio.timeout(leaves_after):
            if not is_streamed:
                return await one_text(http, body)
            pieces: list[str] = []
            async with http.stream(
                "POST", "/v1/completions", json={**body, "stream": True}
            ) as stream:
                async for line in stream.aiter_lines():
                    if line.startswith("data: {"):
                        pieces.append(json.loads(line[6:])["choices"][0]["text"])
            return "".join(pieces)
    except TimeoutError:
        return None


if __name__ == "__main__":
    main()
