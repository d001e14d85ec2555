"""Sources are laid over each other in order; a mistake names the key, the value and the remedy."""

import tomllib
from pathlib import Path

import pytest

from unmask.configs.keys import to_toml
from unmask.configs.load import dump, flatten, load_config
from unmask.configs.rl import RLConfig
from unmask.configs.sft import SFTConfig
from unmask.configs.task import JsonTaskConfig, ReasoningGymConfig

NEEDED = ("model.path=m", "task.kind=json")


def write(folder: Path, text: str, name: str = "a.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def complaint(*overrides: str, files: tuple[Path, ...] = ()) -> list[str]:
    """Return the lines of the error that these sources cause."""
    with pytest.raises(ValueError) as caught:
        load_config(RLConfig, files, overrides)
    return str(caught.value).splitlines()


def test_later_sources_win_key_by_key(tmp_path: Path) -> None:
    first = write(
        tmp_path, 'steps = 1\n[model]\npath = "a"\n[optimizer]\nlr = 0.1\neps = 0.2', "a.toml"
    )
    second = write(tmp_path, 'steps = 2\n[optimizer]\nlr = 0.3\n[task]\nkind = "json"', "b.toml")
    config, origins = load_config(RLConfig, [first, second], ["steps=3"])
    assert (config.steps, config.optimizer.lr, config.optimizer.eps) == (3, 0.3, 0.2)
    assert origins["steps"] == "command line"
    assert origins["optimizer.lr"] == str(second)
    assert origins["optimizer.eps"] == str(first)
    assert origins["optimizer.betas"] == "default"


def test_every_resolved_key_has_an_origin() -> None:
    config, origins = load_config(RLConfig, [], NEEDED)
    assert list(origins) == [name for name, _ in flatten(dump(config))]


@pytest.mark.parametrize(
    ("override", "section", "key", "value"),
    [
        ("optimizer.lr=1e-4", "optimizer", "lr", 1e-4),
        ("optimizer.betas = [0.8, 0.9]", "optimizer", "betas", (0.8, 0.9)),
        ("optimizer.clip_norm=none", "optimizer", "clip_norm", None),
        ("sampling.stop_token_ids=[1, 2]", "sampling", "stop_token_ids", (1, 2)),
        ("filter.drop_uniform=false", "filter", "drop_uniform", False),
        ("model.path=runs/x=y #1", "model", "path", "runs/x=y #1"),
        ('model.path="7"', "model", "path", "7"),
        ("run.dir=2026-01-31", "run", "dir", Path("2026-01-31")),
    ],
)
def test_override_values(override: str, section: str, key: str, value: object) -> None:
    config, _ = load_config(RLConfig, [], [*NEEDED, override])
    assert getattr(getattr(config, section), key) == value


def test_tables_in_overrides_are_merged() -> None:
    overrides = ["task.kind=reasoning_gym", "task.name=x", "task.args={a=1}", "task.args.b=[2]"]
    config, origins = load_config(RLConfig, [], ["model.path=m", *overrides])
    assert isinstance(config.task, ReasoningGymConfig)
    assert config.task.args == {"a": 1, "b": [2]}
    assert origins["task.args.b"] == "command line"


def test_none_takes_the_place_of_a_table_and_back() -> None:
    config, _ = load_config(RLConfig, [], [*NEEDED, "eval.sampling.top_k=3", "eval.sampling=none"])
    assert config.eval.sampling is None
    config, _ = load_config(RLConfig, [], [*NEEDED, "eval.sampling=none", "eval.sampling.top_k=3"])
    assert config.eval.sampling is not None
    assert config.eval.sampling.top_k == 3


def test_none_empties_a_table_that_must_be_there(tmp_path: Path) -> None:
    file = write(tmp_path, '[views]\nkind = "random"\ncount = 3\n[model]\npath = "m"\n')
    with pytest.raises(ValueError, match=r"views.count .*; views=none empties views first"):
        load_config(SFTConfig, [file], ["views.kind=trace"])
    config, origins = load_config(SFTConfig, [file], ["views=none", "views.kind=trace"])
    assert config.views.kind == "trace"
    assert origins["views.kind"] == "command line"


def test_empty_table_takes_nothing_away() -> None:
    config, _ = load_config(RLConfig, [], [*NEEDED, "optimizer.lr=0.5", "optimizer={}"])
    assert config.optimizer.lr == 0.5


def test_line_break_in_an_override_brings_in_no_keys() -> None:
    config, _ = load_config(RLConfig, [], [*NEEDED, "task.name=1\nother = 2"])
    assert isinstance(config.task, JsonTaskConfig)
    assert config.task.name == "1\nother = 2"


def test_dump_loads_again(tmp_path: Path) -> None:
    config, _ = load_config(SFTConfig, [], ["model.path=m", "optimizer.clip_norm=none"])
    assert SFTConfig.model_validate(dump(config)) == config


@pytest.mark.parametrize(
    ("override", "line"),
    [
        (
            "sampling.treshold=0.5",
            "unknown key sampling.treshold (command line);"
            " did you mean sampling.threshold or eval.sampling.threshold or sampling.edit_threshold?",
        ),
        ("lr=1", "unknown key lr (command line); here that is optimizer.lr or advantage.lr"),
        ("optimiser.lr=1", "unknown key optimiser (command line); did you mean optimizer?"),
        (
            "zzz=1",
            "unknown key zzz (command line);"
            " `unmask config rl --keys` (or sft, eval) lists those that exist",
        ),
        (
            "task.args.n=1",
            'unknown key task.args (command line); it exists only when task.kind = "reasoning_gym"',
        ),
        ("steps=abc", 'steps = "abc" (command line): must be int >= 1'),
        ("optimizer.lr=-1", "optimizer.lr = -1 (command line): must be float > 0"),
        ("optimizer.lr=none", 'optimizer.lr = "none" (command line): must be float > 0'),
        (
            "optimizer.betas=[0.9, 1]",
            "optimizer.betas = [0.9, 1] (command line): must be [float >= 0, < 1, float >= 0, < 1]",
        ),
        (
            "optimizer.betas=[1]",
            "optimizer.betas = [1] (command line): must be [float >= 0, < 1, float >= 0, < 1]",
        ),
        (
            "task.verifier.workers=0",
            "task.verifier.workers = 0 (command line): must be int >= 1, <= 1024",
        ),
        (
            "sampling.confidence=row",
            'sampling.confidence = "row" (command line): must be "raw" | "filtered"',
        ),
        (
            "rollout=3",
            "rollout = 3 (command line): must be a table with keys such as rollout.prompts",
        ),
        (
            "rollout=[{}]",
            "rollout = [{}] (command line): must be a table with keys such as rollout.prompts",
        ),
        (
            "optimizer.betas=[{}, 0.9]",
            "optimizer.betas[0] = {} (command line): must be [float >= 0, < 1, float >= 0, < 1]",
        ),
        ("run.dir.x=1", "run.dir = {x = 1} (command line): must be path"),
        (
            "task.kind=jsn",
            'task.kind = "jsn" (command line): must be "reasoning_gym" | "json" | "dataset" | "pictures"',
        ),
        ("just-a-word", "'just-a-word': an override is written key=value"),
        ("=3", "'=3': an override is written key=value"),
    ],
)
def test_mistake_is_one_clear_line(override: str, line: str) -> None:
    assert complaint(*NEEDED, override) == [line]


@pytest.mark.parametrize(
    "override",
    [
        "engine.max_sequences=99999999999",
        "engine.cache_tokens=99999999999",
        "engine.row_budget=99999999999",
        "task.size=1e14",
        "task.seed=99999999999999999999",
        "task.verifier.workers=99999",
        "task.verifier.time_limit_s=1e300",
        "run.threads=100000",
        "run.seed=99999999999999999999",
        "rollout.prompts=99999999999",
        "rollout.responses=99999999999",
        "sampling.max_tokens=99999999999",
        "sampling.block_size=99999999999",
        "sampling.stop_token_ids=[99999999999]",
        "steps=99999999999",
        "minibatches=-99999999999",
        "optimizer.token_budget=1e300",
        "optimizer.lr=1e300",
        "lora.rank=99999999999",
        "eval.samples=99999999999",
        "model.mask_id=99999999999",
        "model.mask_id=-99999999999",
    ],
)
def test_an_absurd_number_is_refused_and_named(override: str) -> None:
    name, _, number = override.partition("=")
    (line,) = complaint("model.path=m", "task.kind=reasoning_gym", "task.name=gcd", override)
    assert line.startswith(name)
    assert to_toml(tomllib.loads(f"x = {number}")["x"]).strip("[]") in line


@pytest.mark.parametrize(
    ("override", "line"),
    [
        (f"task.args.x={'[' * 5000}", "task.args.x: nested deeper than 100"),
        (f"task.args{'.a' * 200}=1", "the configuration: nested deeper than 100"),
        (f"steps={'9' * 5000}", "steps: a number of too many digits"),
    ],
)
def test_text_that_would_exhaust_the_parser_is_refused(override: str, line: str) -> None:
    (found,) = complaint("model.path=m", "task.kind=reasoning_gym", "task.name=gcd", override)
    assert found.startswith(line)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = " + "[" * 5000, "nested deeper than 100"),
        (f"[{'.'.join('a' * 5000)}]\nb = 1", "nested deeper than 100"),
        ("x = " + "9" * 5000, "a number of too many digits"),
    ],
)
def test_a_file_that_would_exhaust_the_parser_is_refused(
    tmp_path: Path, text: str, words: str
) -> None:
    path = write(tmp_path, text)
    (line,) = complaint(*NEEDED, files=(path,))
    assert line.startswith(f"{path}: {words}")


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    path = write(tmp_path, "\ufeffsteps = 7\n")
    assert load_config(RLConfig, [path], NEEDED)[0].steps == 7


