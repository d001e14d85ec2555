"""The demonstrations of `unmask sft`: read, fitted to the model, held out for validation, mixed, and counted."""

import sys
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import blake2b
from itertools import groupby, islice

from unmask.checkpoints.tokenizer import Tokenizer
from unmask.configs.sft import SFTConfig
from unmask.configs.sft_data import RecordsConfig, SFTDataConfig
from unmask.data.demonstrations import (
    Demonstration,
    Vocabulary,
    demonstrations_of_answers,
    demonstrations_of_source,
    vocabulary_of,
)
from unmask.data.mixture import Mixture
from unmask.data.shuffled import ItemSource, Shuffled
from unmask.data.streamed import Streamed
from unmask.data.token_cache import cached_demonstrations
from unmask.engine.llm import LLM
from unmask.models.spec import ModelSpec
from unmask.models.vision.mmada_prompt import is_image
from unmask.seeds import derive_seed
from unmask.tasks.task import Task
from unmask.trainers import schedule

# Yields the demonstrations of each record after so many records.
Reader = Callable[[int], Iterator[Sequence[Demonstration]]]


@dataclass(frozen=True, slots=True)
class DemonstrationSets:
    """The demonstrations of a run.

    Attributes:
        train: those of each source; a source that is streamed has none here.
        streams: of each source the function that reads it from a record on; None for one that is not streamed.
        weights: shares of the sources in the draws; empty where an epoch has each demonstration once.
        validation: those that are measured and never trained.
        limit: most tokens of a demonstration.
        counts: of the demonstrations that were left out or cut, and are not shown yet; streams add to them
            as they are read.
    """

    train: Sequence[Sequence[Demonstration]]
    streams: Sequence[Reader | None]
    weights: Sequence[float]
    validation: Sequence[Demonstration]
    limit: int
    counts: Counter[str] = field(default_factory=Counter[str])

    def show_counts(self) -> None:
        """Write to stderr how many demonstrations were left out or cut since the last call."""
        for what, count in self.counts.items():
            sys.stderr.write(f"data: {count} demonstrations {what}\n")
        self.counts.clear()

    @property
    def trained(self) -> list[Demonstration]:
        """The demonstrations of all sources; for a stream, one as long as any of it may be."""
        # A prompt of one token: under block attention and full attention alike nothing takes more room.
        longest = Demonstration((0,), (0,) * (self.limit - 1), (0,) * (self.limit - 1))
        return [
            demonstration
            for found, stream in zip(self.train, self.streams, strict=True)
            for demonstration in ([longest] if stream else found)
        ]


def vocabulary_of_llm(llm: LLM) -> Vocabulary:
    """Return the vocabulary of a loaded model.

    Raises:
        ValueError: if it has no tokenizer.
    """
    head, ids = llm.model.head, llm.model.spec.image_ids
    drawable = head.drawable if ids is None else head.drawable | head.codes
    if ids is not None:  # no target in views of images
        drawable[ids.end_of_image] = True
    drawable = drawable.tolist()
    tokenizer, eos_ids = llm.require_tokenizer(), llm.model.spec.eos_ids
    return vocabulary_of(tokenizer, eos_ids, drawable, llm.reader)


def read_sets(
    config: SFTConfig, task: Task, vocabulary: Vocabulary, spec: ModelSpec
) -> DemonstrationSets:
    """Read the demonstrations of `[data]`, or those of the task; what was left out or cut is counted on stderr.

    Raises:
        ValueError: if there are none, or one cannot be read, is not a demonstration or does not fit.
    """
    data, pads = config.data, trained_pads(config, vocabulary.tokenizer)
    counts: Counter[str] = Counter()
    ends = vocabulary.end_ids
    fitted = partial(_fitted, config=config, pads=pads, spec=spec, counts=counts, ends=ends)
    streams = [
        partial(_read_stream, section, key, vocabulary, fitted) if section.streaming else None
        for key, section in data.named_sources
    ] or [None]
    train: list[list[Demonstration]] = []
    validation: list[Demonstration] = []
    sources = _read_sources(config, task, vocabulary, cached_demonstrations)
    for found, stream in zip(sources, streams, strict=True):
        kept = [] if stream else list(fitted(found))
        if isinstance(data.validation, float):
            kept, held = held_out(kept, data.validation)
            validation += held
        if not kept and not stream:
            raise ValueError("every demonstration of a source is too long, see data.too_long")
        train.append(kept)
    if (section := data.validation_file) is not None:
        found = cached_demonstrations(section, "data.validation", vocabulary)
        validation += fitted(found)
        if not validation:
            raise ValueError(f"data.validation = {section.path}: holds no demonstrations")
    sets = DemonstrationSets(train, streams, data.weights, validation, _limit(data, spec), counts)
    sets.show_counts()
    return sets


