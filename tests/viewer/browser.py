"""One headless Chromium for the tests of pages; Debian's, since the wheel of Playwright brings none."""

import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed")
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]


@contextmanager
def chromium() -> Generator[Browser]:
    """Yield a browser; close it at the end."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield browser
        browser.close()


@contextmanager
def opened(
    browser: Browser, path: Path, place: str = "", moves: bool = False, **options: Any
) -> Generator[Page]:
    """Yield a page of a file, and check at the end that nothing failed in it.

    Args:
        browser: that opens it.
        path: of the file.
        place: the part of the address from `#`.
        moves: whether trajectories play themselves; otherwise they open at their last step.
        options: of the browser's context: viewport, colour scheme.
    """
    options["reduced_motion"] = "no-preference" if moves else "reduce"
    context = browser.new_context(**options)
    page, problems = context.new_page(), list[str]()
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: problems.extend(_foreign(request.url)))
    page.goto(f"{path.as_uri()}{place}")
    yield page
    context.close()
    assert not problems, problems


def _foreign(url: str) -> list[str]:
    """Return what a page may not ask for: anything but itself and its embedded data."""
    return [] if url.startswith(("file:", "data:", "blob:")) else [f"request of {url}"]
