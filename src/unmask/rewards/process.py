r"""Process reward: a judge's label of every chunk of a response, as one number per token.

A response of `R` tokens is cut into chunks of `chunk_tokens`. The judge reads the question and the text
up to the end of a chunk, cut from the same text that is graded, and replies `\boxed{1}` or
`\boxed{-1}`. The label is the vote if all votes agree; otherwise their mean or, as published, 1 or -1
for a right or wrong answer. Then the k-th chunks of a prompt's answers are compared with each other:

    reward of chunk k = (label - mean of the k-th labels) / their standard deviation

It is 0 if they are all equal, and the label itself if only one answer is that long. `placed_on` decides
which tokens get the reward:

    step    those of the denoising step that completed the judged prefix, the latest step of any token up
            to the end of the chunk; so the mean over the step's tokens, which the critic reads, is the
            reward
    chunk   those of the chunk that its own latest step revealed; the critic reads the mean over all tokens
            of that step, which may be less

Published for text, arXiv 2509.06949: the latest step among the last `block_size` tokens of the chunk, on
those of its tokens alone, which between block borders is the step of `step`. Published for models that read
images: `chunk`, with a last chunk that runs into the padding after the response, where ours ends with it.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise, zip_longest
from statistics import fmean, pstdev
from typing import Literal

from unmask.checkpoints.tokenizer import Tokenizer, text_ends
from unmask.configs.reward import ProcessTerm
from unmask.rewards.answers import last_boxed
from unmask.rewards.judge import Judge
from unmask.rewards.question import Question, fill, is_caption
from unmask.rewards.weighted import Answer, AnswerGroup
from unmask.types import Score

LABELS = {"1": 1.0, "+1": 1.0, "-1": -1.0}


class ProcessReward:
    """Chunk labels of a judge, as rewards of denoising steps."""

    def __init__(self, config: ProcessTerm, judge: Judge, tokenizer: Tokenizer) -> None:
        """Set the term's keys, the judge, and the tokenizer of the responses."""
        self._config, self._judge, self._tokenizer = config, judge, tokenizer
        self._read = read_label if config.unread_votes == "retry" else read_label_or_zero
        self._place = rewards_on_steps if config.placed_on == "step" else rewards_in_chunks

    def __call__(self, groups: Sequence[AnswerGroup]) -> list[list[Score]]:
        """Return one number per response token for each answer, and the share of chunks with split votes."""
        most = self._config.chunk_tokens
        ends = [[(a, chunk_ends(a.trajectory.num_response, most)) for a in g] for g in groups]
        questions = [q for group in ends for one in group for q in self._questions(*one)]
        votes = iter(self._judge.ask(questions, self._read))
        return [self._scores(group, votes) for group in ends]

    def _scores(
        self, group: Sequence[tuple[Answer, list[int]]], votes: Iterator[list[float]]
    ) -> list[Score]:
        """Return the scores of the answers to one prompt, whose votes come next.

        Args:
            group: the answers, each with the ends of its chunks.
            votes: the votes on each chunk, answer by answer.
        """
        judged = [[next(votes) for _ in stops] for _, stops in group]
        labels = [
            [chunk_label(chunk, answer, self._config.split_votes) for chunk in chunks]
            for (answer, _), chunks in zip(group, judged, strict=True)
        ]
        rewards = compare_chunks(labels) if self._config.is_compared else labels
        return [
            Score(
                self._place(rewards[i], stops, answer.trajectory.step_map),
                {"label": fmean(labels[i]), "split_votes": fmean(map(_is_split, judged[i]))},
            )
            for i, (answer, stops) in enumerate(group)
        ]

    def _questions(self, answer: Answer, stops: Sequence[int]) -> list[Question]:
        text, template = answer.text, self._config.template
        written = text_ends(answer.trajectory.response_ids, self._tokenizer)
        cuts = [0, *(written[stop - 1] for stop in stops)]  # the last token before each stop
        return [
            fill(template, answer, prefix=text[:end], chunk=text[start:end])
            for start, end in pairwise(cuts)
        ]


def chunk_label(
    votes: Sequence[float], answer: Answer, split_votes: Literal["mean", "outcome"]
) -> float:
    """Return the label of a chunk.

    Args:
        votes: 1, -1, or 0 for a reply without a label.
        answer: the one with the chunk.
        split_votes: which label different votes have; captions, which have no outcome, have the mean.
    """
    if split_votes == "outcome" and _is_split(votes) and not is_caption(answer.prompt):
        return 1.0 if answer.outcome_reward == 1.0 else -1.0
    return fmean(votes)


def read_label(reply: str) -> float | None:
    """Return the label in a reply; None if it has none."""
    return LABELS.get((last_boxed(reply) or "").strip())


def read_label_or_zero(reply: str) -> float:
    """Return the label in a reply; 0 if it has none."""
    return read_label(reply) or 0.0


def chunk_ends(num_response: int, chunk_tokens: int) -> list[int]:
    """Return the end of each chunk, as a number of response tokens."""
    return [*range(chunk_tokens, num_response, chunk_tokens), num_response]


def compare_chunks(labels: Sequence[Sequence[float]]) -> list[list[float]]:
    """Return (label - mean) / std of each chunk over the answers that have it.

    Args:
        labels: for each answer to a prompt, one label per chunk.
    """
    # columns[k]: the labels of the k-th chunks; shorter answers have none
    columns = [[one for one in column if one is not None] for column in zip_longest(*labels)]
    return [[*map(_standardised, row, columns)] for row in labels]


def _standardised(label: float, others: Sequence[float]) -> float:
    if len(others) == 1:
        return label
    spread = pstdev(others)
    return (label - fmean(others)) / spread if spread > 1e-9 else 0.0


def rewards_on_steps(
    rewards: Sequence[float], ends: Sequence[int], step_map: Sequence[int]
) -> tuple[float, ...]:
    """Assign the rewards of a response's chunks to the tokens of the steps that completed them.

    Args:
        rewards: one per chunk.
        ends: response tokens up to the end of each chunk; the last is `R`.
        step_map: of the trajectory, `(C,)` with `C >= R`.

    Returns:
        `(R,)`; rewards of chunks that the same step completed are added.
    """
    steps = step_map[: ends[-1]]  # (R,)
    complete = list(accumulate(steps, max))  # (R,): the step that completed each prefix
    by_step: defaultdict[int, float] = defaultdict(float)
    for reward, end in zip(rewards, ends, strict=True):
        by_step[complete[end - 1]] += reward  # the step of the chunk's last token and all before it
    return tuple(by_step.get(step, 0.0) for step in steps)


def rewards_in_chunks(
    rewards: Sequence[float], ends: Sequence[int], step_map: Sequence[int]
) -> tuple[float, ...]:
    """Assign the rewards of a response's chunks to the tokens of each chunk that were revealed last.

    Args:
        rewards: one per chunk.
        ends: response tokens up to the end of each chunk; the last is `R`.
        step_map: of the trajectory, `(C,)` with `C >= R`.

    Returns:
        `(R,)`; 0 for the other tokens.
    """
    chunks = [step_map[start:end] for start, end in pairwise((0, *ends))]
    return tuple(
        reward if step == last else 0.0
        for reward, steps, last in zip(rewards, chunks, map(max, chunks), strict=True)
        for step in steps
    )


def _is_split(votes: Sequence[float]) -> bool:
    return len(set(votes)) > 1 or votes[0] == 0
