"""Format: the whole response matches, or it does not."""

from tests.rewards.toy_answers import answer
from unmask.rewards.format import score_format


def test_the_whole_response_must_match() -> None:
    texts = ["<a>x\ny</a>", "<a>x</a> and more", "x"]
    (scores,) = score_format([[answer(text) for text in texts]], "<a>.*</a>")
    assert [score.reward for score in scores] == [1.0, 0.0, 0.0]
