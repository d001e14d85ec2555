"""The packed update of a model with images against the published rows: same trajectories, same gradient.

    python benchmarks/vision_update.py                # minutes on a quiet core
    python benchmarks/vision_update.py --smoke

Groups of responses about one picture each, of LLaDA-V's kind: a tower, a projector, and tiles of any resolution, so
that pictures have different numbers of vectors. The published LLaDA-V trainer (dLLM-RL) lays out one padded row per
view (`published_rows.py`), one row per pass: the prompt with the vectors of its picture, and the response. It runs
tower and projector for every row, and the head on every token. Both layouts run with this package's model and
objective, forward and backward of one update without the optimizer; tower and projector are frozen, as published.

    rows              as published, padded to the longest of the step
    rows, own length  the same without padding: what is left of the ratio when all lengths are equal
    packed            `pack_views`, as the learner calls it; each distinct picture is encoded once in an update, though
                      in a run its features are those of the rollout

    full          LLaDA-V's attention: each view is a document of its own, so only padding, the tower and the head's
                  other rows can be saved
    block-causal  the same vision side under block-causal attention: the prompt with its picture is laid once per
                  pack for a whole group

Layouts run in turn, ABAB, in CPU seconds of one thread; `speed` is the median over rounds of rows / layout. Rows run
every `--share`-th pass, another one each round, scaled up by tokens. Proportions are those of LLaDA-V-8B: the head
about 7% of the language model's products, the tower about 5%. `gradient` is the relative difference of the whole
gradient to that of `rows`, over one trajectory of each picture. Writes `benchmarks/results/vision_update.json`.
"""

import argparse
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from PIL import Image as pillow
from published_rows import Row, lay_rows, rounds, score_every_row, shape_of
from rich.console import Console
from rich.table import Table
from setting import RESULTS, describe_machine, write_result
from shapes import model_spec, random_model
from update_cost import Run, count_work, seconds
from update_workloads import ANY_RUN, Pass, Workload, draw_trajectory, lognormal_lengths, packed

from unmask.configs.rl import RLConfig
from unmask.diffusion.views import Views, views_of_trajectory
from unmask.images import image_from
from unmask.models.heads import Scores
from unmask.models.spec import ModelSpec
from unmask.models.transformer import Model
from unmask.models.vision.image_codec import decode_image
from unmask.models.vision.lladav import LladavVision, LladavVisionSpec
from unmask.models.vision.siglip import SiglipSpec
from unmask.trainers.losses import build_policy_objective
from unmask.types import Prompt, PromptImage

BAR, TOLERANCE = 3.0, 1e-5
KINDS = {"full": None, "block-causal": 4}
# Pixels of pictures in tiles: their numbers of vectors differ as those of photographs and screenshots do.
SHAPES = ((1.0, 1.0), (2.0, 1.1), (1.0, 1.9), (2.0, 2.0))


# --- what is trained ------------------------------------------------------------------------------


def build_workload(kind: str, arguments: argparse.Namespace) -> Workload:
    """Return groups of responses about one picture each."""
    tower = SiglipSpec(
        width=arguments.tower_width,
        ffn_width=4 * arguments.tower_width,
        num_layers=2,
        num_heads=4,
        image_size=6 * arguments.side,
        patch_size=6,
    )
    tile = tower.image_size
    grids = tuple((x * tile, y * tile) for x in (1, 2) for y in (1, 2))
    spec = model_spec(arguments.width, arguments.layers, arguments.vocabulary, KINDS[kind])
    vision = LladavVisionSpec(spec.width, tower, grids)
    spec = replace(spec, vision=vision, max_length=8192)
    model = random_model(spec, arguments.seed, "cpu", torch.float32)
    model.requires_grad_(True)
    vision_of(model).requires_grad_(False)
    rng = random.Random(arguments.seed)
    views: list[Views] = []
    for number in range(arguments.pictures):
        image = picture(vision, number, rng)
        lengths = lognormal_lengths(arguments.responses, arguments.mean, arguments.seed + number)
        prompt = prompt_about(image, rng.randrange(24, 48), number, spec, rng)
        views += [draw_views(prompt, length, spec, arguments.views, rng) for length in lengths]
    objective = build_policy_objective(RLConfig.model_validate(ANY_RUN))
    return Workload(model, views, objective, arguments.token_budget)


