"""Where files stand on the site, and the links between them."""

import pytest

from tools.site import places


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        ("README.md", "index.md"),
        ("CONTRIBUTING.md", "contributing.md"),
        ("docs/engine.md", "engine.md"),
        ("docs/notebooks/first.ipynb", "notebooks/first.md"),
        ("benchmarks/results/arena/main.md", "source/benchmarks/results/arena/main.md"),
        ("benchmarks/results/exact_gradient.svg", "source/benchmarks/results/exact_gradient.svg"),
        ("benchmarks/constrained.py", "source/benchmarks/constrained.py.md"),
    ],
)
def test_every_file_has_an_address(path: str, uri: str) -> None:
    assert places.uri(path) == uri


def test_links_are_translated_outside_of_code() -> None:
    text = "[a](docs/engine.md#pages) `[b](docs/engine.md)` [c](https://docs.ray.io) [d](#cite)\n"
    fence = "```python\n[e](docs/engine.md)\n```\n"
    absolute = "[f](https://github.com/x/y/blob/main/docs/unmasking.svg)"
    assert places.of_site(text + fence + absolute, "README.md") == (
        text.replace("docs/engine.md#", "engine.md#") + fence + "[f](unmasking.svg)"
    )
    page = "docs/what-is-tested.md"
    assert places.of_site("[x](../README.md#limits)", page) == "[x](index.md#limits)"
    arena = "benchmarks/results/arena/main.md"
    assert places.of_site("[x](main-chain_sum.svg)", arena) == "[x](main-chain_sum.svg)"
    assert places.of_site("[x](missing.md)", page) == "[x](missing.md)"
    assert places.of_site("[x](docs/notebooks)", "README.md") == "[x](notebooks/reward.md)"


def test_the_name_of_a_page_becomes_its_title() -> None:
    page = "docs/serve.md"
    assert places.of_site("[engine.md](engine.md#pages)", page) == "[The engine](engine.md#pages)"
    assert (
        places.of_site("[x](engine.md) [no.md](engine.md)", page)
        == "[x](engine.md) [no.md](engine.md)"
    )


def test_a_bar_in_the_code_of_a_table_has_no_backslash() -> None:
    text = "| `a \\| b` | x \\| y |\n\n`a \\| b`"
    assert places.of_site(text, "README.md") == "| `a | b` | x \\| y |\n\n`a \\| b`"


def test_tags_of_blocks_are_left_out() -> None:
    assert places.of_site("```bash run\nls\n```\n", "README.md") == "```bash\nls\n```\n"


def test_files_that_linked_files_link_to_are_found() -> None:
    found = places.linked_files()
    assert {
        "benchmarks/results/arena/main.md",
        "benchmarks/results/arena/main-chain_sum.svg",
    } <= set(found)
    assert not [path for path in found if path.startswith("docs/")]
