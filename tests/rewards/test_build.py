"""Every kind of term is built from its section, and an error names a term that cannot be built."""

import re
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from pydantic import TypeAdapter

from tests.checkpoints.test_reward_model import write_reward_model
from tests.checkpoints.toy_clip import write_clip
from tests.toy import ALPHABET
from tests.trainers.toy_runs import rl_config
from unmask.checkpoints.tokenizer import character_tokenizer
from unmask.configs.reward import RewardTerm
from unmask.rewards.build import build_rewards, build_term
from unmask.rewards.clip_score import ClipScores
from unmask.rewards.pointwise import PointwiseJudge
from unmask.rewards.preference import Preference
from unmask.rewards.process import ProcessReward
from unmask.rewards.reward_model import RewardModelScores
from unmask.rewards.weighted import Combination, score_outcome
from unmask.types import Prompt, Trajectory

CPU = torch.device("cpu")
ENDPOINT = {"model": "m", "base_url": "http://127.0.0.1:1/v1"}
ADAPTER: TypeAdapter[Any] = TypeAdapter(RewardTerm)


def built(place: Path, **fields: Any) -> Any:
    tokenizer = character_tokenizer(ALPHABET, place / "tokenizer")
    return build_term(ADAPTER.validate_python(fields), place / "run", tokenizer, CPU)


def pay_steps(prompt: Prompt, response: str, trajectory: Trajectory) -> dict[int, float]:
    return {trajectory.step_map[0]: 1.0}


def test_every_kind_has_its_term(tmp_path: Path) -> None:
    write_reward_model(tmp_path / "model", "Qwen2")
    write_clip(tmp_path / "clip")
    made = {
        "outcome": built(tmp_path, kind="outcome"),
        "speed": built(tmp_path, kind="speed"),
        "format": built(tmp_path, kind="format", pattern="a*"),
        "function": built(tmp_path, kind="function", function=f"{__name__}:pay_steps"),
        "judge": built(tmp_path, kind="judge", endpoint=ENDPOINT),
        "preference": built(tmp_path, kind="preference", endpoint=ENDPOINT),
        "process": built(tmp_path, kind="process", endpoint=ENDPOINT),
        "reward_model": built(tmp_path, kind="reward_model", path=str(tmp_path / "model")),
        "clip_score": built(tmp_path, kind="clip_score", path=str(tmp_path / "clip")),
    }
    kinds = {section.model_fields["kind"].default for section in get_args(get_args(RewardTerm)[0])}
    assert made.keys() == kinds
    assert made["outcome"] is score_outcome
    of_models = ("judge", "preference", "process", "reward_model", "clip_score")
    classes = [type(made[name]) for name in of_models]
    assert classes == [PointwiseJudge, Preference, ProcessReward, RewardModelScores, ClipScores]
    assert not (tmp_path / "run").exists()


def test_the_default_reward_of_a_run_is_the_outcome(tmp_path: Path) -> None:
    tokenizer = character_tokenizer(ALPHABET, tmp_path / "tokenizer")
    reward = build_rewards(rl_config(tmp_path), tokenizer, CPU)
    assert isinstance(reward, Combination)
    assert [(t.name, t.weight, t.score) for t in reward.terms] == [("outcome", 1.0, score_outcome)]
    assert not reward.has_critic


def test_terms_that_score_texts_alone_are_marked(tmp_path: Path) -> None:
    tokenizer = character_tokenizer(ALPHABET, tmp_path / "tokenizer")
    judged = f'endpoint={{model="m", base_url="{ENDPOINT["base_url"]}"}}'
    terms = f'{{kind="outcome"}}, {{kind="format", pattern="a"}}, {{kind="judge", {judged}}}'
    terms += f', {{kind="preference", {judged}}}'
    reward = build_rewards(rl_config(tmp_path, f"reward=[{terms}]"), tokenizer, CPU)
    assert [term.reads_drawings for term in reward.terms] == [True, False, True, False]


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        ("[]", "no term has a weight other than 0"),
        (
            '[{kind="speed"}, {kind="speed"}]',
            "two terms are named 'speed': give one of them another n",
        ),
        ('[{kind="speed", name="outcome"}]', "two terms are named 'outcome'"),
        ('[{kind="process", endpoint={model="m"}}]', 'set advantage.kind = "value"'),
        ('[{kind="judge", endpoint={model="m"}}]', "environment variable OPENAI_BASE_URL"),
        ('[{kind="judge", endpoint={model="m"}, low=3, high=2}]', "low = 3.0 must be below"),
        ('[{kind="judge", endpoint={model="m"}, template="{question}"}]', "{response} is missing"),
        (
            '[{kind="judge", endpoint={model="m"}, template="{question} {response} \\\\boxed{1}"}]',
            "there is no field {1}, only {outcome}, {question}, {reference}, {response}; write a",
        ),
        (
            '[{kind="judge", endpoint={model="m"}, template="{question"}]',
            "write a literal brace twice",
        ),
        (
            '[{kind="preference", endpoint={model="m"}, against="reference", rivals=1}]',
            "rivals = 1 has no effect",
        ),
        ('[{kind="format", pattern="("}]', "is no regular expression"),
        ('[{kind="reward_model", path="x", device="tpu"}]', "reward[0].device"),
        ('[{kind="reward_model", path="/absent"}]', "no such directory"),
        ('[{kind="clip_score", path="/absent"}]', "reward.path = /absent: no such directory"),
    ],
)
def test_a_term_that_cannot_be_built_is_named(
    terms: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    tokenizer = character_tokenizer(ALPHABET, tmp_path / "tokenizer")
    with pytest.raises(ValueError, match=re.escape(said)):
        build_rewards(rl_config(tmp_path, f"reward={terms}"), tokenizer, CPU)


def test_a_gpu_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="device = cuda:99: torch finds"):
        built(tmp_path, kind="reward_model", path="x", device="cuda:99")
