"""Write the sources of the site into a folder: `python -m tools.site build/docs`, which `mkdocs.yml` reads.

The folder holds `docs/` with the links of the site, the files of the repository that pages link to, and
the pages that are made from code. Nothing here depends on the program that builds the site.
"""

import shutil
import sys
from pathlib import Path

from tools.site import generated, places


def write(folder: Path) -> None:
    """Write every source of the site; an earlier folder is replaced."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(places.ROOT / "docs", folder)
    for path in [*places.pages(), *places.linked_files()]:
        text = (places.ROOT / path).read_bytes()
        if path.endswith(".md"):
            text = places.of_site(text.decode(), path).encode()
        elif Path(path).suffix not in places.AS_THEY_ARE:
            text = generated.source_page(path).encode()
        _write(folder / places.uri(path), text)
    for notebook in (places.ROOT / "docs").rglob("*.ipynb"):
        path = notebook.relative_to(places.ROOT).as_posix()
        _write(folder / places.uri(path), generated.notebook_page(path).encode())
    made = {name: generated.interface_page(name) for name in generated.INTERFACE}
    made |= {"package": generated.package_page(), "commands": generated.cli_page()}
    made |= {"keys": generated.keys_page()}
    for name, text in made.items():
        _write(folder / "reference" / f"{name}.md", text.encode())


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
