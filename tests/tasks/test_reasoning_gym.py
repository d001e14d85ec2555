"""Datasets of `reasoning_gym` as tasks: splits, wordings and the package's own verdicts."""

import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import reasoning_gym

from unmask.configs.task import ReasoningGymConfig
from unmask.tasks.build import build_task
from unmask.tasks.reasoning_gym import compact_wording
from unmask.tasks.task import Task
from unmask.types import Split

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
ARGS: dict[str, dict[str, Any]] = {
    "chain_sum": {"min_terms": 3, "max_terms": 3, "min_digits": 1, "max_digits": 1},
    "mini_sudoku": {},
    "countdown": {
        "min_numbers": 3,
        "max_numbers": 3,
        "max_value": 9,
        "min_target": 1,
        "max_target": 99,
    },
}


def config(name: str, **keys: Any) -> ReasoningGymConfig:
    return ReasoningGymConfig(name=name, args=ARGS.get(name, {}), **{"size": 60, **keys})


@pytest.fixture(scope="module", params=list(ARGS))
def compact(request: pytest.FixtureRequest) -> Iterator[Task]:
    with closing(build_task(config(request.param, compact=True))) as task:
        yield task


def perturbed(text: str) -> list[str]:
    middle = len(text) // 2
    swapped = text[:middle] + ("1" if text[middle] != "1" else "2") + text[middle + 1 :]
    return [swapped, text[:-1], text + text[-1], text[::-1], "", text[:1], ";", "((", " " + text]


def test_demonstrations_are_right_and_stay_in_the_alphabet(compact: Task):
    prompts = compact.prompts("train")
    assert compact.alphabet is not None
    demonstrations = [compact.demonstration(prompt) or "" for prompt in prompts]
    for prompt, text in zip(prompts, demonstrations, strict=True):
        assert set(prompt.messages[0].content + text) <= set(compact.alphabet)
    scores = compact.grade(list(zip(prompts, demonstrations, strict=True)))
    assert {score.reward for score in scores} == {1.0}


def test_compact_grading_agrees_with_the_packages_verifier(compact: Task):
    dataset: Any = reasoning_gym.create_dataset(compact.name, **ARGS[compact.name], seed=0)
    wording = compact_wording(compact.name)
    items = [
        (prompt, text)
        for prompt in compact.prompts("train")[:15]
        for text in perturbed(compact.demonstration(prompt) or "")
    ]
    scores = compact.grade(items)
    for (prompt, text), score in zip(items, scores, strict=True):
        expected = dataset.score_answer(wording.answer(text), prompt.reference)
        is_outside = compact.name == "countdown" and text in ("", ";")
        assert score.parts["graded"] == (0.0 if is_outside else expected), text
        assert score.reward == float(expected == 1.0)


def test_a_program_is_no_answer(compact: Task, tmp_path: Path):
    trace = tmp_path / "trace"
    prompt = compact.prompts("train")[0]
    (score,) = compact.grade([(prompt, f"__import__('os').system('touch {trace}')")])
    assert score.reward == 0.0
    assert not trace.exists()


def test_no_prompt_stands_twice_and_splits_follow_from_the_text_alone():
    small = build_task(config("chain_sum", compact=True, size=500))
    large = build_task(config("chain_sum", compact=True, size=2000, seed=7))
    texts = {
        (task, split): [p.messages[0].content for p in task.prompts(split)]
        for task in (small, large)
        for split in SPLITS
    }
    for task in (small, large):
        everything = [text for split in SPLITS for text in texts[task, split]]
        assert len(everything) == len(set(everything))
    for one in SPLITS:
        for other in SPLITS:
            shared = set(texts[small, one]) & set(texts[large, other])
            assert bool(shared) == (one == other)
    assert small.prompts("train") is small.prompts("train")


def test_the_packages_own_wording_and_graded_scores_when_exact_is_off():
    with closing(build_task(config("chain_sum", exact=False))) as task:
        prompt = task.prompts("train")[0]
        assert prompt.messages[0].content == prompt.reference["question"]
        assert task.alphabet is None
        gold = task.demonstration(prompt)
        assert gold == prompt.reference["answer"]
        responses = [gold, f"It is \\boxed{{{gold}}}.", f"<answer>{gold}</answer>", f"It is {gold}"]
        scores = task.grade([(prompt, response) for response in responses])
    assert [score.reward for score in scores[:3]] == [1.0, 1.0, 1.0]
    assert 0 < scores[3].reward < 1


