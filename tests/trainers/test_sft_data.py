"""Demonstrations of a run: several sources, those held out, those too long, and the length of an epoch."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.toy import SPEC
from tests.trainers.toy_runs import metrics, sft_config
from unmask.checkpoints.tokenizer import load_tokenizer
from unmask.configs.load import load_config
from unmask.configs.sft import SFTConfig
from unmask.data.demonstrations import Demonstration, vocabulary_of
from unmask.data.mixture import Mixture
from unmask.models.families.mmada import ids_behind
from unmask.models.spec import ModelSpec
from unmask.models.vision.mmada_prompt import MmadaIds
from unmask.tasks.task import NO_TASK, prompt_from_text
from unmask.trainers.sft import train_sft
from unmask.trainers.sft_data import (
    DemonstrationSets,
    build_source,
    digest,
    first_records,
    held_out,
    num_steps,
    read_sets,
)
from unmask.types import PromptImage

STREAM = "data.sources=[{hub='b', streaming=true}]"


def write(path: Path, count: int, first: int = 0, **more: Any) -> Path:
    """Write lines of different prompts with responses of 2 tokens."""
    lines = [{"prompt": f"{n}+1=", "response": "7", **more} for n in range(first, first + count)]
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def mixed(
    place: Path, *words: str, weights: tuple[float | None, float | None] = (None, None)
) -> SFTConfig:
    """Return a run on two files, of 6 and of 4 demonstrations."""
    base = sft_config(place, "data.path=none", "task=none")
    keys = [
        f"{{path = {json.dumps(str(write(place / f'{n}.jsonl', 6 - 2 * n, 10 * n)))}"
        + (f", weight = {weight}}}" if weight else "}")
        for n, weight in enumerate(weights)
    ]
    settings = [
        f"run.dir={base.run.dir}",
        f"model.path={base.model.path}",
        "optimizer.lr=1e-3",
        "data.batch_size=5",
        f"data.sources=[{', '.join(keys)}]",
    ]
    return load_config(SFTConfig, [], [*settings, *words])[0]


def sets_of(config: SFTConfig) -> DemonstrationSets:
    vocabulary = vocabulary_of(load_tokenizer(config.model.path), ())
    return read_sets(config, NO_TASK, vocabulary, SPEC)


def test_sources_without_weights_are_one_pass_over_all(tmp_path: Path) -> None:
    sets = sets_of(mixed(tmp_path))
    assert [len(source) for source in sets.train] == [6, 4]
    source = build_source(sets, 0)
    drawn = [draw.item for draw in source.draw(10)]
    assert sorted(d.place for d in drawn) == sorted(d.place for d in sets.trained)
    assert "data.sources[2].path = " in sets.trained[-1].place
    assert sets.trained[-1].place.endswith("1.jsonl, line 4")


def test_sources_with_weights_are_drawn_by_them(tmp_path: Path) -> None:
    source = build_source(sets_of(mixed(tmp_path, weights=(1, 4))), 0)
    assert isinstance(source, Mixture)
    drawn = [("0.jsonl" in draw.item.place) for draw in source.draw(50)]
    assert sum(drawn) == 10


def test_the_same_runs_over_mixed_sources_agree_when_resumed(tmp_path: Path) -> None:
    words = ("steps=4", "eval.every=2", "data.validation=0.2")
    whole = mixed(tmp_path, f"run.dir={tmp_path / 'whole'}", *words, weights=(1, 2))
    train_sft(whole)
    for steps, resume in (("steps=2", False), ("steps=4", True)):
        part = mixed(tmp_path, f"run.dir={tmp_path / 'part'}", *words, steps, weights=(1, 2))
        train_sft(part, resume)
    weights = [(tmp_path / run / "model" / "model.safetensors") for run in ("whole", "part")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "part")


@pytest.mark.parametrize("which", ["0.jsonl", "validation.jsonl"])
def test_a_file_that_changed_is_refused_when_resumed(which: str, tmp_path: Path) -> None:
    held = write(tmp_path / "validation.jsonl", 3, 30)
    config = mixed(tmp_path, "steps=1", f"data.validation={held}")
    train_sft(config)
    write(tmp_path / which, 3, 40)
    key = r"data\.sources\[1\]\.path" if which == "0.jsonl" else r"data\.validation"
    with pytest.raises(ValueError, match=rf"{key} = .*{which}: the content .* changed"):
        # The content of the other file is written again as it was.
        train_sft(config.model_copy(update={"steps": 2}), resume=True)


def test_other_tokens_of_the_same_file_are_refused_when_resumed(tmp_path: Path) -> None:
    config = mixed(tmp_path)
    source = build_source(sets_of(config), 0)
    (config.data.sources[0].path or Path()).write_text('{"prompt": "1", "response": "2"}\n' * 6)
    with pytest.raises(ValueError, match="the data or its tokens changed since the run began"):
        build_source(sets_of(config), 0).restore(source.state())


def test_a_share_is_held_out_by_prompts_whatever_the_order(tmp_path: Path) -> None:
    found = [Demonstration((n // 2,), (n,), place=str(n)) for n in range(40)]
    train, held = held_out(found, 0.25)
    assert len(held) == 10
    assert {d.prompt_ids for d in train}.isdisjoint(d.prompt_ids for d in held)
    again = held_out(found[::-1], 0.25)[1]
    assert sorted(d.response_ids for d in again) == sorted(d.response_ids for d in held)
    assert len(held_out(found, 0.001)[1]) == 2  # the two of one prompt
    assert len(held_out(found, 0.9)[1]) == 36
    # The turns of a record stay together, whatever their prompts.
    turns = [Demonstration((n % 3, n), (n,), place=str(n // 3)) for n in range(30)]
    train, held = held_out(turns, 0.2)
    assert {d.place for d in train}.isdisjoint(d.place for d in held)
    with pytest.raises(ValueError, match=r"data\.validation = 0\.5: 1 different prompts are too"):
        held_out(found[:2], 0.5)


@pytest.mark.parametrize("mode", ["error", "drop", "truncate"])
def test_what_is_too_long_is_refused_left_out_or_cut(
    mode: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "long.jsonl", 3)
    lines = path.read_text().splitlines()
    lines.insert(1, json.dumps({"prompt": "1=", "response": "1234567"}))
    path.write_text("\n".join(lines))
    words = [f"data.path={path}", "data.max_tokens=7", f"data.too_long={mode}"]
    config = sft_config(tmp_path, *words, "views.post_num=1")
    if mode == "error":
        with pytest.raises(
            ValueError, match=r"long\.jsonl, line 2: the demonstration has 11 tokens, but data\.max"
        ):
            sets_of(config)
        return
    found = sets_of(config).trained
    assert [len(d.prompt_ids) + len(d.response_ids) for d in found] == (
        [7, 7, 7] if mode == "drop" else [7, 7, 7, 7]
    )
    shown = "left out" if mode == "drop" else "cut"
    assert capsys.readouterr().err == f"data: 1 demonstrations of more than 7 tokens are {shown}\n"


def test_a_prompt_that_leaves_no_room_cannot_be_cut(tmp_path: Path) -> None:
    words = [f"data.path={write(tmp_path / 'a.jsonl', 2)}", "data.max_tokens=3"]
    with pytest.raises(
        ValueError, match=r'line 1: the prompt has 6 tokens.*data.too_long = "drop"$'
    ):
        sets_of(sft_config(tmp_path, *words, "data.too_long=truncate"))
    with pytest.raises(ValueError, match="every demonstration of a source is too long"):
        sets_of(sft_config(tmp_path, *words, "data.too_long=drop"))


def test_rendered_texts_without_an_end_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(
        "".join(f'{{"prompt": "1", "response": "{r}"}}\n' for r in ("2<eos>", "3", "4"))
    )
    words = [f"data.path={path}", "data.rendered=true", "views.post_num=1"]
    assert [d.response_ids[-1] for d in sets_of(sft_config(tmp_path, *words)).trained] == [0, 0, 0]
    assert capsys.readouterr().err == (
        "data: 2 demonstrations do not end with a token at which the model stops\n"
    )


def test_a_recorded_order_is_cut_with_its_response(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"prompt_ids": [5, 6], "response_ids": [7, 8, 9], "step_map": [3, 1, 2]}')
    words = [f"data.path={path}", "data.max_tokens=4", "data.too_long=truncate"]
    (found,) = sets_of(sft_config(tmp_path, *words)).trained
    assert (found.response_ids, found.step_map) == ((7, 8), (3, 1))


def test_a_stream_is_trained_and_resumed_to_the_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The hub is replaced by rows, of which one is too long."""
    rows = [{"prompt": f"{n}+1=", "response": str(n)} for n in range(20)]
    rows[3] = {"prompt": "1" * 200, "response": "2"}

    def hub(name: str, subset: str | None, split: str, skip: int | None) -> Any:
        assert (name, split) == ("authors/set", "train")
        return ((f"row {n + 1}", row) for n, row in enumerate(rows) if n >= (skip or 0))

    monkeypatch.setattr("unmask.data.demonstrations.has_datasets", lambda: True)
    monkeypatch.setattr("unmask.data.demonstrations.read_hub", hub)
    held = write(tmp_path / "held.jsonl", 3)
    words = ["data.path=none", "data.hub=authors/set", "data.streaming=true", "data.batch_size=7"]
    words += ["data.too_long=drop", f"data.validation={held}", "optimizer.lr=1e-2"]
    whole = sft_config(tmp_path, *words, "steps=6", run="whole")
    train_sft(whole)
    assert "tokens are left out" in capsys.readouterr().err
    for steps, resume in (("steps=4", False), ("steps=6", True)):
        train_sft(sft_config(tmp_path, *words, steps, run="part"), resume)
    weights = [tmp_path / run / "model" / "model.safetensors" for run in ("whole", "part")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    weighted = [
        f"data.sources=[{{path='{held}', weight=1}}, {{hub='authors/set', streaming=true, weight=2}}]"
    ]
    mixed_words = [*words, "data.hub=none", "data.streaming=false", *weighted, "steps=2"]
    train_sft(sft_config(tmp_path, *mixed_words, run="mixed"))
    assert len(metrics(tmp_path / "mixed")) == 2


def test_a_real_stream_of_the_datasets_package_is_trained(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    (tmp_path / "set").mkdir()
    write(tmp_path / "set" / "train.jsonl", 9)
    words = ["data.path=none", f"data.hub={tmp_path / 'set'}", "steps=4"]
    for streaming in ("true", "false"):
        train_sft(sft_config(tmp_path, *words, f"data.streaming={streaming}", run=streaming))
        assert len(metrics(tmp_path / streaming)) == 4


def test_a_text_needs_a_first_token_where_the_model_predicts_from_the_one_before(
    tmp_path: Path,
) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"text": "12"}')
    config = sft_config(tmp_path, f"data.path={path}")
    vocabulary = vocabulary_of(load_tokenizer(config.model.path), ())
    assert len(read_sets(config, NO_TASK, vocabulary, SPEC).trained) == 1
    with pytest.raises(
        ValueError, match=r"t\.jsonl, line 1: .*empty prompt: sdar predicts a token"
    ):
        read_sets(config, NO_TASK, vocabulary, replace(SPEC, is_shifted=True))


@pytest.mark.parametrize(("epochs", "steps"), [(1, 2), (3, 6), (0.1, 1), (0.5, 1), (1.1, 3)])
def test_epochs_are_steps(epochs: float, steps: int, tmp_path: Path) -> None:
    config = mixed(tmp_path, f"epochs={epochs}")
    assert num_steps(config, sets_of(config)) == steps
    assert num_steps(mixed(tmp_path, "steps=9"), sets_of(config)) == 9


def test_a_run_of_epochs_is_resumed_for_more_of_them(tmp_path: Path) -> None:
    train_sft(mixed(tmp_path, "epochs=1"))
    assert len(metrics(tmp_path / "run")) == 2
    assert json.loads((tmp_path / "run" / "config.json").read_text())["steps"] == 2
    train_sft(mixed(tmp_path, "epochs=2"), resume=True)
    assert len(metrics(tmp_path / "run")) == 4
    with pytest.raises(ValueError, match=r"steps = 2: the run in .* is at step 4 already"):
        train_sft(mixed(tmp_path, "epochs=1"), resume=True)


def test_the_first_demonstrations_of_the_task_are_trained(tmp_path: Path) -> None:
    config = sft_config(tmp_path, "data.path=none", "data.examples=3")
    vocabulary = vocabulary_of(load_tokenizer(config.model.path), ())
    prompts = [prompt_from_text("toy", f"{n}+1=", {}) for n in range(8)]
    # Two of the first prompts have no demonstration, and do not count.
    task = replace(
        NO_TASK,
        prompts=lambda split: prompts,
        demonstration=lambda prompt: None if prompt in prompts[:2] else "7",
    )
    found = [
        read_sets(c, task, vocabulary, SPEC).trained
        for c in (config, sft_config(tmp_path, "data.path=none"))
    ]
    assert found[0] == found[1][:3]
    assert len(found[1]) == 6


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["epochs=1", "steps=3"], "epochs = 1.0: give steps or epochs, not both"),
        (["data.hub=a/b"], "sources: give path, hub or sources, only one of them"),
        (["data.sources=[{split='x'}]"], "a source has a path or a hub"),
        (["data.sources=[{path='a', weight=1}, {path='b'}]"], "every source a weight, or none"),
        (["data.sources=[]", "data.validation=0.1"], "of which none is given"),
        (["data.examples=3"], "examples = 3: counts the task's demonstrations"),
        (["data.layout=chatml"], "there is no layout 'chatml'; there are alpaca, messages"),
        (["data.fields={answer='x'}"], "data.fields"),
        (["data.validation=1.5"], "data.validation"),
        (["data.sources=[{path='a', wieght=1}]"], "wieght"),
        (["data.sources=[{path='a', streaming=true}]"], "is for a data set on the hub"),
        (["data.sources=[{path='a'}, {hub='b', streaming=true}]"], "mixed with others by weights"),
        ([STREAM, "epochs=2"], "a stream has no known end: give steps"),
        ([STREAM, "data.validation=0.1"], "no share of a stream can be held out"),
        ([STREAM, "data.canvas_tokens=longest"], "a stream has no longest response"),
    ],
)
def test_what_the_config_alone_decides_is_refused(
    words: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError) as caught:
        mixed(tmp_path, *words)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_first_record_of_each_source_is_shown_with_its_pads(tmp_path: Path) -> None:
    config = mixed(tmp_path, "views.post_num=2")
    vocabulary = vocabulary_of(load_tokenizer(config.model.path), ())
    ((one,), (other,)) = first_records(config, NO_TASK, vocabulary)
    assert one.response_ids[-3:] == (0, 0, 0)
    assert (one.place[-15:], other.place[-15:]) == ("0.jsonl, line 1", "1.jsonl, line 1")


