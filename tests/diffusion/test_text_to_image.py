"""The sampler of images against the published traces, and against itself on toy logits."""

from math import exp

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.models.vision.mmada import CASES, FOLDER, IDS, MAX_TEXT, text_to_image_ids
from unmask.checkpoints.checkpoint import load_model
from unmask.checkpoints.magvit_files import load_magvit
from unmask.diffusion.text_to_image import (
    HIDDEN,
    CodeLogitsFn,
    ImageSampling,
    num_hidden,
    sample_codes,
)
from unmask.models.transformer import Model
from unmask.models.vision.magvit import uint8_from_pixels
from unmask.models.vision.mmada_prompt import text_to_image_prompt

SETTING = CASES["t2i"]
NUM_CODES = 64


@pytest.fixture(scope="module")
def recorded() -> dict[str, Tensor]:
    return load_file(FOLDER / "expected.safetensors")


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model(FOLDER)


def code_logits(model: Model, row: int | None) -> CodeLogitsFn:
    """Return the logits under a text; under the empty one for `None`."""
    prompt = text_to_image_prompt(text_to_image_ids(row), NUM_CODES, MAX_TEXT, IDS)

    def logits(codes: Tensor) -> Tensor:
        tokens = prompt.with_codes(codes, IDS)
        return prompt.code_logits(model.logits(tokens, None, prompt.allowed()), NUM_CODES, IDS)

    return logits


@pytest.mark.parametrize("row", [0, 1])
@pytest.mark.parametrize(
    ("name", "guidance"), [("t2i_greedy", SETTING["guidance_scale"]), ("t2i_greedy_noguide", 0.0)]
)
def test_published_traces(
    model: Model, recorded: dict[str, Tensor], name: str, guidance: float, row: int
) -> None:
    sampling = ImageSampling(SETTING["timesteps"], guidance, temperature=0.0, is_greedy=True)
    conditional, unconditional = code_logits(model, row), code_logits(model, None)
    found = sample_codes(NUM_CODES, sampling, conditional, unconditional)
    assert torch.equal(found.codes, recorded[name][row])


@torch.no_grad()
def test_published_image(recorded: dict[str, Tensor]) -> None:
    codes = recorded["t2i_greedy"][:1].view(1, 8, 8)
    pixels = load_magvit(FOLDER.parent / "magvitv2").decode(codes)
    assert (pixels - recorded["t2i_pixels"]).abs().max() < 1e-4
    colours = uint8_from_pixels(pixels).int()
    assert (colours - recorded["t2i_uint8"].int()).abs().max() <= 1


def test_published_guided_logits(recorded: dict[str, Tensor]) -> None:
    scale = SETTING["guidance_scale"]
    guided = (1 + scale) * recorded["t2i_cond_logits"] - scale * recorded["t2i_uncond_logits"]
    assert (guided - recorded["t2i_guided_logits"]).abs().max() < 1e-4


def test_cosine_schedule(recorded: dict[str, Tensor]) -> None:
    steps = SETTING["timesteps"]
    found = [num_hidden(NUM_CODES, steps, step) for step in range(1, steps + 1)]
    assert found == recorded["t2i_mask_len"].tolist()
    assert num_hidden(1024, 15, 10) == 511  # half of them in exact arithmetic


def toy_logits(codes: Tensor) -> Tensor:
    """Return logits of 5 codes that depend on the place and on the number of hidden codes."""
    places = torch.arange(len(codes) * 5).view(-1, 5)
    return ((places * 7 + int((codes == HIDDEN).sum())) % 11) / 3.0


def published_loop(num_codes: int, steps: int) -> tuple[list[int], list[int]]:
    """The greedy rule without noise, with sorted lists."""
    codes, revealed = [HIDDEN] * num_codes, [0] * num_codes
    for step in range(1, steps + 1):
        probs = toy_logits(torch.tensor(codes)).softmax(-1).tolist()
        drawn = [row.index(max(row)) for row in probs]
        hidden = [place for place in range(num_codes) if codes[place] == HIDDEN]
        ranked = sorted(hidden, key=lambda place: max(probs[place]))
        count = max(1, min(len(hidden) - 1, num_hidden(num_codes, steps, step)))
        for place in ranked[count:] if step < steps else hidden:
            codes[place], revealed[place] = drawn[place], step
    return codes, revealed


@pytest.mark.parametrize(("num_codes", "steps"), [(1, 1), (1, 4), (16, 4), (64, 15), (9, 30)])
def test_greedy_sampling_is_the_published_rule(num_codes: int, steps: int) -> None:
    sampling = ImageSampling(steps, 0.0, 0.0, is_greedy=True)
    found = sample_codes(num_codes, sampling, toy_logits)
    codes, revealed = published_loop(num_codes, steps)
    assert found.codes.tolist() == codes and found.step_map.tolist() == revealed
    assert int(found.step_map.min()) >= 1 and int(found.step_map.max()) == steps


def test_a_seed_gives_one_image_and_another_another() -> None:
    sampling = ImageSampling(guidance=0.0, seed=3)
    first, second = (sample_codes(64, sampling, toy_logits) for _ in range(2))
    other = sample_codes(64, ImageSampling(guidance=0.0, seed=4), toy_logits)
    assert torch.equal(first.codes, second.codes) and torch.equal(first.step_map, second.step_map)
    assert not torch.equal(first.codes, other.codes)
    assert not torch.equal(first.step_map, other.step_map)


def test_draws_follow_the_probabilities() -> None:
    """4096 codes in one step, of which three are 1, e and e^2 as likely."""
    logits = torch.tensor([0.0, 1.0, 2.0]).expand(4096, 3)
    found = sample_codes(4096, ImageSampling(1, 0.0), lambda _: logits)
    total = 1 + exp(1) + exp(2)
    for code in range(3):
        share = found.codes.eq(code).double().mean().item()
        assert share == pytest.approx(exp(code) / total, abs=0.03)
    expected = logits[0].log_softmax(-1)[found.codes]
    torch.testing.assert_close(found.logprobs, expected)


def test_guidance_needs_both_logits() -> None:
    with pytest.raises(ValueError, match=r"guidance = 3\.5: needs the logits of the empty prompt"):
        sample_codes(4, ImageSampling(), toy_logits)
    with pytest.raises(ValueError, match="steps"):
        ImageSampling(steps=0)
