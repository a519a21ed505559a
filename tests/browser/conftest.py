"""Debian's Chromium driven by Playwright, and a shop behind the real API for it to look at.

A browser lives as long as the tests of one file: Playwright's loop would be in the way of other tests' own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from tests.browser.serving import Service
from tests.browser.shop import Shop, incident
from tests.parts.requirements import ROOT

SCREENSHOTS = ROOT / "tests" / "output" / "page"
WAIT_MS = 20_000
expect.set_options(timeout=WAIT_MS)
LARGE = {"width": 1440, "height": 900}
Open = Callable[..., Page]


@pytest.fixture(scope="module")
def browser(chromium_binary: Path) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # Root, as in a container, has no sandbox of Chromium's.
        started = playwright.chromium.launch(executable_path=chromium_binary, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def shop() -> Shop:
    """Payments on android fail, and alerts stand in every state."""
    return incident(datetime.now(timezone.utc))


@pytest.fixture
def service(shop: Shop) -> Iterator[Service]:
    with Service(shop) as started:
        yield started


@pytest.fixture
def complaints() -> list[str]:
    """What the browser had to complain of; a test that expects some takes them out."""
    return []


@pytest.fixture
def visit(browser: Browser, complaints: list[str]) -> Iterator[Open]:
    """Opens a live page as a reader would have it, and waits for its numbers."""
    contexts = []

    def note(message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            complaints.append(message.text)

    def opened(url: str, *, before: Callable[[Page], None] = lambda _: None, **options: Any) -> Page:
        context = browser.new_context(**{"viewport": LARGE, "locale": "en-GB", "timezone_id": "UTC", **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(WAIT_MS)
        page.on("console", note)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        before(page)
        page.goto(url)
        page.wait_for_selector(".funnel .rate:not(:empty)")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def open_page(service: Service, visit: Open) -> Open:
    """Opens the page of the shop at an address' end. The service comes first, so that it outlives the pages."""
    return lambda end="", **options: visit(f"{service.url}/{end}", **options)


@pytest.fixture
def keep_screenshot() -> Callable[[Page, str], None]:
    """Screenshots stay, to be looked at."""

    def keep(page: Page, name: str) -> None:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)

    return keep
