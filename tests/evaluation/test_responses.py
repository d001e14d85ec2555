"""Which responses are asked for, with which seeds, and what is asked again."""

from pathlib import Path

from tests.seeing import picture, seeing_llm
from tests.toy import toy_checkpoint
from unmask.configs.sampling import SamplingConfig
from unmask.engine.llm import LLM
from unmask.evaluation.rank_files import FAILURES
from unmask.evaluation.responses import Ask, plan_responses, write_missing
from unmask.json_files import read_objects
from unmask.rollouts.collect import seeded_requests
from unmask.runs.directory import RunDirectory
from unmask.runs.gradings import key_of
from unmask.sampling_params import SamplingParams
from unmask.types import Image, Message, Prompt

PROMPTS = [Prompt("toy", uid, (), (3, 4, uid)) for uid in (5, 6, 5)]
SAMPLINGS = {
    "a": SamplingConfig(max_tokens=6),
    "b": SamplingConfig(max_tokens=5, strategy="static"),
}


def asks() -> list[Ask]:
    return plan_responses(PROMPTS, SAMPLINGS, samples=2, seed=7)


def keys(run: RunDirectory) -> list[tuple[str, int, int]]:
    return [key_of(record) for record in read_objects(run.path / "trajectories.jsonl")]


def test_every_sampling_asks_every_problem_as_often_with_the_same_seeds() -> None:
    planned = asks()
    assert [ask.key for ask in planned] == [
        (name, problem, sample) for name in "ab" for problem in range(3) for sample in range(2)
    ]
    assert planned[0].name == {"variation": "a", "problem": 0, "sample": 0}
    seeds = [[ask.sampling.seed for ask in planned if ask.key[0] == name] for name in "ab"]
    assert seeds[0] == seeds[1]
    assert len(set(seeds[0])) == 6  # a problem that stands there twice gets other answers
    _, params = seeded_requests(PROMPTS, SamplingParams(max_tokens=6, n=2), 7)
    assert [ask.sampling for ask in planned[:6]] == params


def test_only_missing_responses_are_written_and_an_unfinished_line_is_missing(
    tmp_path: Path,
) -> None:
    llm, run = LLM(toy_checkpoint(tmp_path / "model")), RunDirectory(tmp_path)
    write_missing(run, llm, asks()[:4])
    path = tmp_path / "trajectories.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])  # the last line lost its end
    kept = keys(run)
    write_missing(run, llm, asks())
    assert len(kept) == 3
    assert keys(run)[:3] == kept
    assert sorted(keys(run)) == [ask.key for ask in asks()]
    before = path.read_bytes()
    write_missing(run, llm, asks())
    assert path.read_bytes() == before


def test_what_failed_is_not_asked_again(tmp_path: Path) -> None:
    llm, run = LLM(toy_checkpoint(tmp_path / "model")), RunDirectory(tmp_path)
    long = plan_responses([Prompt("toy", 1, (), (3,) * 126)], SAMPLINGS, samples=1, seed=7)
    write_missing(run, llm, [*long, *asks()[:1]])
    write_missing(run, llm, [*long, *asks()[:1]])
    failed = list(read_objects(tmp_path / FAILURES))
    assert [key_of(record) for record in failed] == [("a", 0, 0), ("b", 0, 0)]
    assert all("lower max_tokens" in record["error"] for record in failed)


def test_images_of_the_prompts_are_kept_once(tmp_path: Path) -> None:
    llm, run = seeing_llm(tmp_path / "model"), RunDirectory(tmp_path)
    images = [Image(colour, picture(colour)) for colour in ("red", "blue", "red")]
    asked = [Prompt("toy", n, (Message.of("user", i, "1"),)) for n, i in enumerate(images)]
    write_missing(run, llm, plan_responses(llm.tokenize(asked), SAMPLINGS, samples=2, seed=7))
    kept = {path.stem for path in (tmp_path / "images").iterdir()}
    assert kept == {image.digest.hex() for image in images} and len(kept) == 2