def test_puzzles_in_the_packages_own_wording_are_right_or_wrong():
    with closing(build_task(config("sudoku", size=10, validation_share=0, test_share=0))) as task:
        first, second = task.prompts("train")[:2]
        gold = task.demonstration(first) or ""
        responses = [f"So <answer>{gold}</answer>", task.demonstration(second) or "", gold[:-1], ""]
        scores = task.grade([(first, response) for response in responses])
    assert [score.reward for score in scores] == [1.0, 0.0, 0.0, 0.0]


def test_the_users_own_reward_takes_the_verifiers_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "length_reward.py").write_text("def score(prompt, response): return len(response)")
    monkeypatch.syspath_prepend(tmp_path)
    task = build_task(config("chain_sum", compact=True, reward="length_reward:score"))
    prompt = task.prompts("train")[0]
    assert [score.reward for score in task.grade([(prompt, "ab"), (prompt, "a")])] == [2.0, 1.0]
    task.close()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"name": "chain_sun"}, r"task\.name = 'chain_sun'.*chain_sum"),
        ({"name": "gcd", "compact": True}, r"task\.compact = true: 'gcd'.*mini_sudoku"),
        ({"name": "gcd", "args": {"seed": 1}}, r"task\.args has 'seed'"),
        ({"name": "gcd", "args": {"no_such": 1}}, r"task\.args = .*no_such"),
        ({"name": "chain_sum", "args": {"min_terms": 0}}, r"task\.args = .*min_terms must be"),
        ({"name": "arc_agi"}, r"task\.name = 'arc_agi'.*JSON"),
        ({"name": "composite", "args": {"datasets": [{"name": "gcd"}]}}, r"task\.args = .*refuses"),
        ({"name": "game_of_life_halting"}, r"pays the answer '(True|False)'.*allow_lenient"),
    ],
)
def test_what_cannot_be_built_is_named(keys: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        build_task(ReasoningGymConfig(**keys))


def test_a_data_set_that_pays_junk_is_refused_after_another_passed_and_again():
    build_task(config("gcd")).close()
    message = (
        r"task\.name = 'coin_flip': .* pays the answer '0' in full where '0\.\d+' is right.*"
        r"task\.allow_lenient = true"
    )
    for _ in range(2):
        with pytest.raises(ValueError, match=message):
            build_task(config("coin_flip"))


@pytest.mark.parametrize("keys", [{"allow_lenient": True}, {"reward": "operator:eq"}])
def test_a_data_set_that_pays_junk_is_used_if_asked_for_or_judged_otherwise(keys: dict[str, Any]):
    with closing(build_task(config("coin_flip", **keys))) as task:
        assert task.prompts("train")


def test_a_data_set_with_an_alphabet_against_junk_is_used():
    with closing(build_task(config("complex_arithmetic"))) as task:
        prompt = task.prompts("train")[0]
        scores = task.grade([(prompt, prompt.reference["answer"]), (prompt, "nan"), (prompt, "")])
    assert [score.reward for score in scores] == [1.0, 0.0, 0.0]


def test_an_empty_split_is_an_error_that_names_the_shares():
    task = build_task(config("chain_sum", test_share=0.0))
    with pytest.raises(ValueError, match=r"task\.test_share = 0\.0 leave no test prompts"):
        task.prompts("test")


def test_a_generator_that_finds_no_problem_is_an_error():
    args = {"max_value": 1, "max_numbers": 4, "min_target": 500}
    with pytest.raises(ValueError, match=r"task\.args = .*countdown"):
        build_task(ReasoningGymConfig(name="countdown", args=args, size=10)).prompts("train")


def test_without_the_package_the_task_is_refused_and_its_extra_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)  # an import then finds no module
    with pytest.raises(ValueError, match=r"reasoning_gym.* pip install 'unmask\[puzzles\]'$"):
        build_task(config("chain_sum"))
