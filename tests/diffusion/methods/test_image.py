"""Views of images: the published masks, the token of the end, the empty text."""

import math

import pytest
import torch

from tests.models.vision.mmada import IDS, drawing_model, text_to_image_ids
from unmask.configs.methods.views.image import ImageViews
from unmask.diffusion.layout import pack_views
from unmask.diffusion.methods.image import of_demonstrations
from unmask.diffusion.views import Canvas
from unmask.engine.scoring import score_pack
from unmask.engine.text_to_image import TextToImage
from unmask.models.conventions import conventions_of

IMAGES = TextToImage(IDS, lambda text: text_to_image_ids(int(text)))
CODES = [(7 * place) % 128 for place in range(64)]
RECORD = IMAGES.demonstration("1", CODES)
PAIR = (RECORD["prompt_ids"], RECORD["response_ids"], None)
CANVAS = Canvas(65, True)


def test_the_share_of_hidden_codes_is_the_cosine_of_a_uniform_number() -> None:
    (views,) = of_demonstrations([PAIR], ImageViews(count=1024, drop_text=0), CANVAS, [3])
    assert torch.equal(views.hidden, views.target)
    assert not views.hidden[:, 64].any() and views.canvas_ids[64] == IDS.end_of_image
    counts = views.target.sum(-1)
    assert int(counts.min()) >= 1 and int(counts.max()) == 64
    # The mean of cos(pi/2 u) is 2/pi; half of them are above cos(pi/4).
    assert counts.double().mean().item() / 64 == pytest.approx(2 / math.pi, abs=0.03)
    above = (counts > 64 * math.cos(math.pi / 4)).double().mean().item()
    assert above == pytest.approx(0.5, abs=0.05)
    share = views.target[:, :64].double().mean(0)  # every place alike
    assert (share - 2 / math.pi).abs().max() < 0.08


def test_the_text_is_dropped_with_its_probability() -> None:
    seeds = list(range(1000))
    config = ImageViews(drop_text=0.1)
    found = of_demonstrations([PAIR] * 1000, config, CANVAS, seeds)
    empty = list(IMAGES.prompt("1").unconditional_ids)
    dropped = [views.prompt_ids.tolist() == empty for views in found]
    kept = [views.prompt_ids.tolist() == RECORD["prompt_ids"] for views in found]
    assert all(a != b for a, b in zip(dropped, kept, strict=True))
    assert 70 <= sum(dropped) <= 130
    again = of_demonstrations([PAIR] * 3, config, CANVAS, seeds[:3])
    assert all(torch.equal(a.hidden, b.hidden) for a, b in zip(again, found[:3], strict=True))


def test_the_loss_is_the_cross_entropy_over_codes() -> None:
    """MMaDA's is over the whole vocabulary; the sampler draws codes only, and so is the likelihood."""
    model = drawing_model()
    views = of_demonstrations([PAIR], ImageViews(count=2, drop_text=0), CANVAS, [5])
    (pack,) = pack_views(views, conventions_of(model), 1000)
    with torch.no_grad():
        found = score_pack(model, pack).logprobs
    hidden = views[0].hidden
    for view in range(2):
        canvas = views[0].canvas_ids.masked_fill(hidden[view], IDS.mask)
        tokens = torch.cat((views[0].prompt_ids, canvas))
        with torch.no_grad():
            logits = model.logits(tokens[None])[0, len(views[0].prompt_ids) :]
        codes = logits[:64, IDS.image_offset : IDS.image_offset + 128].log_softmax(-1)
        expected = codes[torch.arange(64), torch.tensor(CODES)][hidden[view, :64]]
        own = pack.origin[1] == view
        assert (found[own] - expected).abs().max() < 1e-5


def test_it_is_for_models_that_draw() -> None:
    assert ImageViews().refusal(is_full=True, is_shifted=False) is None
    assert "full attention" in (ImageViews().refusal(is_full=False, is_shifted=False) or "")
    with pytest.raises(ValueError, match="image code 128"):
        IMAGES.demonstration("1", [128])
