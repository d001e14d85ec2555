"""The model's input for `--show-prompt`: the first prompt of a run as text, tokens and ids; of SFT, with its response.

Many errors show before the first step here: a template of another model, a special token that is
encoded as text, an unexpected system turn. The prompt is printed exactly as trainers and evaluation
give it to the engine, and only the tokenizer is loaded. What SFT trains stands between `⟦` and `⟧`, in
a colour where the terminal has some.
"""

from collections.abc import Sequence
from contextlib import closing
from itertools import groupby
from pathlib import Path

from typer import style

from unmask.checkpoints.image_reader import TEXT_ONLY, ImageReader, prompt_tokens
from unmask.checkpoints.tokenizer import (
    Tokenizer,
    has_tokenizer,
    load_tokenizer,
    num_tokens,
    token_pieces,
)
from unmask.configs.dpo import DPOConfig
from unmask.configs.eval import EvalConfig
from unmask.configs.model import ModelConfig
from unmask.configs.sft import SFTConfig
from unmask.configs.training import PolicyConfig
from unmask.data.demonstrations import Demonstration, Vocabulary
from unmask.runs.print import visible
from unmask.tasks.build import build_task
from unmask.types import Image, PromptImage


def first_prompt(config: PolicyConfig | EvalConfig) -> str:
    """Return the first prompt of a run: its text with special tokens, its tokens and ids.

    Raises:
        ValueError: the model has no tokenizer, or the task no prompt.
    """
    if isinstance(config, SFTConfig):
        return _first_demonstrations(config)
    if isinstance(config, DPOConfig):
        return _first_pair(config)
    tokenizer = tokenizer_of(config.model.path)
    split = config.split if isinstance(config, EvalConfig) else "train"
    with closing(build_task(config.task)) as task:
        prompts = task.prompts(split)
    if not prompts:
        raise ValueError(f"task {task.name!r} has no prompt in the {split} split: set [task]")
    origin = f"task {task.name}, {split} split, first of {len(prompts)} prompts"
    messages = prompts[0].messages
    reader = _reader(config.model, tokenizer) if any(m.images for m in messages) else TEXT_ONLY
    tokens = prompt_tokens(messages, tokenizer, reader)
    images = [image for message in messages for image in message.images]
    return describe_prompt(origin, tokens.token_ids, tokenizer, _described(images, tokens.images))


def _first_demonstrations(config: SFTConfig) -> str:
    """Return the demonstrations of the first record of each source, or of the first problem that has one."""
    from unmask.trainers.sft_data import first_records

    with closing(build_task(config.task)) as task:
        words = _vocabulary(config.model)
        found = first_records(config, task, words)
    return "\n\n".join(
        describe_demonstration(turn, f"demonstration {number} of {len(turns)}", words.tokenizer)
        for turns in found
        for number, turn in enumerate(turns, start=1)
    )


def _first_pair(config: DPOConfig) -> str:
    """Return the two answers of the first pair."""
    from unmask.data.pairs import pairs_of_source

    words = _vocabulary(config.model)
    pair = next(pairs_of_source(config.pairs, "pairs", words), None)
    if pair is None:
        raise ValueError(f"pairs.path = {config.pairs.path}: holds no pairs")
    return "\n\n".join(
        describe_demonstration(answer, f"the {name} answer", words.tokenizer)
        for name, answer in zip(("chosen", "rejected"), pair.answers, strict=True)
    )


def _vocabulary(config: ModelConfig) -> Vocabulary:
    """Return the tokens of the model of a configuration, whose weights are not loaded."""
    from unmask.checkpoints.checkpoint import find_checkpoint, read_spec  # loads torch
    from unmask.data.demonstrations import vocabulary_of

    directory = find_checkpoint(config.path)
    # The ids at which the model stops decide whether end-of-text is appended.
    spec = read_spec(directory, config.mask_id, config.block_size)
    tokenizer = load_tokenizer(directory)
    return vocabulary_of(tokenizer, spec.eos_ids, reader=_reader(config, tokenizer))


def _reader(config: ModelConfig, tokenizer: Tokenizer) -> ImageReader:
    """Return the reader of the model of a configuration, whose weights are not loaded."""
    from unmask.checkpoints.build_reader import reader_of_spec
    from unmask.checkpoints.checkpoint import find_checkpoint, read_spec  # loads torch

    spec = read_spec(find_checkpoint(config.path), config.mask_id, config.block_size)
    return reader_of_spec(spec, tokenizer, config.image_codec, config.image_preprocess)


