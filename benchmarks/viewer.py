"""How fast a page with many long trajectories opens and scrubs, measured in Chromium.

    python benchmarks/viewer.py                       # 200 trajectories of 2,000 tokens

Opening is the time from the request of the page until its first frame with a trajectory. Scrubbing
drags through all denoising steps in 90 frames, once from start to end and once by random jumps; the
frames per second need an idle machine; the CPU time of the page's main thread does not.
"""

import argparse
import json
import random
import shutil
import statistics
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from playwright.sync_api import CDPSession, sync_playwright
from setting import RESULTS, describe_machine, write_result

from unmask.runs.files import append_lines
from unmask.runs.trajectories import trajectory_record
from unmask.sampling_params import SamplingParams
from unmask.types import Message, Prompt, Trajectory
from unmask.viewer.view import write_view

BLOCK = 8
NUM_FRAMES = 90
WORDS = (" the", " answer", " is", " 4", "2", "\n", " because", ".", ",", " step", " =", "+")
READY = "html[data-report=ready]"
# Resolves after the next frame has been drawn.
DRAWN = (
    "new Promise(done => requestAnimationFrame(() => setTimeout(() => done(performance.now()))))"
)
SCRUB = """async (isRandom) => {
  const player = document.querySelector("unmask-player"), times = [], count = %d;
  const frame = () => new Promise(requestAnimationFrame);
  player.pause();
  await frame();
  let before = performance.now();
  for (let i = 1; i <= count; i += 1) {
    player.step = (isRandom ? (0.618 * i) %% 1 : i / count) * player.last;
    await frame();
    times.push(performance.now() - before);
    before = performance.now();
  }
  return times;
}"""


def main() -> None:
    """Write the page, measure it, print a table and store it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trajectories", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS / "viewer.json")
    arguments = parser.parse_args()
    with TemporaryDirectory() as name:
        source, page = Path(name) / "a.jsonl", Path(name) / "a.html"
        generator = random.Random(0)
        append_lines(
            source,
            (
                _record(generator, number, arguments.tokens)
                for number in range(arguments.trajectories)
            ),
        )
        write_view(source, page)
        result = {
            "machine": describe_machine(),
            "trajectories": arguments.trajectories,
            "tokens": arguments.tokens,
            "page_mb": page.stat().st_size / 1e6,
            **_measure(page, arguments.repeats),
        }
    print(json.dumps({k: v for k, v in result.items() if k != "machine"}, indent=1))
    write_result(arguments.out, result)


def _record(generator: random.Random, number: int, num_tokens: int) -> dict[str, Any]:
    steps: list[int] = []
    while len(steps) < num_tokens:
        taken = generator.randint(2, BLOCK - 2)
        block = [1 + place % taken for place in range(BLOCK)]
        generator.shuffle(block)
        steps += [max(steps, default=0) + step for step in block]
    steps = steps[:num_tokens]
    logprobs = tuple(-generator.expovariate(3) for _ in steps)
    trajectory = Trajectory(
        prompt=Prompt("toy", number // 4, (Message("user", f"Question {number // 4}"),), (1,) * 8),
        canvas_ids=tuple(generator.randrange(50_000) for _ in steps),
        step_map=tuple(steps),
        behavior_logprobs=logprobs,
        num_response=num_tokens - 5,
        finish="stop",
        policy_version=number // 8,
        sampling=SamplingParams(block_size=BLOCK, stop_token_ids=(0,), seed=number),
        num_forwards=max(steps),
        raw_logprobs=tuple(1.1 * logprob for logprob in logprobs),
        entropies=tuple(generator.random() for _ in steps),
    )
    pieces = [generator.choice(WORDS) for _ in steps]
    text = "".join(pieces)
    return trajectory_record(trajectory, text, number % 2, {}, number // 8 + 1, pieces)


def _measure(path: Path, repeats: int) -> dict[str, Any]:
    opened: list[float] = []
    opened_cpu: list[float] = []
    scrubs: dict[str, list[float]] = {"along": [], "jumps": []}
    cpu_ms: dict[str, list[float]] = {"along": [], "jumps": []}
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu"]
        chromium = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=options
        )
        for _ in range(repeats):
            context = chromium.new_context(viewport={"width": 1280, "height": 900})
            page = context.new_page()
            session = context.new_cdp_session(page)
            session.send("Performance.enable", {"timeDomain": "threadTicks"})
            page.goto(path.as_uri(), wait_until="commit")
            page.wait_for_selector(READY, state="attached")
            opened.append(page.evaluate(DRAWN) / 1000)
            opened_cpu.append(_cpu_s(session))
            for kind in scrubs:
                before = _cpu_s(session)
                scrubs[kind] += page.evaluate(SCRUB % NUM_FRAMES, kind == "jumps")
                cpu_ms[kind].append(1000 * (_cpu_s(session) - before) / NUM_FRAMES)
            context.close()
        version = chromium.version
        chromium.close()
    return {
        "chromium": version,
        "open_s": [round(seconds, 3) for seconds in opened],
        "open_cpu_s": [round(seconds, 3) for seconds in opened_cpu],
        "frames_per_s": {k: round(1000 / statistics.mean(times), 1) for k, times in scrubs.items()},
        "frame_ms_95": {k: round(sorted(t)[int(0.95 * len(t))], 1) for k, t in scrubs.items()},
        "cpu_ms_per_frame": {k: round(statistics.mean(v), 2) for k, v in cpu_ms.items()},
    }


def _cpu_s(session: CDPSession) -> float:
    """Return the CPU seconds that the page's main thread has spent in tasks."""
    metrics = session.send("Performance.getMetrics")["metrics"]
    return next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration")


if __name__ == "__main__":
    main()