def vision_of(model: Model) -> LladavVision:
    """Return the vision side."""
    assert isinstance(model.backbone.vision, LladavVision)
    return model.backbone.vision


def picture(vision: LladavVisionSpec, number: int, rng: random.Random) -> PromptImage:
    """Return a picture of noise, of the next one of `SHAPES`."""
    width, height = (int(x * vision.tower.image_size) for x in SHAPES[number % len(SHAPES)])
    image = image_from(pillow.frombytes("RGB", (width, height), rng.randbytes(3 * width * height)))
    return PromptImage(image.digest, vision.num_vectors(width, height), image)


def prompt_about(
    image: PromptImage, num_text: int, uid: int, spec: ModelSpec, rng: random.Random
) -> Prompt:
    """Return a prompt of a picture between texts."""
    text = [rng.randrange(2, spec.vocab_size) for _ in range(num_text)]
    vectors = range(-1, -1 - image.count, -1)
    return Prompt("picture", uid, (), (*text[:8], *vectors, *text[8:]), images=(image,))


def draw_views(
    prompt: Prompt, length: int, spec: ModelSpec, num_views: int, rng: random.Random
) -> Views:
    """Return the views of a random response; under full attention about `num_views` of them."""
    written = draw_trajectory(rng, prompt.uid, (len(prompt.token_ids), length), spec)
    shrink = -(-max(written.step_map) // num_views) if spec.is_full else 1
    written = replace(written, prompt=prompt)
    return views_of_trajectory(written, rng.choice((-1.0, 1.0)), shrink, is_full=spec.is_full)


# --- layouts --------------------------------------------------------------------------------------


def published(work: Workload, is_padded: bool = True) -> Iterator[Pass]:
    """Lay an update out as published: a row per pass, its picture encoded for it."""
    every = rounds(work.views)
    longest = shape_of(every, work)
    for row in every:
        shape = longest if is_padded else shape_of([row], work)
        yield with_vectors(lay_rows([row], shape, work), [row], work)


def with_vectors(step: Pass, members: Sequence[Row], work: Workload) -> Pass:
    """Return a pass that encodes the pictures of its rows, each for itself."""
    (row,) = members
    vision = vision_of(work.model)
    assert all(image.source is not None for image in work.views[row.trajectory].images)
    sources = [image.source for image in work.views[row.trajectory].images if image.source]

    def score(model: Model, step: Pass) -> Scores:
        features = [vision.encode(vision.tiles(decode_image(source))) for source in sources]
        return score_every_row(model, step, features)

    return step._replace(score=score)


def packed_anew(work: Workload) -> Iterator[Pass]:
    """Lay an update out as the learner does, with no picture encoded before."""
    vision_of(work.model).features([])  # keeps what it has
    vision_of(work.model)._kept.clear()
    yield from packed(work)


LAYOUTS = {
    "rows": Run(published),
    "packed": Run(packed_anew),
    "rows, own length": Run(partial(published, is_padded=False)),
}


# --- measuring ------------------------------------------------------------------------------------


def gradient_difference(work: Workload) -> float:
    """Return `|packed - rows| / |rows|` of the whole gradient, Euclidean."""
    ours, expected = (gradient(work, LAYOUTS[name]) for name in ("packed", "rows"))
    return float((ours - expected).norm() / expected.norm())


def gradient(work: Workload, run: Run) -> torch.Tensor:
    """Return the whole gradient of an update."""
    work.model.zero_grad(set_to_none=True)
    seconds(work, run)
    found = [p.grad.flatten().clone() for p in work.model.parameters() if p.grad is not None]
    work.model.zero_grad(set_to_none=True)
    return torch.cat(found)


def measure(work: Workload, arguments: argparse.Namespace) -> dict[str, Any]:
    """Time the layouts in turn, and compare gradients once."""
    shortest = [
        min(work.views[start : start + arguments.responses], key=lambda v: len(v.canvas_ids))
        for start in range(0, len(work.views), arguments.responses)
    ]
    times: dict[str, list[float]] = {name: [] for name in LAYOUTS}
    for turn in range(arguments.rounds):
        for name, run in LAYOUTS.items():
            work.model.zero_grad(set_to_none=True)
            share = 1 if name == "packed" else arguments.share
            times[name].append(seconds(work, run, share, turn))
    counts = {name: count_work(work, run.layout) for name, run in LAYOUTS.items()}
    speeds = {
        name: median(row / own for row, own in zip(times["rows"], of_layout, strict=True))
        for name, of_layout in times.items()
    }
    return {
        "trajectories": len(work.views),
        "views": sum(len(v.target) for v in work.views),
        "vectors_of_pictures": sorted({v.images[0].count for v in work.views}),
        "response_tokens": [
            f([int(v.target.any(0).sum()) for v in work.views]) for f in (min, max)
        ],
        "parameters": sum(p.numel() for p in work.model.parameters()),
        "layouts": {
            name: {
                "speed": round(speeds[name], 3),
                "seconds": [round(own, 3) for own in times[name]],
                **count._asdict(),
            }
            for name, count in counts.items()
        },
        "gradient_difference": gradient_difference(replace(work, views=shortest)),
        "bar": BAR,
        "meets_bar": speeds["packed"] >= BAR,
    }


def show(kind: str, found: dict[str, Any]) -> None:
    """Print one table."""
    table = Table(title=f"{kind}: {found['trajectories']} responses, {found['views']} views")
    for heading in ("layout", "speed", "seconds", "tokens", "scored", "TFLOP"):
        table.add_column(heading, justify="left" if heading == "layout" else "right")
    for layout, own in found["layouts"].items():
        numbers = (f"{own['tokens']:,}", f"{own['scored']:,}", f"{own['tflop']:.3f}")
        table.add_row(layout, f"{own['speed']:.2f}x", f"{median(own['seconds']):.2f}", *numbers)
    console = Console(width=100)
    console.print(table)
    verdict = "met" if found["meets_bar"] else "not met"
    console.print(
        f"gradient differs by {found['gradient_difference']:.0e}; bar of {BAR}x {verdict}"
    )


def read_arguments() -> argparse.Namespace:
    """Read the command line; `--smoke` is a tiny update, and writes nothing by itself."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=[*KINDS])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--share", type=int, default=8, help="of the rows that are run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pictures", type=int, default=2)
    parser.add_argument("--responses", type=int, default=16, help="of each picture")
    parser.add_argument("--mean", type=int, default=128, help="tokens of a response")
    parser.add_argument("--views", type=int, default=4, help="of a response, full attention")
    parser.add_argument("--side", type=int, default=12, help="patches of a tile's side")
    parser.add_argument("--tower-width", type=int, default=64)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--vocabulary", type=int, default=512)
    parser.add_argument("--token-budget", type=int, default=4096)
    parser.add_argument("--out", type=Path, default=RESULTS / "vision_update.json")
    parser.add_argument("--smoke", action="store_true", help="a few seconds, to see that it runs")
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.rounds, arguments.share, arguments.pictures, arguments.responses = 1, 1, 2, 2
        arguments.mean, arguments.views, arguments.side, arguments.tower_width = 12, 3, 3, 16
        arguments.width, arguments.layers, arguments.vocabulary = 64, 1, 64
        if arguments.out == parser.get_default("out"):
            arguments.out = None
    return arguments


def main() -> None:
    """Measure both kinds of attention, print the tables, write the JSON, and fail if gradients differ."""
    arguments = read_arguments()
    torch.set_num_threads(1)
    settings = {key: value for key, value in vars(arguments).items() if key not in ("out", "kinds")}
    result: dict[str, Any] = {"machine": describe_machine(), "settings": settings, "workloads": {}}
    wrong: list[str] = []
    for kind in arguments.kinds:
        found = measure(build_workload(kind, arguments), arguments)
        show(kind, found)
        result["workloads"][kind] = found
        write_result(arguments.out, result)
        if not found["gradient_difference"] <= TOLERANCE:
            wrong.append(f"{kind}: {found['gradient_difference']:.1e}")
    if wrong:
        raise SystemExit(f"gradients differ, the layouts are not the same: {'; '.join(wrong)}")


if __name__ == "__main__":
    main()