def _pieces_and_ids(token_ids: Sequence[int], tokenizer: Tokenizer) -> tuple[list[str], str]:
    """Return the text of each token, and the ids; neighbouring vectors or codes of images are one piece."""
    pieces, numbers, num_texts = list[str](), list[str](), num_tokens(tokenizer)

    def kind(token_id: int) -> str:
        return "vectors" if token_id < 0 else "codes" if token_id >= num_texts else ""

    for name, run in groupby(token_ids, kind):
        ids = list(run)
        pieces += [f"<{len(ids)} image {name}>"] if name else token_pieces(ids, tokenizer)
        numbers += [f"{ids[0]}..{ids[-1]}"] if name else map(str, ids)
    return pieces, " ".join(numbers)


def _described(sources: Sequence[Image], images: Sequence[PromptImage]) -> list[str]:
    """Return the lines with names and sizes of images, and how many vectors each has where they are not codes."""
    from unmask.models.vision.image_codec import decode_image

    counts = [f", {image.count} vectors" for image in images] or [""] * len(sources)
    sizes = [decode_image(source).size for source in sources]
    return [
        f"image    {source.name}, {width} x {height}{count}"
        for source, (width, height), count in zip(sources, sizes, counts, strict=True)
    ]


def describe_demonstration(demonstration: Demonstration, number: str, tokenizer: Tokenizer) -> str:
    """Return a demonstration as text, tokens and ids, what is trained apart from what is read.

    Args:
        demonstration: of a record.
        number: its number within the record, in a few words.
        tokenizer: decodes its ids.
    """
    before, prompt_ids = _pieces_and_ids(demonstration.prompt_ids, tokenizer)
    after = token_pieces(demonstration.response_ids, tokenizer)
    mark = f"⟦{style(visible(''.join(after)), fg='green', bold=True)}⟧"
    template = "the model's chat template" if tokenizer.chat_template else "no chat template"
    return "\n".join(
        (
            f"{demonstration.place}, {number}; {template}; {len(demonstration.prompt_ids)} tokens "
            f"are read, "
            f"{len(after)} are trained",
            f"\n{visible(''.join(before))}{mark}\n",
            *_described(demonstration.sources, demonstration.images),
            f"tokens   {' '.join(map(repr, before))}",
            f"ids      {prompt_ids}",
            f"trained  {' '.join(map(repr, after))}",
            f"ids      {' '.join(map(str, demonstration.response_ids))}",
        )
    )


def describe_prompt(
    origin: str, token_ids: Sequence[int], tokenizer: Tokenizer, images: Sequence[str] = ()
) -> str:
    """Return a prompt's text, its tokens one by one and their ids.

    Args:
        origin: the source of the prompt, in a few words.
        token_ids: `P` ids, as the engine gets them.
        tokenizer: decodes them.
        images: a line for each of its images.
    """
    pieces, ids = _pieces_and_ids(token_ids, tokenizer)
    template = "the model's chat template" if tokenizer.chat_template else "no chat template"
    return "\n".join(
        (
            f"{origin}; {template}; {len(token_ids)} tokens",
            f"\n{visible(''.join(pieces))}\n",
            *images,
            f"tokens  {' '.join(map(repr, pieces))}",
            f"ids     {ids}",
        )
    )


def tokenizer_of(path_or_hub_id: str) -> Tokenizer:
    """Return the tokenizer of a checkpoint; one that is not a local directory is downloaded from the hub.

    Raises:
        ValueError: the checkpoint does not exist, or has no tokenizer.
    """
    if Path(path_or_hub_id).is_dir():
        return load_tokenizer(path_or_hub_id)
    from unmask.checkpoints.checkpoint import find_checkpoint  # loads torch

    return load_tokenizer(find_checkpoint(path_or_hub_id))


def find_tokenizer(run: Path, model_path: str) -> Tokenizer | None:
    """Return the tokenizer of a run's saved model, else of its local initial model, else None.

    Args:
        run: the run directory.
        model_path: `model.path` of its config; nothing is downloaded for a hub id.
    """
    places = [place for place in (run / "model", Path(model_path)) if has_tokenizer(place)]
    return load_tokenizer(places[0]) if places else None
