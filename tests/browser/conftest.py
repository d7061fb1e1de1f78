"""A browser, people in it, and a folder for what they saw.

All of it lives in the session's event loop, as Playwright's objects belong to the loop that made them: test modules
here say `pytestmark = pytest.mark.asyncio(loop_scope="session")`.
"""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright

from infra.local.paths import ROOT
from infra.local.stack import Stack
from tests.browser.person import Cast
from tests.support.people import People

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
PAGE = ROOT / "web" / "dist" / "index.html"
SCREENSHOTS = ROOT / ".stack" / "screenshots"
#: As root in a container Chromium has no sandbox; the rest keeps it from calling home.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--disable-background-timer-throttling",
]


@pytest.fixture(scope="session")
def built_page() -> None:
    """What these tests can't do without; edges serve the page only if it is there when they start."""
    if not Path(CHROMIUM).exists() or not PAGE.exists():
        pytest.fail("The browser tests need Chromium and the built page: run `make setup`.")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser(built_page: None) -> AsyncIterator[Browser]:
    """Debian's Chromium, headless."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="session")
async def cast(browser: Browser, stack: Stack) -> AsyncIterator[Cast]:
    """Makes people with a browser window each; closes the windows and checks that no page complained."""
    cast = Cast(browser, stack)
    yield cast
    await cast.leave()
    assert not cast.complaints, cast.complaints


@pytest_asyncio.fixture(loop_scope="session")
async def people(stack: Stack) -> AsyncIterator[People]:
    """People without a browser, for whoever is only needed to talk."""
    people = People(stack)
    yield people
    await people.leave()
    assert not people.violations, people.violations


@pytest.fixture(scope="session")
def screenshots() -> Path:
    """Where the suite leaves pictures of the main states."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    return SCREENSHOTS