@pytest.mark.parametrize("value", ["3.5", "{}", "[{}]", "[[1, {}]]", '"a"', "{a = 1}"])
def test_mistake_in_a_key_of_two_types_names_both(value: str) -> None:
    lines = complaint(*NEEDED, f"views.train_block={value}")
    assert lines and all("views.train_block" in line for line in lines)


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("0", 'data.canvas_tokens = 0 (command line): must be int >= 1 | "longest" | none'),
        ("long", 'data.canvas_tokens = "long" (command line): must be int >= 1 | "longest" | none'),
    ],
)
def test_mistake_in_a_number_that_may_be_a_word_is_one_line(value: str, line: str) -> None:
    with pytest.raises(ValueError, match="canvas_tokens") as mistake:
        load_config(SFTConfig, [], ["model.path=m", f"data.canvas_tokens={value}"])
    assert str(mistake.value) == line


def test_missing_keys_are_named() -> None:
    model, task = complaint()
    assert model.startswith("missing key model.path (string): Directory in")
    assert task.startswith(
        'missing key task.kind ("reasoning_gym" | "json" | "dataset" | "pictures"): Which kind'
    )
    (name,) = complaint("model.path=m", "task.kind=reasoning_gym")
    assert name.startswith("missing key task.name (string): Name of the dataset")


