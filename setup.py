"""What pyproject.toml cannot state: `configs` in wheels, and a readme whose links work outside of a clone."""

import re
import shutil
import tomllib
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
# [text](target), where the target is neither an address with a scheme nor a heading.
RELATIVE = r"\[([^\]]*)\]\((?![\w+.-]+:|#)([^)]+)\)"


class BuildWithConfigs(build_py):
    """Copy `configs` to `unmask/shipped`, except for an editable install, which reads `configs` itself."""

    def run(self) -> None:
        """Build the package, then add its configurations."""
        super().run()
        if not self.editable_mode:
            shipped = Path(self.build_lib) / "unmask" / "shipped"
            shutil.copytree(ROOT / "configs", shipped, dirs_exist_ok=True)


def long_description(readme: str, source: str | None) -> str:
    """Return a readme whose relative links lead to `source`; without an address, pictures go and links become text."""
    if source is None:
        return re.sub(RELATIVE, r"\1", re.sub(rf"!{RELATIVE}\n*", "", readme))
    pictured = re.sub(f"!{RELATIVE}", rf"![\1]({source}/raw/main/\2)", readme)
    return re.sub(RELATIVE, rf"[\1]({source}/blob/main/\2)", pictured)


if __name__ == "__main__":
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    setup(
        cmdclass={"build_py": BuildWithConfigs},
        long_description=long_description(text, project["urls"].get("Source")),
        long_description_content_type="text/markdown",
    )
