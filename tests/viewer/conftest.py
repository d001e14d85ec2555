"""The browser of a module's tests."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.viewer.browser import chromium


# Not of the session: Playwright's event loop would refuse `asyncio.run` in the tests of others.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started