def test_a_run_ends_early_where_validation_stalls_and_resumes_as_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A rate of nearly nothing: the second measurement is no better than the first by rounding alone."""
    words = ["steps=9", "eval.every=1", "data.validation=0.2", "early_stop=2", "save_every=1"]
    config = mixed(tmp_path, *words, "optimizer.lr=1e-30")
    model = train_sft(config)
    run = config.run.dir
    assert [line["step"] for line in metrics(run)] == [1, 2, 3]
    assert (run / "checkpoints" / "step-000003").is_dir()
    assert (run / "best" / "model.safetensors").is_file()
    assert "early_stop: 2 measurements without a new minimum" in capsys.readouterr().err
    first = (model / "model.safetensors").read_bytes()
    assert (train_sft(config, resume=True) / "model.safetensors").read_bytes() == first
    assert len(metrics(run)) == 3


@pytest.mark.parametrize("words", [["early_stop=2"], ["early_stop=2", "data.validation=0.2"]])
def test_early_stop_needs_validation_and_an_interval(words: list[str], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"early_stop = 2 measures data\.validation"):
        mixed(tmp_path, *words)


def test_prompts_of_other_images_are_other_prompts() -> None:
    images = [PromptImage(bytes([n]), 2) for n in range(8)]
    found = [
        Demonstration((5, -1, -2), (7, n), images=(image,), place=f"line {2 * n + k}")
        for n, image in enumerate(images)
        for k in range(2)
    ]
    train, held = held_out(found, 0.25)
    assert len(held) == 4 and not {d.images for d in train} & {d.images for d in held}
    same = [replace(d, images=(images[0],)) for d in found]
    with pytest.raises(ValueError, match="1 different prompts are too few"):
        held_out(same, 0.25)
    assert len({digest(found), digest(same), digest([replace(d, images=()) for d in same])}) == 3


def test_images_are_trained_under_their_own_views(tmp_path: Path) -> None:
    ids = ids_behind(SPEC.vocab_size, MmadaIds(num_codes=8, side=2))
    spec = replace(SPEC, vocab_size=SPEC.vocab_size + 14, image_ids=ids)
    image = [ids.image_offset + code for code in (3, 0, 7, 7)] + [ids.end_of_image]
    path = tmp_path / "records.jsonl"

    def read(response: list[int], kind: str, *words: str, of: ModelSpec = spec) -> int:
        path.write_text(json.dumps({"prompt_ids": [2, 3], "response_ids": response}))
        config = sft_config(
            tmp_path, f"data.path={path}", "task=none", f"views.kind={kind}", *words
        )
        vocabulary = vocabulary_of(load_tokenizer(config.model.path), ())
        return len(read_sets(config, NO_TASK, vocabulary, of).trained)

    assert read(image, "image") == read([2, 3], "random") == 1
    with pytest.raises(ValueError, match=r"records\.jsonl, line 1: the response is an image, and"):
        read(image, "random")
    for words in ([2, 3], image[1:], [*image[1:], 2], [2, *image[1:]]):
        with pytest.raises(
            ValueError, match=r'line 1: views\.kind = "image" trains responses that'
        ):
            read(words, "image")
    with pytest.raises(ValueError, match=r"post_num = 0"):
        read(image, "image", "views.post_num=1")
    with pytest.raises(ValueError, match=r'views\.kind = "image" trains'):
        read([2, 3], "image", of=SPEC)