def _read_stream(
    section: RecordsConfig,
    key: str,
    vocabulary: Vocabulary,
    fitted: Callable[[Iterable[Demonstration]], Iterator[Demonstration]],
    skip: int,
) -> Iterator[Sequence[Demonstration]]:
    """Yield the demonstrations of each record of a stream, after so many records."""
    found = demonstrations_of_source(section, key, vocabulary, skip)
    for _, turns in groupby(found, lambda demonstration: demonstration.place):
        yield list(fitted(turns))


def _read_sources(
    config: SFTConfig,
    task: Task,
    vocabulary: Vocabulary,
    read: Callable[[RecordsConfig, str, Vocabulary], Iterator[Demonstration]],
) -> Iterator[Iterator[Demonstration]]:
    """Yield the demonstrations of each source as they are read.

    Raises:
        ValueError: a source has none, or as `demonstrations_of_source`.
    """
    for key, section in config.data.named_sources:
        found = read(section, key, vocabulary)
        name = f"hub = {section.hub}" if section.path is None else f"path = {section.path}"
        yield _some(found, f"{key}.{name}: holds no demonstrations")
    if not config.data.named_sources:
        answers = ((p, task.demonstration(p)) for p in task.prompts("train"))
        right = ((prompt, text) for prompt, text in answers if text is not None)
        found = demonstrations_of_answers(islice(right, config.data.examples), vocabulary)
        yield _some(found, f"task {task.name!r} has no demonstrations: give data.path")


def first_records(
    config: SFTConfig, task: Task, vocabulary: Vocabulary
) -> list[list[Demonstration]]:
    """Return the demonstrations of the first record of each source, with their trained pads.

    Raises:
        ValueError: as `read_sets`.
    """
    pads = trained_pads(config, vocabulary.tokenizer)
    found: list[list[Demonstration]] = []
    for source in _read_sources(config, task, vocabulary, demonstrations_of_source):
        _, first = next(groupby(source, lambda demonstration: demonstration.place))
        found.append([replace(d, response_ids=d.response_ids + pads) for d in first])
    return found


def _some(found: Iterable[Demonstration], missing: str) -> Iterator[Demonstration]:
    is_empty = True
    for demonstration in found:
        is_empty = False
        yield demonstration
    if is_empty:
        raise ValueError(missing)


def trained_pads(config: SFTConfig, tokenizer: Tokenizer) -> tuple[int, ...]:
    """Return the `views.post_num` pad tokens that are trained right of every response.

    Raises:
        ValueError: if the tokenizer has neither a pad token nor an end-of-text token.
    """
    if config.views.post_num == 0:
        return ()
    pad_id = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    if pad_id is None:
        raise ValueError(
            f"views.post_num = {config.views.post_num}: the tokenizer has no pad token and no "
            "end-of-text token to train there"
        )
    return (pad_id,) * config.views.post_num


def _fitted(
    found: Iterable[Demonstration],
    config: SFTConfig,
    pads: tuple[int, ...],
    spec: ModelSpec,
    counts: Counter[str],
    ends: tuple[int, ...],
) -> Iterator[Demonstration]:
    """Yield demonstrations with their pads, those that are too long as `data.too_long` has it.

    Texts that are rendered, and token ids, may end with a token at which the model does not stop: counted.
    """
    data, limit = config.data, _limit(config.data, spec)
    for short in found:
        _check_medium(short, config, spec)
        if ends and short.response_ids[-1] not in ends:
            counts["do not end with a token at which the model stops"] += 1
        if spec.is_shifted and not short.prompt_ids:
            raise ValueError(
                f"{short.place}: a demonstration has an empty prompt: {spec.family} predicts a token "
                "from the one before it, so it needs at least one"
            )
        full = replace(short, response_ids=short.response_ids + pads)
        length = len(full.prompt_ids) + len(full.response_ids)
        room = limit - len(full.prompt_ids)
        if length <= limit:
            yield full
        elif data.too_long == "drop":
            counts[f"of more than {limit} tokens are left out"] += 1
        elif data.too_long == "truncate" and room > 0:
            counts[f"of more than {limit} tokens are cut"] += 1
            steps = full.step_map and full.step_map[:room]
            yield replace(full, response_ids=full.response_ids[:room], step_map=steps)
        else:
            own = "the model has" if limit == spec.max_length else "data.max_tokens allows"
            what = "prompt" if data.too_long == "truncate" else "demonstration"
            raise ValueError(
                f"{full.place}: the {what} has {length} tokens, but {own} {limit} positions: shorten it, "
                f'or set data.too_long = "drop"'
                + (' or "truncate"' if data.too_long == "error" else "")
            )


