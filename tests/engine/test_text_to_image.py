"""Text-to-image: the published traces, and the engine against the reference sampler."""

from dataclasses import replace
from itertools import product

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.engine.bits import assert_same
from tests.models.vision.mmada import CASES, FOLDER, IDS, drawing_model, text_to_image_ids
from unmask.acceptance.agreement import dense_logits
from unmask.checkpoints.image_reader import TEXT_ONLY
from unmask.checkpoints.magvit_files import load_magvit
from unmask.configs.methods import partner
from unmask.configs.methods.views.coupled import CoupledViews
from unmask.configs.methods.views.random import RandomViews
from unmask.diffusion.layout import pack_views
from unmask.diffusion.reference_sampler import sample
from unmask.diffusion.views import views_of_trajectory
from unmask.engine.engine import Engine
from unmask.engine.events import Finished
from unmask.engine.llm import LLM
from unmask.engine.options import EngineParams
from unmask.engine.request import resolve
from unmask.engine.scoring import score_views
from unmask.engine.text_to_image import TextToImage, picture_of
from unmask.models.conventions import conventions_of
from unmask.models.transformer import Model
from unmask.models.vision.magvit import uint8_from_pixels
from unmask.presets import preset
from unmask.rollouts.checks import check_trajectory
from unmask.sampling_params import SamplingParams
from unmask.types import Prompt, Trajectory

SETTING = CASES["t2i"]
IMAGES = TextToImage(IDS, lambda text: text_to_image_ids(int(text)))
GREEDY = replace(
    preset("mmada_image"), temperature=0.0, ranking_noise=0.0, denoising_steps=SETTING["timesteps"]
)
GOLDEN = [("t2i_greedy", SETTING["guidance_scale"]), ("t2i_greedy_noguide", 0.0)]
Ask = tuple[Prompt, SamplingParams]


@pytest.fixture(scope="module")
def recorded() -> dict[str, Tensor]:
    return load_file(FOLDER / "expected.safetensors")


@pytest.fixture(scope="module")
def model() -> Model:
    return drawing_model()


def by_reference(model: Model, ask: Ask) -> Trajectory:
    prompt, params = ask
    params = resolve(prompt, params, model.spec)
    return sample(prompt, params, dense_logits(model, 65), conventions_of(model))


def by_engine(
    model: Model, asks: list[Ask], params: EngineParams | None = None
) -> list[Trajectory]:
    engine = Engine(model, params)
    numbers = [engine.submit(*ask) for ask in asks]
    finished = {event.request_id: event.result for event in engine.collect()}
    assert engine.load.running == engine.load.pages == 0
    results = [finished[number] for number in numbers]
    return [result for result in results if isinstance(result, Trajectory)]


def golden_asks(guidance: float) -> list[Ask]:
    params = replace(GREEDY, guidance=guidance)
    return [(IMAGES.prompt(row), params) for row in ("0", "1")]


def some_asks() -> list[Ask]:
    """Both texts, with and without guidance, draws, noise; and one text among the images."""
    varied = product(("0", "1"), (0.0, 1.5), (0.0, 1.0), (0.0, 2.0), (5, 9))
    asks = [
        (
            IMAGES.prompt(row),
            replace(
                preset("mmada_image"),
                guidance=guidance,
                temperature=temperature,
                ranking_noise=noise,
                denoising_steps=steps,
                seed=seed,
            ),
        )
        for seed, (row, guidance, temperature, noise, steps) in enumerate(varied)
    ]
    return [*asks, (Prompt("text", 0, (), (5, 6)), SamplingParams(max_tokens=65, block_size=65))]


@pytest.fixture(scope="module")
def expected() -> list[Trajectory]:
    """Return what the reference sampler draws."""
    return [by_reference(drawing_model(), ask) for ask in some_asks()]


@pytest.mark.parametrize(("name", "guidance"), GOLDEN)
def test_published_traces(
    model: Model, recorded: dict[str, Tensor], name: str, guidance: float
) -> None:
    asks = golden_asks(guidance)
    written = by_engine(model, asks)
    assert_same(written, [by_reference(model, ask) for ask in asks])
    for row, trajectory in enumerate(written):
        assert IMAGES.drawing(trajectory).codes == tuple(recorded[name][row].tolist())
        assert trajectory.num_forwards == SETTING["timesteps"] * (2 if guidance else 1)
        hidden = [
            sum(step > taken for step in trajectory.step_map[:64])
            for taken in range(1, SETTING["timesteps"])
        ]
        assert hidden == recorded["t2i_mask_len"].tolist()[:-1]
        assert trajectory.canvas_ids[64] == IDS.end_of_image and trajectory.step_map[64] == 0


@torch.no_grad()
def test_published_image(recorded: dict[str, Tensor]) -> None:
    codes, codec = recorded["t2i_greedy"][0], load_magvit(FOLDER.parent / "magvitv2")
    pixels = codec.decode(codes.view(1, 8, 8))
    assert (pixels - recorded["t2i_pixels"]).abs().max() < 1e-4
    expected = uint8_from_pixels(pixels)[0]
    assert (expected.int() - recorded["t2i_uint8"][0].int()).abs().max() <= 1
    picture = picture_of(codes.tolist(), codec)
    assert picture.mode == "RGB" and picture.tobytes() == expected.numpy().tobytes()


