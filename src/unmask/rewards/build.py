"""Builds a run's reward from its `[[reward]]` tables."""

from functools import partial
from pathlib import Path

import torch

from unmask.checkpoints.clip_model import load_clip
from unmask.checkpoints.reward_model import load_reward_model
from unmask.checkpoints.tokenizer import Tokenizer
from unmask.configs import reward as terms
from unmask.configs.rl import RLConfig
from unmask.models.placement import device_of, dtype_of
from unmask.rewards.clip_score import ClipScores
from unmask.rewards.custom import load_process_reward, score_custom
from unmask.rewards.format import score_format
from unmask.rewards.judge import Judge
from unmask.rewards.other_libraries import build_scorer, score_answers
from unmask.rewards.pointwise import PointwiseJudge
from unmask.rewards.preference import Preference
from unmask.rewards.process import ProcessReward
from unmask.rewards.reward_model import RewardModelScores
from unmask.rewards.speed import score_speed
from unmask.rewards.weighted import (
    Combination,
    ScoreFunction,
    WeightedTerm,
    score_outcome,
    standardized,
)

# Kinds of terms that score texts alone, never images.
OF_TEXTS = ("format", "preference", "process", "reward_model")
# Folder below `run.dir` for the replies of judges.
REPLIES = "judge"


def build_rewards(config: RLConfig, tokenizer: Tokenizer, device: torch.device) -> Combination:
    """Build the reward that a run trains on.

    Args:
        config: of the run; judges keep their replies below its directory.
        tokenizer: of the responses.
        device: of the policy, and of a reward model whose term names none.

    Raises:
        ValueError: a term cannot be built; the message names the key.
    """
    build = partial(build_term, run=config.run.dir, tokenizer=tokenizer, device=device)
    summands = [
        WeightedTerm(
            terms.term_name(t),
            t.weight,
            standardized(build(t)) if t.standardize else build(t),
            reads_drawings=t.kind not in OF_TEXTS,
        )
        for t in config.reward
    ]
    return Combination(tuple(summands), has_critic=config.advantage.has_value_model)


def build_term(
    term: terms.RewardTerm, run: Path, tokenizer: Tokenizer, device: torch.device
) -> ScoreFunction:
    """Build one term of a reward; see `build_rewards`."""
    match term:
        case terms.OutcomeTerm():
            return score_outcome
        case terms.SpeedTerm():
            return partial(score_speed, right_from=term.right_from, full_at=term.full_at)
        case terms.FormatTerm():
            return partial(score_format, pattern=term.pattern)
        case terms.FunctionTerm():
            return _build_function(term, "reward.function")
        case terms.JudgeTerm():
            return PointwiseJudge(term, Judge(term.endpoint, run / REPLIES))
        case terms.PreferenceTerm():
            return Preference(term, Judge(term.endpoint, run / REPLIES))
        case terms.ProcessTerm():
            return ProcessReward(term, Judge(term.endpoint, run / REPLIES), tokenizer)
        case terms.RewardModelTerm():
            model = load_reward_model(term.path, *_placed(term, device))
            return RewardModelScores(model, term.token_budget)
        case terms.ClipScoreTerm():
            clip = load_clip(term.path, *_placed(term, device), term.batch_size, "reward.path")
            return ClipScores(clip, term.prompts)


def _build_function(term: terms.FunctionTerm, key: str) -> ScoreFunction:
    """Build the term of a user's function, which runs here or, in the form of another library, in a process."""
    if term.signature == "unmask":
        return partial(score_custom, function=load_process_reward(term.function, key))
    form = term.function, term.signature, term.time_limit_s
    return partial(score_answers, scorer=build_scorer(*form, key, is_term=True), key=key)


def _placed(
    term: terms.RewardModelTerm | terms.ClipScoreTerm, device: torch.device
) -> tuple[torch.device, torch.dtype]:
    """Return device and number format of a term's model."""
    name = str(device) if term.device is None else device_of(term.device, "reward.device")
    return torch.device(name), dtype_of(term.dtype, name, "reward.dtype")