def test_sections_that_contradict_themselves() -> None:
    with pytest.raises(ValueError, match=r"^views \(command line\): low = 0.9 is above high = 0.1"):
        load_config(SFTConfig, [], ["model.path=m", "views.low=0.9", "views.high=0.1"])


def test_file_of_a_mistake_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, "[optimizer]\nlr = -1\nlrr = 2")
    value, key = complaint(*NEEDED, files=(path,))
    assert value == f"optimizer.lr = -1 ({path}): must be float > 0"
    assert key.startswith(f"unknown key optimizer.lrr ({path}); did you mean optimizer.lr")


def test_bad_toml_names_file_and_line(tmp_path: Path) -> None:
    path = write(tmp_path, "steps = 1\nlr =\n")
    (line,) = complaint(files=(path,))
    assert line.startswith(f"{path}: not valid TOML: ")
    assert "line 2" in line


def test_file_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(b"\xff\xfe")
    assert complaint(files=(path,))[0].startswith(f"{path}: not valid TOML: ")


def test_missing_file_names_the_nearest(tmp_path: Path) -> None:
    write(tmp_path, "", "chain_sum.toml")
    write(tmp_path, "", "zebra.toml")
    missing = tmp_path / "chainsum.toml"
    assert complaint(files=(missing,)) == [
        f"{missing}: no such file; in {tmp_path} there is chain_sum.toml"
    ]
    assert complaint(files=(tmp_path,)) == [
        f"{tmp_path}: no such file; in {tmp_path} there is chain_sum.toml, zebra.toml"
    ]
    lost = tmp_path / "no" / "a.toml"
    assert complaint(files=(lost,)) == [
        f"{lost}: no such file; there is no directory {lost.parent}; `unmask config list` names shipped ones"
    ]