@pytest.mark.parametrize(
    "params",
    [
        EngineParams(),
        EngineParams(max_sequences=2),
        EngineParams(row_budget=100),
        EngineParams(max_sequences=5, row_budget=260, cache_tokens=1200),
    ],
)
def test_the_engine_draws_what_the_reference_sampler_draws(
    model: Model, expected: list[Trajectory], params: EngineParams
) -> None:
    """Guided and unguided images and a text share ticks, in any number of sequences and rows."""
    written = by_engine(model, some_asks(), params)
    assert_same(written, expected)
    for trajectory in written[:-1]:
        assert all(0 <= code < 128 for code in IMAGES.drawing(trajectory).codes)
    assert max(written[-1].canvas_ids) < IDS.image_offset


def test_a_cache_of_the_prompt_draws_the_same_codes_in_the_first_step(model: Model) -> None:
    """The first step is exact; later ones read the prompt as it stood under hidden codes."""
    asks = golden_asks(0.0)
    exact = by_engine(model, asks)
    cached = by_engine(model, asks, EngineParams(cache="prefix"))
    for one, other in zip(exact, cached, strict=True):
        first = [place for place, step in enumerate(one.step_map) if step == 1]
        assert first == [place for place, step in enumerate(other.step_map) if step == 1]
        assert all(one.canvas_ids[place] == other.canvas_ids[place] for place in first)
    for cache in ("window", "dual"):  # of one block, which is the canvas
        assert_same(by_engine(model, asks, EngineParams(cache=cache)), cached)


def test_aborting_a_guided_image_frees_both_sequences(model: Model) -> None:
    engine = Engine(model, EngineParams(max_sequences=4))
    kept, dropped, waiting = [engine.submit(*ask) for ask in (golden_asks(1.5) * 2)[:3]]
    engine.tick()
    assert (engine.load.running, engine.load.waiting) == (4, 1)
    engine.abort(dropped)
    engine.abort(waiting)
    assert (engine.load.running, engine.load.waiting) == (2, 0)
    events = list(engine.collect())
    assert [event.request_id for event in events] == [kept] and engine.load.pages == 0
    assert isinstance(events[0], Finished)


def test_what_an_engine_cannot_draw_is_refused(model: Model) -> None:
    ask = golden_asks(1.5)[0]
    with pytest.raises(ValueError, match=r"guidance = 1\.5 takes two sequences: .* must be 2"):
        Engine(model, EngineParams(max_sequences=1)).submit(*ask)
    far = replace(ask[0], unconditional_ids=(5,) * 600)
    with pytest.raises(ValueError, match="take 665 positions"):
        Engine(model).submit(far, ask[1])
    text_model = replace(model.spec, image_ids=None)
    with pytest.raises(ValueError, match='writes = "image": mmada draws no images here'):
        resolve(*ask, text_model)
    with pytest.raises(ValueError, match="mmada draws no images here"):
        TextToImage.of(text_model, lambda text: [], TEXT_ONLY)
    with pytest.raises(ValueError, match="image codes have no text"):
        replace(ask[1], regex="a")


def test_draw(model: Model) -> None:
    llm = LLM(model, image_codec=FOLDER.parent / "magvitv2")
    texts = SETTING["texts"]
    found = llm.draw(texts, preset("mmada_image", denoising_steps=4, n=2, seed=3))
    assert [one.text for one in found] == [texts[0], texts[0], texts[1], texts[1]]
    assert len({one.codes for one in found}) == 4
    assert all(one.picture is not None and one.picture.size == (8 * 4, 8 * 4) for one in found)
    (alone,) = llm.draw(texts[1:], preset("mmada_image", denoising_steps=4, seed=3))
    assert alone.codes == found[2].codes  # in another batch
    assert LLM(model).draw(texts[:1], preset("mmada_image", denoising_steps=1))[0].picture is None


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_learner_scores_a_drawing_as_the_engine_did(model: Model, temperature: float) -> None:
    """Each step of its path over the codes alone; the token of the end is seen in every view."""
    params = replace(preset("mmada_image"), guidance=0.0, temperature=temperature, seed=4)
    written = by_engine(model, [(IMAGES.prompt(row), params) for row in ("0", "1")])
    for trajectory in written:
        check_trajectory(trajectory)
    views = [views_of_trajectory(trajectory, 1.0, is_full=True) for trajectory in written]
    packs = pack_views(views, conventions_of(model), 10_000)
    (tables,) = score_views(model, views, packs, [lambda scores: scores.logprobs])
    for found, of_one, trajectory in zip(tables, views, written, strict=True):
        assert of_one.target.sum(0).tolist() == [1] * 64 + [0]
        assert not of_one.hidden[:, 64].any()
        assert found.sum(0).tolist() == pytest.approx(trajectory.behavior_logprobs, abs=1e-5)


@pytest.mark.parametrize("kind", ["random", "coupled"])
def test_random_views_of_a_drawing_show_the_end_of_the_image(model: Model, kind: str) -> None:
    params = replace(preset("mmada_image"), guidance=0.0)
    (drawn,) = by_engine(model, [(IMAGES.prompt("0"), params)])
    config = {"random": RandomViews, "coupled": CoupledViews}[kind](count=3)
    views = partner(config, "unmask.diffusion.methods").of_trajectory(drawn, 1.0, config, True)
    assert len(views.hidden) == (6 if kind == "coupled" else 3)
    assert torch.equal(views.hidden, views.target) and not views.hidden[:, 64].any()
