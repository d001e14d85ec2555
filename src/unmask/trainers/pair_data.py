"""The preference pairs of a run: read, fitted to the model, and held out for validation."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

from unmask.checkpoints.reward_model import conversation_ids
from unmask.checkpoints.tokenizer import Tokenizer
from unmask.configs.dpo import DPOConfig
from unmask.configs.pairs import PairsConfig
from unmask.data.demonstrations import Demonstration
from unmask.data.examples import Example
from unmask.data.pairs import Pair, checked, pair_examples
from unmask.data.shuffled import Shuffled
from unmask.diffusion.layout import check_budget
from unmask.models.spec import ModelSpec
from unmask.trainers.rollout_views import check_fits_model
from unmask.trainers.sft import layout_blocks
from unmask.trainers.sft_data import digest, held_out

Reader = Callable[[PairsConfig, str], Iterable[Pair]]


@dataclass(frozen=True, slots=True)
class PairSets:
    """The pairs of a run.

    Attributes:
        train: those that are trained.
        validation: those that are measured and never trained.
    """

    train: Sequence[Pair]
    validation: Sequence[Pair]


def read_pair_sets(config: PairsConfig, read_pairs: Reader, spec: ModelSpec) -> PairSets:
    """Read the pairs of `[pairs]`; what was left out is counted on stderr.

    Args:
        config: names the records.
        read_pairs: yields the pairs of a section, given its key.
        spec: of the model.

    Raises:
        ValueError: if there are none, or one cannot be read, is no pair or does not fit.
    """
    limit = min(spec.max_length, config.max_tokens or spec.max_length)

    def read(section: PairsConfig, key: str) -> list[Pair]:
        kept = list(_fitted(read_pairs(section, key), config.too_long, limit, spec))
        if not kept:
            name = f"hub = {section.hub}" if section.path is None else f"path = {section.path}"
            raise ValueError(f"{key}.{name}: holds no pairs of at most {limit} tokens an answer")
        return kept

    train, validation = read(config, "pairs"), list[Pair]()
    if isinstance(config.validation, float):
        train, validation = _held_out(train, config.validation)
    elif (section := config.validation_file) is not None:
        validation = read(section, "pairs.validation")
    return PairSets(train, validation)


def conversation_pairs(config: PairsConfig, key: str, tokenizer: Tokenizer) -> Iterator[Pair]:
    """Yield pairs whose answers are whole conversations, rendered as those that RL scores.

    Prompt and response of an answer are, together, the tokens that a reward model reads; the prompt is what is
    alike before the last turn.

    Raises:
        ValueError: as `pair_examples`; or naming the record that is no conversation or has equal answers.
    """
    for place, example in pair_examples(config, key):
        try:
            both = [
                _conversation(answer, tokenizer) for answer in (example.chosen, example.rejected)
            ]
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from error
        count = min(length for _, length in both)
        chosen, rejected = (
            Demonstration(tuple(ids[:count]), tuple(ids[count:]), place=place) for ids, _ in both
        )
        yield checked(Pair(chosen, rejected, place))


def _conversation(example: Example, tokenizer: Tokenizer) -> tuple[list[int], int]:
    """Return the tokens of a conversation, and how many stand before its last turn."""
    messages = example.messages
    if len(messages) < 2 or messages[-1].role != "assistant":
        raise ValueError("a reward model reads a conversation that ends with the assistant's turn")
    ids, before = (conversation_ids(turns, tokenizer) for turns in (messages, messages[:-1]))
    pairs = takewhile(lambda both: both[0] == both[1], zip(ids, before, strict=False))
    return ids, sum(1 for _ in pairs)


def _fitted(found: Iterable[Pair], too_long: str, limit: int, spec: ModelSpec) -> Iterator[Pair]:
    """Yield the pairs whose answers have at most `limit` tokens with their prompt."""
    num_dropped = 0
    for pair in found:
        if spec.is_shifted and not pair.chosen.prompt_ids:
            raise ValueError(
                f"{pair.place}: the prompt is empty: {spec.family} predicts a token from the one before it, "
                "so it needs at least one"
            )
        length = max(len(one.prompt_ids) + len(one.response_ids) for one in pair.answers)
        if length <= limit:
            yield pair
        elif too_long == "drop":
            num_dropped += 1
        else:
            raise ValueError(
                f"{pair.place}: an answer has {length} tokens with its prompt, and {limit} are allowed: shorten "
                'it, raise pairs.max_tokens, or set pairs.too_long = "drop"'
            )
    if num_dropped:
        sys.stderr.write(f"pairs: {num_dropped} of more than {limit} tokens are left out\n")


def _held_out(found: Sequence[Pair], share: float) -> tuple[list[Pair], list[Pair]]:
    """Divide pairs as `held_out` divides demonstrations: pairs of one prompt stay together."""
    pair_of = {id(pair.chosen): pair for pair in found}
    try:
        parts = held_out([pair.chosen for pair in found], share)
    except ValueError as error:
        raise ValueError(str(error).replace("data.", "pairs.", 1)) from error
    train, held = ([pair_of[id(one)] for one in part] for part in parts)
    return train, held


def check_pairs_fit(sets: PairSets, config: DPOConfig, spec: ModelSpec) -> None:
    """Refuse pairs that the views or the learner could not hold, and views of another attention.

    Raises:
        ValueError: naming the key and the numbers.
    """
    check_fits_model(config.views, spec)
    answers = [one for pair in (*sets.train, *sets.validation) for one in pair.answers]
    missing = sum(one.step_map is None for one in answers) if config.views.needs_step_map else 0
    if missing:
        raise ValueError(
            f'views.kind = "{config.views.kind}" needs the step_map of every answer, and {missing} of '
            f'{len(answers)} have none: the layout "tokens" has them (docs/preferences.md), and views.kind = '
            '"counted" needs none'
        )
    longest = max(len(one.prompt_ids) + len(one.response_ids) for one in answers)
    for block in layout_blocks(config.views, spec):
        check_budget(longest, block, config.optimizer.token_budget)


def build_pair_source(pairs: Sequence[Pair], seed: int) -> Shuffled[Pair]:
    """Return the source that a run draws pairs from; its digest is of all token ids."""
    return Shuffled(pairs, seed, digest_of_pairs(pairs))


def digest_of_pairs(pairs: Sequence[Pair]) -> str:
    """Return a digest of the token ids, images and step maps of pairs."""
    return digest([one for pair in pairs for one in pair.answers])
