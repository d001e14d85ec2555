"""`[sampling]` holds every field of `SamplingParams`, and a preset stands below what is stated."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from unmask.configs.eval import EvalConfig
from unmask.configs.keys import to_toml
from unmask.configs.load import dump, flatten, load_config
from unmask.configs.sampling import SamplingConfig
from unmask.presets import PRESETS, preset
from unmask.sampling_params import SamplingParams

NEEDED = ["model.path=m", "task.kind=json", "task.test=t.json"]


def load(tmp_path: Path, text: str = "", *words: str) -> SamplingConfig:
    """Return the sampling of a file and some words."""
    file = tmp_path / "eval.toml"
    file.write_text(text)
    config, _ = load_config(EvalConfig, [file], [*NEEDED, *words])
    return config.sampling


def test_every_field_is_a_key_with_the_same_default() -> None:
    # With `min_tokens` tokens are drawn from fewer ids than the learner scores.
    others = {"seed", "n", "pinned", "min_tokens"}
    names = {field.name for field in fields(SamplingParams)} - others
    assert SamplingConfig.model_fields.keys() == names | {"preset"}
    assert SamplingConfig().to_params() == SamplingParams()
    assert SamplingConfig().to_params(seed=3, n=2) == SamplingParams(seed=3, n=2)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_gives_its_values(name: str) -> None:
    assert SamplingConfig(preset=name).to_params() == preset(name)
    assert f"`{name}`" in (SamplingConfig.model_fields["preset"].description or "")


def test_what_is_stated_wins_over_the_preset_wherever_it_is_stated(tmp_path: Path) -> None:
    file = """sampling = { preset = "llada2_1", threshold = 0.9 }"""
    expected = preset("llada2_1", threshold=0.9)
    assert load(tmp_path, file).to_params() == expected
    assert load(tmp_path, "", "sampling.threshold=0.9", "sampling.preset=llada2_1") == load(
        tmp_path, file
    )
    # A default that is stated is stated, and so is none.
    found = load(tmp_path, file, "sampling.temperature=1", "sampling.edit_threshold=none")
    assert (found.temperature, found.edit_threshold) == (1, None)
    assert load(tmp_path, file, "sampling.preset=none").to_params() == SamplingParams(threshold=0.9)


def test_a_stored_configuration_loads_as_the_same_values() -> None:
    config = SamplingConfig(preset="dream_official", top_p=0.9)
    assert SamplingConfig.model_validate(dump(config)) == config
    other: dict[str, Any] = dump(config) | {"preset": "sdar"}
    assert SamplingConfig.model_validate(other).schedule == "linear"


def test_an_unknown_preset_is_refused_with_those_that_exist(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError,
        match=r"sampling\.preset \(command line\): 'sdra' must be one of sdar, sdar_static, .*lowconf",
    ):
        load(tmp_path, "", "sampling.preset=sdra")
    with pytest.raises(ValueError, match=r"sampling\.preset = 3 \(command line\): must be string"):
        load(tmp_path, "", "sampling.preset=3")


def variations(tmp_path: Path, text: str, *words: str) -> EvalConfig:
    file = tmp_path / "eval.toml"
    file.write_text(text)
    return load_config(EvalConfig, [file], [*NEEDED, *words])[0]


def test_variations_are_the_base_where_they_say_nothing(tmp_path: Path) -> None:
    text = "sampling.max_tokens = 9\nvariations.low.threshold = 0.5\n[variations.static]\n"
    config = variations(tmp_path, text + "strategy = 'static'", "variations.low.top_k=3")
    assert list(config.samplings) == ["low", "static"]
    assert config.samplings["low"] == SamplingConfig(max_tokens=9, threshold=0.5, top_k=3)
    assert config.samplings["static"] == SamplingConfig(max_tokens=9, strategy="static")
    assert EvalConfig.model_validate(dump(config)) == config


def test_a_variations_preset_wins_over_the_base_and_its_own_keys_over_that(tmp_path: Path) -> None:
    text = "sampling = { temperature = 0.7, max_tokens = 9 }\n"
    words = ("variations.a.preset=llada2_1", "variations.a.threshold=0.9")
    found = variations(tmp_path, text, *words).samplings["a"]
    assert found.to_params() == preset("llada2_1", threshold=0.9, max_tokens=9)


def test_without_variations_the_base_is_measured_under_its_strategys_name(tmp_path: Path) -> None:
    config = variations(tmp_path, "sampling.strategy = 'static'")
    assert config.samplings == {"static": config.sampling}


def test_a_stored_variation_loads_again_from_key_value_words(tmp_path: Path) -> None:
    config = variations(tmp_path, "variations.a.block_size = 4")
    words = [f"{name}={to_toml(value)}" for name, value in flatten(dump(config))]
    assert load_config(EvalConfig, [], words)[0] == config
    again = variations(tmp_path, "variations.a.block_size = 4", "variations.a.block_size=none")
    assert again.samplings["a"].block_size is None


def test_a_misspelt_key_of_a_variation_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^unknown key variations\.a\.thresold .*threshold"):
        variations(tmp_path, "variations.a.thresold = 0.5")
    with pytest.raises(ValueError, match=r"a = 3 .*: must be a table with keys such as .*strategy"):
        variations(tmp_path, "variations.a = 3")
    with pytest.raises(ValueError, match=r"a\.threshold = 7 .*: must be float > 0, <= 1$"):
        variations(tmp_path, "variations.a.threshold = 7")


def test_a_temperature_below_the_least_is_refused_by_its_key(tmp_path: Path) -> None:
    assert load(tmp_path, "", "sampling.temperature=0").temperature == 0
    with pytest.raises(
        ValueError, match=r"^sampling\.temperature \(command line\): 1e-09 must be 0"
    ):
        load(tmp_path, "", "sampling.temperature=1e-9")


def test_structured_output_is_a_key_and_contradictions_are_refused(tmp_path: Path) -> None:
    assert load(tmp_path, "", "sampling.regex=[0-9]+").to_params().regex == "[0-9]+"
    with pytest.raises(ValueError, match="regex and json_schema: a response matches one of them"):
        load(tmp_path, 'sampling = { regex = "a", json_schema = "{}" }\n')
    with pytest.raises(ValueError, match="json_schema with edit_threshold or remask_threshold"):
        load(tmp_path, 'sampling = { json_schema = "{}", edit_threshold = 0.5 }\n')
    with pytest.raises(ValueError, match="regex with stop = "):
        load(tmp_path, 'sampling = { regex = "a", stop = ["x"] }\n')
