"""Configurations that come with unmask, by name: `rl/chain_sum`, `methods/spg`, `recipes/rl/trado_4b_math`.

An installed wheel holds them in `unmask/shipped`. A clone, and an editable install of one, has no such folder
and reads `configs`, where they are edited. A file of the user always wins over a name.
"""

from pathlib import Path, PurePath

_PACKAGE = Path(__file__).parents[1]
_INSTALLED = _PACKAGE / "shipped"
FOLDER = _INSTALLED if _INSTALLED.is_dir() else _PACKAGE.parents[1] / "configs"


def shipped_files() -> dict[str, Path]:
    """Return the files that `unmask config list` names: TOML files without their ending, launchers with it."""
    files = sorted(path for path in FOLDER.rglob("*") if path.suffix in (".toml", ".yaml", ".sh"))
    return {path.relative_to(FOLDER).as_posix().removesuffix(".toml"): path for path in files}


def name_of(word: str | PurePath) -> str:
    """Return the name in a word such as `rl/chain_sum.toml` or `configs/rl/chain_sum.toml`."""
    return PurePath(word).as_posix().removeprefix("configs/").removesuffix(".toml")


def listing() -> str:
    """Return a line per shipped file: its name and the first line of its comment."""
    files = shipped_files()
    width = max(map(len, files), default=0)
    lines = {name: path.read_text(encoding="utf-8").splitlines() for name, path in files.items()}
    titles = {
        name: next(line for line in text if line.startswith("# ")) for name, text in lines.items()
    }
    return "\n".join(f"{name:<{width}}  {title[2:]}" for name, title in titles.items())


def text_of(word: str) -> str:
    """Return the text of a shipped file, without the line that names a schema by a path next to it.

    Raises:
        ValueError: if no shipped file has that name.
    """
    path = shipped_files().get(name_of(word))
    if path is None:
        raise ValueError(
            f"{word}: no such configuration; `unmask config list` names those that exist"
        )
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("#:schema"))