def test_a_list_of_tables_is_one_key(tmp_path: Path) -> None:
    first = write(tmp_path, '[[reward]]\nkind = "outcome"\n[[reward]]\nkind = "speed"', "a.toml")
    config, origins = load_config(RLConfig, [first], NEEDED)
    assert [(term.kind, term.weight) for term in config.reward] == [("outcome", 1), ("speed", 0.1)]
    assert origins["reward"] == str(first)
    written = to_toml(dict(flatten(dump(config)))["reward"])
    again, _ = load_config(RLConfig, [], [*NEEDED, f"reward={written}"])
    assert again.reward == config.reward


@pytest.mark.parametrize(
    ("tables", "line"),
    [
        (
            '[{kind="speed", wieght=2}]',
            "unknown key reward[0].wieght (command line); did you mean reward[].weight",
        ),
        (
            '[{kind="speed", pattern="a"}]',
            'unknown key reward[0].pattern (command line); it exists only when reward[].kind = "form',
        ),
        (
            '[{kind="speed"}, {kind="speed", weight="a"}]',
            'reward[1].weight = "a" (command line): must be float',
        ),
        ('[{kind="speed", full_at=1}]', "reward[0].full_at = 1 (command line): must be float > 1"),
        ('[{kind="judge"}]', "missing key reward[0].endpoint.model (string): Name of the model"),
        ('[{kind="judge", endpoint={}}]', "missing key reward[0].endpoint.model (string): Name"),
        ("[{weight=1}]", "missing key reward[0].kind ("),
        ('[{kind="sped"}]', 'reward[0].kind = "sped" (command line): must be "outcome" | "speed"'),
        ("[3]", "reward = [3] (command line): must be [table, ...]"),
        (
            '[{kind="format", pattern="("}]',
            "reward[0].pattern (command line): pattern = '(' is no regular expression",
        ),
        (
            '[{kind="judge", endpoint={model="m"}, low=9, high=1}]',
            "reward[0] (command line): low = 9.0 must be below high = 1.0",
        ),
    ],
)
def test_a_mistake_in_a_list_of_tables_names_its_place(tables: str, line: str) -> None:
    (found,) = complaint(*NEEDED, f"reward={tables}")
    assert found.startswith(line)


@pytest.mark.parametrize("cls", [RLConfig, SFTConfig])
def test_training_from_adapters_is_refused(cls: type[RLConfig | SFTConfig]) -> None:
    words = [*NEEDED, "model.adapter=there"]
    with pytest.raises(ValueError, match=r"^model \(.*: adapter = there: .* whole weights; give"):
        load_config(cls, [], words)
