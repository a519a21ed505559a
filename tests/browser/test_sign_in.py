"""The live page of a service with tokens: signing in, with a wrong token too, what is live then, and signing out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect

from schemas.access import Access, hash_of, new_token
from tests.browser import shop as shops
from tests.browser.serving import Service
from tests.browser.shop import Shop

READER, SCRAPER = new_token(), new_token()
TOKENS = {"wall display": (READER, ["read"]), "prometheus": (SCRAPER, ["metrics"])}
Visit = Callable[..., Page]


@pytest.fixture
def guarded(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    tokens = [{"name": name, "hash": hash_of(token), "scopes": scopes} for name, (token, scopes) in TOKENS.items()]
    access = Access.model_validate({"tokens": tokens})
    monkeypatch.setattr(shops, "CONFIG", shops.CONFIG.model_copy(update={"access": access}))
    with Service(shop) as started:
        yield started


@pytest.fixture
def visit(browser: Browser, guarded: Service, complaints: list[str]) -> Iterator[Visit]:
    """Opens the page, in a browser that has not been there."""
    contexts: list[BrowserContext] = []

    def opened(end: str = "", **options: Any) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, "locale": "en-GB", **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("console", lambda message: complaints.append(message.text) if message.type in {"error", "warning"} else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"{guarded.url}/{end}")
        return page

    yield opened
    for context in contexts:
        context.close()


def sign_in(page: Page, token: str) -> None:
    page.get_by_label("Token").fill(token)
    page.keyboard.press("Enter")


def inside(page: Page) -> None:
    expect(page.locator("#mode")).to_have_class("mode live")
    page.wait_for_selector(".funnel .rate:not(:empty)")


def test_a_page_asks_for_a_token_and_shows_nothing_before(visit: Visit, complaints: list[str]) -> None:
    """The cursor is in the field, and it has asked for no data in vain."""
    page = visit()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    expect(page.get_by_label("Token")).to_be_focused()
    expect(page.locator("#live")).to_be_hidden()
    assert page.locator(".funnel").count() == 0
    assert complaints == []


def test_with_a_right_token_the_page_is_live(visit: Visit, shop: Shop, complaints: list[str]) -> None:
    """Over its one connection, which a cookie opens that no script can read."""
    page = visit("#window.purchase=5m")
    sign_in(page, READER)
    inside(page)
    expect(page.locator("#signed-in")).to_contain_text("Signed in as wall display")
    expect(page.locator("#sign-in")).to_be_hidden()
    shop.per_minute = 2400
    expect(page.locator(".funnel >> nth=0 >> .users b >> nth=0")).to_have_text("12,000")
    assert page.url.endswith("#window.purchase=5m")
    assert page.evaluate("document.cookie") == ""
    assert READER not in page.url + page.content() + str(page.evaluate("JSON.stringify([localStorage, sessionStorage])"))
    (cookie,) = page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    assert complaints == []


def test_a_browser_that_was_signed_in_still_is(visit: Visit, guarded: Service) -> None:
    """In another tab, and after the service was started anew."""
    page = visit()
    sign_in(page, READER)
    inside(page)
    guarded.stop()
    guarded.start()
    other = page.context.new_page()
    other.goto(guarded.url)
    inside(other)


def test_a_wrong_token_is_said_to_be_wrong(visit: Visit, complaints: list[str]) -> None:
    page = visit()
    sign_in(page, "fw_wrong")
    expect(page.get_by_role("alert").first).to_have_text("That token is not known here, or it has expired.")
    expect(page.get_by_label("Token")).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_label("Token")).to_be_focused()
    assert complaints == ["Failed to load resource: the server responded with a status of 401 (Unauthorized)"]
    page.keyboard.type(READER)  # over what is selected
    page.get_by_role("button", name="Sign in").click()
    inside(page)


def test_a_token_for_something_else_says_what_it_lacks(visit: Visit) -> None:
    page = visit()
    sign_in(page, SCRAPER)
    expect(page.get_by_role("alert").first).to_contain_text("“prometheus” may not read here")
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()


def test_signing_out_leaves_nothing_behind(visit: Visit, guarded: Service) -> None:
    page = visit()
    sign_in(page, READER)
    inside(page)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Token")).to_be_visible()
    assert page.context.cookies() == []
    assert page.locator(".funnel").count() == 0
    page.wait_for_timeout(500)
    assert guarded.hub.clients == 0


def test_who_is_shut_out_in_the_middle_is_asked_again(visit: Visit, guarded: Service) -> None:
    """Signed out in another tab, or the token was taken out of the config."""
    page = visit()
    sign_in(page, READER)
    inside(page)
    page.context.clear_cookies()
    guarded.stop()
    guarded.start()
    expect(page.get_by_label("Token")).to_be_visible()
    assert page.locator(".funnel").count() == 0
    sign_in(page, READER)
    inside(page)


@pytest.mark.parametrize(("width", "language", "scheme"), [(375, "zh-CN", "dark"), (1280, "en-GB", "light")])
def test_signing_in_is_for_everyone(
    visit: Visit, keep_screenshot: Callable[[Page, str], None], scheme: str, width: int, language: str
) -> None:
    """axe finds nothing, with a complaint shown too; in both languages, and nothing is cut off on a phone."""
    page = visit(viewport={"width": width, "height": 700}, locale=language, color_scheme=scheme)
    chinese = language.startswith("zh")
    expect(page.get_by_role("heading", name="登录" if chinese else "Sign in")).to_be_visible()
    page.get_by_label("令牌" if chinese else "Token").fill("fw_wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert").first).to_contain_text("未知或已过期" if chinese else "not known here")
    assert Axe().run(page).response["violations"] == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    keep_screenshot(page, f"sign-in-{language[:2]}-{scheme}")


def test_the_api_docs_say_where_to_sign_in(visit: Visit) -> None:
    page = visit("docs")
    page.get_by_role("link", name="sign in on the live page").click()
    expect(page.get_by_label("Token")).to_be_visible()
