"""Exports of every family, opened by transformers in a process without unmask: our logits, tokenizer, files."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from tests.evaluation.published_code import with_code
from tests.exporting.past_models import adapted_run, trained_run
from tests.models.toy import FAMILY_CHANGES, family_model
from tests.runs.past_runs import past_run
from tests.toy import toy_checkpoint
from unmask.checkpoints.checkpoint import load_model, save_model
from unmask.checkpoints.tokenizer import encode, load_tokenizer
from unmask.exporting.export import ExportParams, export, notes
from unmask.models.lora import merge_lora
from unmask.models.spec import RopeScaling
from unmask.models.transformer import Model

TEXTS = [[7, 8, 39, 9, 39, 39, 10], [5], [(7 * index) % 39 for index in range(33)]]
TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<model>"
# A name of a case, its family, and what its spec has in addition.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    **{family: (family, {}) for family in FAMILY_CHANGES},
    "tied": ("dream", {"is_tied": True}),
    "converted": ("sdar", {"has_qk_norm": False, "has_qkv_bias": True, "block_size": 3}),
    "scaled": ("sdar", {"rope_scaling": RopeScaling(8.0, 1.0, 4.0, 16)}),
}


def exported(model: Model, place: Path, **params: Any) -> Path:
    """Save a model in fp64 and export it."""
    save_model(model.double(), place / "saved")
    export(ExportParams(str(place / "saved"), **params), place / "out")
    return place / "out"


class Elsewhere:
    """What a process without unmask found in exports, and our models of them."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.models = {
            case: load_model(exported(family_model(family, **changes), place / case), dtype=None)
            for case, (family, changes) in CASES.items()
        }
        code = with_code("sdar", place / "code")
        self.published = load_model(code, dtype=torch.float64)
        export(ExportParams(str(code)), place / "published")
        chat = toy_checkpoint(place / "chat")
        (chat / "chat_template.jinja").write_text(TEMPLATE)
        export(ExportParams(str(chat)), place / "tokenizer")
        run, adapted = adapted_run(place / "run", place / "sdar" / "saved", "them/base")
        export(ExportParams(str(run)), place / "adapter")
        self.adapted = merge_lora(adapted)
        names = ("published", "tokenizer", "adapter", "saved_again")
        job = {
            **{name: str(place / name) for name in names},
            "models": {case: str(place / case / "out") for case in CASES},
            "base": str(place / "sdar" / "out"),
            "texts": TEXTS,
            "block": self.published.spec.block_size,
        }
        (place / "job.json").write_text(json.dumps(job))
        self.found = self._run(place / "job.json")

    def _run(self, job: Path) -> dict[str, Any]:
        kept = {name: os.environ[name] for name in ("PATH", "OMP_NUM_THREADS", "HF_HUB_OFFLINE")}
        done = subprocess.run(
            [sys.executable, "-I", Path(__file__).with_name("open_elsewhere.py"), job],
            env=kept | {"HF_MODULES_CACHE": str(job.with_name("modules"))},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        of_models = done.stderr.partition("\ntokenizer\n")[0]
        self.logged = [line for line in of_models.splitlines() if "[transformers]" in line]
        return json.loads(job.with_name("found.json").read_text())

    def logits(self, name: str) -> Tensor:
        """Return logits that the other process wrote."""
        with safe_open(self.place / "logits.safetensors", "pt") as file:
            return file.get_tensor(name)


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Elsewhere:
    return Elsewhere(tmp_path_factory.mktemp("elsewhere"))


def our_logits(model: Model, text: list[int]) -> Tensor:
    with torch.inference_mode():
        return model.logits(torch.tensor([text]))[0]


@pytest.mark.parametrize("case", CASES)
def test_a_process_without_unmask_gets_our_logits(case: str, elsewhere: Elsewhere) -> None:
    assert elsewhere.found[case] == "UnmaskForCausalLM"
    for index, text in enumerate(TEXTS):
        ours = our_logits(elsewhere.models[case], text)
        theirs = elsewhere.logits(f"{case}.{index}")
        assert theirs.dtype == torch.float64 and ours.std() > 1
        assert torch.allclose(theirs, ours, rtol=0, atol=1e-11)


def test_published_code_is_copied_and_runs(elsewhere: Elsewhere) -> None:
    theirs = elsewhere.logits("published")
    assert torch.allclose(theirs, our_logits(elsewhere.published, TEXTS[0]), rtol=0, atol=1e-3)
    place = elsewhere.place / "published"
    assert not (place / "modeling_unmask.py").exists() and (place / "modeling_sdar.py").is_file()
    assert "unmask" not in json.loads((place / "config.json").read_text())


def test_adapters_open_in_peft_on_the_exported_base(elsewhere: Elsewhere) -> None:
    ours = our_logits(elsewhere.adapted, TEXTS[0])
    assert not torch.allclose(ours, our_logits(elsewhere.models["sdar"], TEXTS[0]), atol=0.1)
    # peft keeps adapters in fp32.
    assert torch.allclose(elsewhere.logits("adapter"), ours, rtol=0, atol=1e-4)
    config = json.loads((elsewhere.place / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "them/base"
    assert not list((elsewhere.place / "adapter").glob("*.py"))


def test_tokenizer_and_chat_template_open(elsewhere: Elsewhere) -> None:
    tokenizer = load_tokenizer(elsewhere.place / "chat")
    assert elsewhere.found["tokens"] == {
        "ids": encode("3+4=", tokenizer),
        "text": "<user>3+4<model>",
        "mask": tokenizer.mask_token_id,
    }


def test_an_export_that_transformers_saved_loads_here(elsewhere: Elsewhere) -> None:
    case = list(CASES)[-1]
    again = load_model(elsewhere.place / "saved_again", dtype=None)
    ours = elsewhere.models[case]
    assert again.spec == ours.spec
    assert our_logits(again, TEXTS[0]).equal(our_logits(ours, TEXTS[0]))
    assert (elsewhere.place / "saved_again" / "modeling_unmask.py").is_file()


def test_transformers_logs_no_doubt(elsewhere: Elsewhere) -> None:
    # Such as another model type, or weights that are missing or unexpected.
    assert elsewhere.logged == [], elsewhere.logged


def test_the_files_of_an_export(tmp_path: Path) -> None:
    model = toy_checkpoint(tmp_path / "model")
    (model / "LICENSE").write_text("text")
    for folder in ("LICENSES", "tokenizer"):  # folders of a repository are none of the files
        (model / folder).mkdir()
    (model / "tokenization_own.py").write_text("pass")
    facts = export(ExportParams(str(model), own_code=True), tmp_path / "out")
    assert facts.code == "own" and facts.spec == load_model(model).spec
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("LICENSE", "README.md", "config.json", "generation_config.json", "model.safetensors"),
        *("modeling_unmask.py", "tokenization_own.py", "tokenizer.json", "tokenizer_config.json"),
    }
    same = ("model.safetensors", "tokenizer.json", "tokenizer_config.json", "LICENSE")
    assert all((tmp_path / "out" / n).read_bytes() == (model / n).read_bytes() for n in same)
    assert json.loads((tmp_path / "out" / "generation_config.json").read_text()) == {
        "eos_token_id": 0
    }
    before = json.loads((model / "config.json").read_text())
    after = json.loads((tmp_path / "out" / "config.json").read_text())
    assert before == {name: after[name] for name in before}
    assert after.keys() - before.keys() == {"auto_map", "unmask"}


def test_the_class_that_the_authors_registered_is_named(tmp_path: Path) -> None:
    code = with_code("dream", tmp_path / "code")
    facts = export(ExportParams(str(code), name="me/model"), tmp_path / "out")
    assert (facts.code, facts.auto) == ("published", "AutoModel")
    card = (tmp_path / "out" / "README.md").read_text()
    assert 'AutoModel.from_pretrained("me/model", trust_remote_code=True)' in card
    assert "# model\n" in card and "modeling_unmask" not in card
    facts = export(ExportParams(str(code), own_code=True), tmp_path / "own")
    assert (facts.code, facts.auto) == ("own", "AutoModelForCausalLM")
    assert [path.name for path in (tmp_path / "own").glob("*.py")] == ["modeling_unmask.py"]


def test_shards_are_copied_with_their_index(tmp_path: Path) -> None:
    model = family_model("sdar")
    save_model(model, tmp_path / "model", max_shard_bytes=40_000)
    export(ExportParams(str(tmp_path / "model")), tmp_path / "out")
    assert len(list((tmp_path / "out").glob("model-*.safetensors"))) > 1
    again = load_model(tmp_path / "out")
    assert our_logits(again, TEXTS[0]).equal(our_logits(model, TEXTS[0]))


def test_a_run_is_exported_by_its_model_or_its_adapters(tmp_path: Path) -> None:
    run = trained_run(tmp_path / "run", "them/base")
    for place in (run, run / "model"):
        facts = export(ExportParams(str(place)), tmp_path / f"out-{place.name}")
        assert (facts.origin.base, facts.code) == ("them/base", "own")
    base = toy_checkpoint(tmp_path / "base")
    adapted, model = adapted_run(tmp_path / "adapted", base, str(base))
    text = [5, 1, 1, 7]
    export(ExportParams(str(adapted), merge_lora=True), tmp_path / "merged")
    merged = load_model(tmp_path / "merged")
    assert torch.allclose(our_logits(merged, text), our_logits(model, text), atol=1e-4)
    named = ExportParams(str(adapted), base="me/base")
    assert export(named, tmp_path / "named").code == "adapter"


def test_user_mistakes_are_one_sentence(tmp_path: Path) -> None:
    model = toy_checkpoint(tmp_path / "model")
    base, out = toy_checkpoint(tmp_path / "base"), tmp_path / "out"
    adapted, _ = adapted_run(tmp_path / "adapted", base, str(base))
    unfinished = past_run(tmp_path / "unfinished")
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text('{"architectures": ["Unheard"]}')
    cases: list[tuple[ExportParams, Path, str]] = [
        (ExportParams(str(tmp_path / "none")), out, "none: no such directory"),
        (ExportParams("them/none"), out, "the hub did not give it"),
        (ExportParams(str(model)), base, "base is there already"),
        (ExportParams(str(other)), out, "no family has the architecture 'Unheard'"),
        (ExportParams(str(unfinished)), out, "has no model/, which a run writes at its end"),
        (ExportParams(str(model), merge_lora=True), out, "--merge-lora: .*no run that trained"),
        (ExportParams(str(adapted)), out, "is not on the Hub: give --merge-lora"),
        (ExportParams(str(model), evaluations=(model,)), out, "model: is not a run"),
        (
            ExportParams(str(model), evaluations=(unfinished,)),
            out,
            "no finished run of `unmask eval`",
        ),
    ]
    for params, place, message in cases:
        with pytest.raises(ValueError, match=message):
            export(params, place)
        assert not out.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("adapted", "base", "model", "other", "unfinished")
    ]


def test_what_the_result_lacks_is_noted(tmp_path: Path) -> None:
    save_model(family_model("lladav"), tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    elsewhere = {"auto_map": {"AutoModel": "them/theirs--modeling_theirs.Model"}}
    (tmp_path / "model" / "config.json").write_text(json.dumps(config | elsewhere))
    facts = export(ExportParams(str(tmp_path / "model")), tmp_path / "out")
    first, second, third, fourth = notes(facts)
    assert first.startswith("auto_map names them/theirs--modeling_theirs.Model: modeling_unmask.py")
    assert second.startswith("images: modeling_unmask.py reads text")
    assert third.startswith("tokenizer: ") and fourth.startswith("licence: none is stated")
    licensed = ExportParams(str(tmp_path / "out"), licence="mit")
    assert [line[:6] for line in notes(export(licensed, tmp_path / "again"))] == [
        "images",
        "tokeni",
    ]
