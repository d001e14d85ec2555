"""The real lm-evaluation-harness, through `unmask lm-eval`, on a task file of ours, offline."""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lm_eval", reason="the extra lm-eval (600 MB) is not installed")

from PIL import Image as pillow

from tests.end_to_end.real_command import start
from tests.seeing import make_seeing, picture
from tests.toy import ALPHABET, toy_checkpoint
from unmask.checkpoints.checkpoint import load_model
from unmask.checkpoints.lora_files import save_adapter
from unmask.evaluation.harness import HarnessModel, sampling_of
from unmask.evaluation.likelihood import bound_loglikelihoods
from unmask.models.lora import LoRAParams, adapters, add_lora
from unmask.sampling_params import SamplingParams

TASKS = {
    "toy_generate": """
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{answer}}"
generation_kwargs: {until: [";"], max_gen_toks: 6, do_sample: false}
metric_list: [{metric: exact_match}]
""",
    "toy_choice": """
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_target: "{{label}}"
doc_to_choice: "{{choices}}"
metric_list: [{metric: acc}]
""",
}


class Request:
    """What the harness asks, as far as a model looks at it."""

    def __init__(self, *args: Any) -> None:
        self.args = args


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_checkpoint(tmp_path_factory.mktemp("model"))


def with_template(path: Path, place: Path) -> Path:
    toy_checkpoint(place, alphabet=ALPHABET)
    config = json.loads((place / "tokenizer_config.json").read_text())
    config["chat_template"] = (
        "{% for m in messages %}a{{ m.content }}b{% endfor %}"
        "{% if add_generation_prompt %}c{% endif %}"
    )
    (place / "tokenizer_config.json").write_text(json.dumps(config))
    return place


def test_a_task_file_is_run_by_the_package_itself(path: Path, tmp_path: Path) -> None:
    items = [
        {"question": f"{n}+1=", "answer": n + 1, "choices": [str(n + 1), "b;"], "label": 0}
        for n in range(5)
    ]
    (tmp_path / "items.json").write_text("\n".join(map(json.dumps, items)))
    for name, text in TASKS.items():
        head = f"task: {name}\ndataset_path: json\ntest_split: test\n"
        data = f"dataset_kwargs: {{data_files: {{test: {tmp_path / 'items.json'}}}}}\n"
        (tmp_path / f"{name}.yaml").write_text(head + data + text.lstrip())
    words = ["lm-eval", "run", "--model", "unmask", "--include_path", str(tmp_path)]
    words += ["--model_args", f"pretrained={path},strategy=static,mc_num=16", "--log_samples"]
    words += ["--tasks", ",".join(TASKS), "--output_path", str(tmp_path / "out")]
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    process = start(words, **offline)
    out, error = process.communicate(timeout=240)
    assert process.returncode == 0, error
    assert "toy_choice" in out and "toy_generate" in out
    (results,) = (tmp_path / "out").rglob("results_*.json")
    found = json.loads(results.read_text())["results"]
    assert 0 <= found["toy_choice"]["acc,none"] <= 1
    (samples,) = (tmp_path / "out").rglob("samples_toy_choice_*.jsonl")
    model = HarnessModel(str(path))
    first = json.loads(samples.read_text().splitlines()[0])
    asked = [Request(first["doc"]["question"], f" {choice}") for choice in first["doc"]["choices"]]
    mine = HarnessModel(str(path), mc_num=16).loglikelihood(asked)
    # The first two requests of the task are the first question's choices.
    assert [float(pair[0]) for pair in first["filtered_resps"]] == pytest.approx(
        [bound for bound, _ in mine], rel=1e-5
    )
    assert model.tokenizer_name == str(path).replace("/", "__")


def test_log_likelihoods_are_bounds_of_the_continuation_alone(path: Path) -> None:
    model = HarnessModel(str(path))
    requests = [Request("1+2=", "3;3"), Request("", "12"), Request("1+2= ", "3")]
    encode = model._encode
    pairs = [(encode("1+2="), encode("3;3")), ((), encode("12")), (encode("1+2="), encode(" 3"))]
    found = model.loglikelihood(requests)
    assert [bound for bound, _ in found] == bound_loglikelihoods(model._llm.model, pairs)
    with pytest.raises(ValueError, match="'' adds no token"):
        model.loglikelihood([Request("1", "")])


def test_the_greedy_continuation_is_recognised(path: Path) -> None:
    model = HarnessModel(str(path))
    (text,) = model.generate_until([Request("1+2=", {"do_sample": False, "max_gen_toks": 3})])
    other = "a" if text[0] != "a" else "b"
    requests = [Request("1+2=", text), Request("1+2=", other + text[1:])]
    assert len(text) == 3  # no end of text in it
    assert [is_greedy for _, is_greedy in model.loglikelihood(requests)] == [True, False]
    silent = HarnessModel(str(path), check_greedy=False)
    assert silent.loglikelihood(requests[:1])[0][1] is False


