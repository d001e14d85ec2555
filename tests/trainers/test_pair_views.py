"""The views of the answers of preference pairs."""

import torch

from tests.invariants.test_law_3_pairs import VIEWS, config_of, toy_pairs
from tests.toy import SPEC
from unmask.data.demonstrations import Demonstration
from unmask.diffusion.views import Canvas
from unmask.trainers.pair_views import pair_views, trajectory_of_answer

KEYS = [(0, 1), (0, 2), (0, 3)]
BLOCK = SPEC.block_size or 0


def test_canvases_are_whole_blocks_whose_rest_is_hidden_and_never_a_target() -> None:
    pairs = toy_pairs()
    for name, section in VIEWS.items():
        found = pair_views(pairs, KEYS, config_of(section), SPEC, 1)
        answers = [answer for pair in pairs for answer in pair.answers]
        for views, answer in zip(found, answers, strict=True):
            count, size = len(answer.response_ids), views.canvas_ids.shape[0]
            assert (len(answer.prompt_ids) + size) % BLOCK == 0, name
            assert size - count < BLOCK
            assert tuple(views.canvas_ids[:count].tolist()) == answer.response_ids
            assert views.hidden[:, count:].all() and not views.target[:, count:].any()
            assert views.likelihood.trained.sum() == count


def test_noise_depends_on_the_key_and_on_the_answer_alone() -> None:
    pairs, config = toy_pairs(), config_of({"kind": "counted", "count": 4})
    whole = pair_views(pairs, KEYS, config, SPEC, 1)
    alone = pair_views(pairs[1:2], KEYS[1:2], config, SPEC, 1)
    other = pair_views(pairs[1:2], [(0, 9)], config, SPEC, 1)
    for one, same in zip(whole[2:4], alone, strict=True):
        assert torch.equal(one.target, same.target)
    assert not torch.equal(other[0].target, alone[0].target)


def test_under_full_attention_a_canvas_is_its_answer() -> None:
    answer = Demonstration((3, 4), (5, 6, 7))
    found = trajectory_of_answer(answer, Canvas(None, True), seed=4)
    assert found.canvas_ids == (5, 6, 7) and found.step_map == (1, 1, 1)
    assert found.num_response == 3 and found.sampling.seed == 4


def test_a_recorded_order_is_kept() -> None:
    answer = Demonstration((3, 4), (5, 6, 7), (2, 1, 2))
    found = trajectory_of_answer(answer, Canvas(4), seed=0)
    assert found.step_map == (2, 1, 2, *[0] * (len(found.canvas_ids) - 3))