def _check_medium(one: Demonstration, config: SFTConfig, spec: ModelSpec) -> None:
    """Refuse images under views of texts, where the token of their end would be a target, and the reverse."""
    ids = spec.image_ids
    if str(config.views.kind) != "image":
        if ids is not None and ids.end_of_image in one.response_ids:
            raise ValueError(
                f'{one.place}: the response is an image, and views.kind = "{config.views.kind}" is for texts: set '
                'views.kind = "image"'
            )
        return
    if ids is None or not is_image(one.response_ids, ids) or config.views.post_num:
        raise ValueError(
            f'{one.place}: views.kind = "image" trains responses that are all codes of an image of the model and '
            "the token of its end (docs/images.md), with views.post_num = 0, and this one is another: set "
            'views.kind = "random"'
        )


def _limit(data: SFTDataConfig, spec: ModelSpec) -> int:
    return min(spec.max_length, data.max_tokens or spec.max_length)


def held_out(
    found: Sequence[Demonstration], share: float
) -> tuple[list[Demonstration], list[Demonstration]]:
    """Divide demonstrations into those that are trained and a share that is measured.

    The turns of one record stay together, and so do records of one first prompt. Which are held out follows
    from a hash of that prompt: not from the seed, nor from the order of the records.

    Args:
        found: in the order of their records.
        share: of the demonstrations; at least one is held out.

    Raises:
        ValueError: if that leaves none to train.
    """
    groups: dict[bytes, list[Demonstration]] = {}
    for _, turns in groupby(found, lambda demonstration: demonstration.place):
        first, *rest = turns
        # A text has no prompt: it is its own.
        state = blake2b(array("q", first.prompt_ids or first.response_ids).tobytes())
        for image in first.images:
            state.update(image.digest)
        groups.setdefault(state.digest(), []).extend((first, *rest))
    held: list[Demonstration] = []
    num_groups = len(groups)
    for key in sorted(groups):
        if len(held) >= max(share * len(found), 1):
            break
        held += groups.pop(key)
    if not groups:
        raise ValueError(
            f"data.validation = {share}: {num_groups} different prompts are too few to hold some out"
        )
    return [one for group in groups.values() for one in group], held


def build_source(sets: DemonstrationSets, seed: int) -> ItemSource[Demonstration]:
    """Return the source that a run draws from; the digest of one that is not streamed is of all token ids.

    Args:
        sets: of the run.
        seed: of the run.
    """
    if not sets.weights:
        (stream, *_) = sets.streams  # several sources are mixed by weights if one is a stream
        if stream is not None:
            return Streamed(stream, seed)
        return Shuffled(sets.trained, seed, digest(sets.trained))
    seeds = [derive_seed(seed, number) for number in range(len(sets.train))]
    sources = [
        Streamed(stream, own) if stream else Shuffled(found, own, digest(found))
        for found, stream, own in zip(sets.train, sets.streams, seeds, strict=True)
    ]
    return Mixture(sources, sets.weights)


def digest(found: Sequence[Demonstration]) -> str:
    """Return a digest of the token ids, images and step maps of demonstrations."""
    state = blake2b(digest_size=16)
    for one in found:
        for image in one.images:
            state.update(image.digest)
        for ids in (one.prompt_ids, one.response_ids, one.step_map or ()):
            state.update(array("q", (len(ids), *ids)).tobytes())
    return state.hexdigest()


def num_steps(config: SFTConfig, sets: DemonstrationSets) -> int:
    """Return the optimizer steps of a run on these demonstrations."""
    num_train = sum(map(len, sets.train))
    return schedule.num_steps(config.steps, config.epochs, num_train, config.data.batch_size)