def test_repeats_differ_and_stop_texts_end_a_response(path: Path) -> None:
    model = HarnessModel(str(path), strategy="static")
    settings = {"do_sample": True, "temperature": 1.5, "max_gen_toks": 12, "until": ["1", "2"]}
    texts = model.generate_until([Request("5-", settings)] * 6)
    assert len(set(texts)) > 1
    assert not any(set(text) & {"1", "2"} for text in texts)
    assert texts == HarnessModel(str(path), strategy="static").generate_until(
        [Request("5-", settings)] * 6
    )


def test_a_tasks_settings_win_and_unknown_ones_are_refused() -> None:
    base = SamplingParams(strategy="static", temperature=0.7, threshold=0.5)
    asked = {"until": "x", "max_gen_toks": 9, "do_sample": False, "temperature": 0.3}
    found = sampling_of(asked, base, seed=4)
    assert (found.strategy, found.threshold, found.seed) == ("static", 0.5, 4)
    assert (found.stop, found.max_tokens, found.temperature) == (("x",), 9, 0.0)
    assert sampling_of({"do_sample": True}, base, 0).temperature == 0.7
    harmless = {"num_beams": 1, "repetition_penalty": 1.0, "early_stopping": False, "min_new": None}
    assert sampling_of(harmless, base, 0) == sampling_of({}, base, 0)
    with pytest.raises(ValueError, match="generation settings num_beams: unmask's samplers do not"):
        sampling_of({"num_beams": 4}, base, 0)


def test_the_chat_template_is_the_models(path: Path, tmp_path: Path) -> None:
    model = HarnessModel(str(with_template(path, tmp_path)))
    turns = [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}]
    assert model.apply_chat_template(turns) == "a1ba2bc"
    assert model.apply_chat_template(turns, add_generation_prompt=False) == "a1ba2"
    assert model.chat_template(True).startswith("{% for") and model.chat_template(False) == ""
    with pytest.raises(ValueError, match="no chat template: leave --apply_chat_template out"):
        HarnessModel(str(path)).apply_chat_template(turns)


def test_what_has_no_honest_answer_is_refused(path: Path) -> None:
    with pytest.raises(ValueError, match=r"loglikelihood_rolling: .* bound"):
        HarnessModel(str(path)).loglikelihood_rolling([Request("1")])
    with pytest.raises(ValueError, match="stratgy"):
        HarnessModel(str(path), stratgy="static")


def test_adapters_are_laid_over_the_model(path: Path, tmp_path: Path) -> None:
    model = load_model(path)
    add_lora(model, LoRAParams(rank=2, alpha=4, targets=("attention",)))
    for adapter in adapters(model).values():
        adapter.lora_b.data.fill_(0.5)
    save_adapter(model, tmp_path)
    request = [Request("1+2=", "3;")]
    plain, adapted = HarnessModel(str(path)), HarnessModel(str(path), adapter=str(tmp_path))
    assert plain.loglikelihood(request) != adapted.loglikelihood(request)


def seeing(place: Path) -> HarnessModel:
    toy_checkpoint(place)
    model = HarnessModel(str(place), strategy="static")
    make_seeing(model._llm)
    return model


def test_images_of_a_task_stand_at_its_markers(tmp_path: Path) -> None:
    model, settings = seeing(tmp_path), {"max_gen_toks": 6}
    assert model.MULTIMODAL
    red, blue = (pillow.open(BytesIO(picture(colour))) for colour in ("red", "blue"))
    asked = [
        Request("1<image>+2=", settings, {"visual": [red]}),
        Request("1<image>+2=", settings, {"visual": [blue]}),
        Request("1<image>+2=", settings, {"visual": [red]}),
        Request("1+2=", settings, {"visual": []}),
        Request("1+2=", settings),
    ]
    first, other, again, *texts = model.generate_until(asked)
    assert first != other and first != again, "a repeated request gets another draw"
    assert model.generate_until(asked[:1]) == [first], "alone it is the same"
    assert len({*model.generate_until(asked[3:4]), *model.generate_until(asked[4:])}) == 1
    assert texts[0] != texts[1]
    encoded = model._llm.model.backbone.vision.encoded  # type: ignore[union-attr]
    assert set(encoded.values()) == {1}, "each picture is encoded once"


def test_other_images_are_refused(path: Path, tmp_path: Path) -> None:
    red = pillow.open(BytesIO(picture()))
    blind, model = HarnessModel(str(path)), seeing(tmp_path)
    assert not blind.MULTIMODAL
    with pytest.raises(ValueError, match="image 1: this model reads text only"):
        blind.generate_until([Request("<image>", {}, {"visual": [red]})])
    with pytest.raises(ValueError, match="the text has 0 <image> for 1 images"):
        model.generate_until([Request("1+", {}, {"visual": [red]})])
    with pytest.raises(ValueError, match="the task has audio: only text and images are read"):
        model.generate_until([Request("1+", {}, {"audio": []})])
    with pytest.raises(ValueError, match="the likelihood of a text about images"):
        model.loglikelihood([Request("1+", "2", {"visual": [red]})])
