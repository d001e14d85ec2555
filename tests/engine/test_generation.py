"""A notebook shows a `Generation` as a player, also after it was stored and loaded."""

import pickle
from pathlib import Path

from tests.toy import toy_checkpoint
from unmask.engine.llm import LLM
from unmask.sampling_params import SamplingParams


def test_a_notebook_shows_a_response_as_a_player(tmp_path: Path) -> None:
    llm = LLM(toy_checkpoint(tmp_path / "model"))
    (generation,) = llm.generate(["1+1="], SamplingParams(max_tokens=8, seed=3))
    html = generation._repr_html_()  # pyright: ignore[reportPrivateUsage]
    assert html.startswith("<unmask-player trajectory=") and "customElements.define" in html
    assert f"{list(generation.token_ids)}"[1:-1].replace(" ", "") in html
    again = pickle.loads(pickle.dumps(generation))
    assert again == generation and again.html() == html
