"""The live page in a real browser: what it shows, and that it goes on showing it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import Open
from tests.browser.serving import Service
from tests.browser.shop import Shop

PURCHASE = ".funnel >> nth=0"


def users(page: Page) -> list[str]:
    """How many users the first funnel says that each stage has."""
    return page.locator(PURCHASE).locator(".users b").all_inner_texts()


def complaints_of_axe(page: Page) -> list[tuple[str, str, list[str]]]:
    """What axe finds, serious or not. It is evaluated, not put in as a script, which the page's policy would refuse."""
    found = Axe().run(page).response["violations"]
    return [(one["id"], one["impact"], [node["html"] for node in one["nodes"]][:3]) for one in found]


def live(page: Page) -> None:
    expect(page.locator("#mode")).to_have_class("mode live")


def pick(page: Page, kind: str, text: str) -> None:
    page.locator(PURCHASE).locator(f"fieldset.{kind}").get_by_role("radio", name=text, exact=True).check()


# Live


def test_numbers_change_as_events_flow(open_page: Open, shop: Shop) -> None:
    """In place: the same nodes, without a reload."""
    page = open_page()
    live(page)
    assert users(page)[0] == "1,200"
    page.evaluate("document.querySelector('.users b').mine = true")
    shop.per_minute = 2400
    expect(page.locator(PURCHASE).locator(".users b").first).to_have_text("2,400")
    assert page.evaluate("document.querySelector('.users b').mine")


def test_nothing_moves_while_numbers_change(open_page: Open, shop: Shop) -> None:
    """No layout shift worth the name, through a leak, stale data and back."""
    page = open_page()
    live(page)
    expect(page.locator(".leak .words").first).to_contain_text("loses")
    page.wait_for_timeout(1500)
    page.evaluate(
        "window.shifted = 0; new PerformanceObserver((list) => { for (const one of list.getEntries()) window.shifted += one.value; })"
        ".observe({type: 'layout-shift'})"
    )
    tops = "[...document.querySelectorAll('.funnel, .stages li, .charts li')].map((node) => node.getBoundingClientRect().top)"
    before = page.evaluate(tops)
    shop.per_minute, shop.android_pays, shop.stale, shop.lag = 1700, 0.7, True, 12_345
    expect(page.locator(PURCHASE).locator(".users b").first).to_have_text("1,700")
    page.wait_for_timeout(700)
    assert page.evaluate(tops) == before
    assert page.evaluate("window.shifted") < 0.02


def test_a_bar_is_as_long_as_its_users(open_page: Open) -> None:
    """Against the first stage, and what is gone beside it, hatched."""
    page = open_page()
    wide = "(node) => node.getBoundingClientRect().width / node.parentElement.clientWidth"
    bars = page.locator(PURCHASE).locator(".fill")
    page.wait_for_timeout(800)
    assert [round(bar.evaluate(wide), 2) for bar in bars.all()] == [1.0, 0.62, 0.5, 0.27]
    assert [round(bar.evaluate(wide), 2) for bar in page.locator(PURCHASE).locator(".gone").all()] == [1.0, 1.0, 0.62, 0.5]


def test_one_connection_brings_everything(open_page: Open) -> None:
    """While it is live, the page asks for no report and opens no second stream, however differently funnels are looked at."""
    page = open_page("#window.purchase=5m&window.signup=24h&basis.signup=entries&by.purchase=device")
    live(page)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(4000)
    assert [url for url in asked if "/stream" in url or url.endswith("/alerts")] == []
    # Only the past, once a minute, and the look for a leak, every ten seconds: one for each dimension, or one.
    assert max(Counter(asked).values(), default=0) <= 2


def test_a_page_that_nobody_looks_at_costs_nothing(open_page: Open, service: Service) -> None:
    """In a tab behind others it lets its connection go, and takes it up again when it is looked at."""
    page = open_page()
    live(page)
    assert service.hub.clients == 1
    hide = "(hidden) => { Object.defineProperty(document, 'hidden', {value: hidden, configurable: true}); document.dispatchEvent(new Event('visibilitychange')); }"
    page.evaluate(hide, True)
    asked: list[str] = []
    page.wait_for_timeout(1500)
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(1500)
    assert (service.hub.clients, asked) == (0, [])
    page.evaluate(hide, False)
    live(page)
    page.wait_for_timeout(1000)
    assert service.hub.clients == 1


def test_funnels_looked_at_differently_are_both_live(open_page: Open, shop: Shop) -> None:
    """One stream brings each in its own window, basis and dimension."""
    page = open_page("#window.purchase=5m&window.signup=24h&basis.signup=entries")
    live(page)
    shop.per_minute = 2400
    expect(page.locator(".funnel >> nth=0 >> .users b >> nth=0")).to_have_text("12,000")
    expect(page.locator(".funnel >> nth=1 >> .users b >> nth=0")).to_have_text("3,456,000")


def test_the_page_comes_back_by_itself_after_a_restart(open_page: Open, service: Service, shop: Shop, complaints: list[str]) -> None:
    """It says since when nobody answers, keeps the last numbers, and is live again without a reload."""
    page = open_page()
    live(page)
    page.evaluate("window.mine = true")
    service.stop()
    expect(page.locator("#away")).to_contain_text("No answer since")
    expect(page.locator("#mode")).to_have_class("mode away")
    assert users(page)[0] == "1,200"
    shop.per_minute = 600
    service.start()
    expect(page.locator("#away")).to_be_hidden()
    expect(page.locator("#mode")).to_have_class("mode live")
    expect(page.locator(PURCHASE).locator(".users b").first).to_have_text("600")
    assert page.evaluate("window.mine")
    assert all("ERR_" in complaint for complaint in complaints)
    complaints.clear()


def test_a_connection_that_broke_is_not_live_however_lately_it_was_heard(open_page: Open) -> None:
    found = open_page().evaluate("""async () => {
        window.EventSource = class extends EventTarget {
            static OPEN = 1;
            static CLOSED = 2;
            readyState = 1;
            close() {}
        };
        const { Stream } = await import(new URL("stream.js", document.querySelector("script[type=module]").src));
        const stream = new Stream({ onFunnels() {}, onAlerts() {}, onHello() {} });
        stream.follow("anything");
        stream.source.dispatchEvent(new MessageEvent("hello", { data: "{}" }));
        const before = stream.live;
        stream.source.readyState = 0;
        return [before, stream.live];
    }""")
    assert found == [True, False]


def test_without_a_stream_the_page_asks(open_page: Open, shop: Shop, complaints: list[str]) -> None:
    """Behind a proxy that lets no stream through, numbers still come once a second, and it says how."""

    def refuse(route: Route) -> None:
        route.fulfill(status=503, body="no streams here")

    page = open_page(before=lambda page: page.route("**/api/v1/stream*", refuse))
    expect(page.locator("#mode")).to_have_class("mode asking")
    shop.per_minute = 2400
    expect(page.locator(PURCHASE).locator(".users b").first).to_have_text("2,400")
    expect(page.locator("#away")).to_be_hidden()
    assert all("503" in complaint for complaint in complaints)
    complaints.clear()


def test_stale_data_look_stale(open_page: Open, shop: Shop) -> None:
    """In words, in the bars' pattern, and with T and the lag beside the numbers."""
    page = open_page()
    live(page)
    funnel = page.locator(PURCHASE)
    expect(funnel.locator(".mark.stale")).to_be_hidden()
    fresh = funnel.locator(".fill").first.evaluate("(node) => getComputedStyle(node).backgroundImage")
    shop.stale, shop.lag, shop.behind_seconds = True, 4711, 200
    expect(funnel.locator(".mark.stale")).to_have_text("stale: a partition is more than a minute behind")
    expect(funnel.locator(".lag")).to_have_text("4,711 records waiting")
    expect(funnel.locator(".behind")).to_have_text("3 min 20 sec behind")
    assert fresh == "none"
    assert "gradient" in funnel.locator(".fill").first.evaluate("(node) => getComputedStyle(node).backgroundImage")


def test_alerts_that_cannot_be_read_are_said_to_be_of_the_past(open_page: Open, shop: Shop, complaints: list[str]) -> None:
    """Without Redis the funnels go on, and the alerts say that they do not."""
    page = open_page()
    live(page)
    shop.store_away = True
    page.evaluate("performance.now = ((now) => () => now() + 60000)(performance.now.bind(performance))")
    expect(page.locator("#alerts-note")).to_contain_text("Last known, not current: Redis")
    assert page.locator("#alerts li").count() > 0
    complaints[:] = [complaint for complaint in complaints if "503" not in complaint]


# What is chosen


def test_switches_change_the_numbers_and_the_address(open_page: Open) -> None:
    """And the address alone brings the same view."""
    page = open_page()
    pick(page, "window", "5 min")
    expect(page.locator(PURCHASE).locator(".users b").first).to_have_text("6,000")
    pick(page, "basis", "adjusted")
    expect(page.locator(PURCHASE).locator(".usual").nth(1)).to_have_text("usual 62.0%")
    pick(page, "by", "device")
    expect(page.locator(PURCHASE).locator("tbody th")).to_have_text(["android", "ios", "web"])
    address = page.url
    assert {"window.purchase=5m", "basis.purchase=adjusted", "by.purchase=device"} <= set(address.split("#")[1].split("&"))
    again = open_page(f"#{address.split('#')[1]}")
    expect(again.locator(PURCHASE).locator("tbody th")).to_have_text(["android", "ios", "web"])
    assert again.locator(PURCHASE).locator("fieldset.window input:checked").input_value() == "5m"
    assert users(again)[0] == "6,000"


def test_switches_work_by_keyboard(open_page: Open) -> None:
    """A switch is one stop of the Tab key, and the arrows go through it."""
    page = open_page()
    page.locator(PURCHASE).locator("fieldset.window input:checked").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(PURCHASE).locator(".users b").first).to_have_text("6,000")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.name") == "basis.purchase"


def test_an_address_of_no_funnel_is_as_good_as_none(open_page: Open) -> None:
    """Choices that there are not fall back to the first."""
    page = open_page("#window.purchase=7m&by.purchase=city&basis.purchase=x&lang=xx&window.gone=1m")
    assert users(page)[0] == "1,200"


# What is said


def test_the_worst_leak_is_named(open_page: Open) -> None:
    """People an hour against the target, since when, and on what it is."""
    page = open_page()
    words = page.locator(PURCHASE).locator(".leak .words")
    expect(words).to_contain_text("Begins checkout → Pays loses")
    expect(words).to_contain_text("people an hour more than it would at its target: 54.3% where 70.0% is wanted, 15.7 points under since ")
    expect(words).to_contain_text("All of them: device android, which has 40% of the people.")
    expect(page.locator(PURCHASE).locator(".is-worst .name")).to_contain_text("Pays")


def test_the_numbers_of_the_leak_are_those_of_its_step_at_every_tick(open_page: Open, shop: Shop) -> None:
    """Though which step leaks, and where, is looked for every ten seconds only."""
    page = open_page()
    funnel = page.locator(PURCHASE)
    expect(funnel.locator(".leak .words")).to_contain_text("54.3% where 70.0% is wanted")
    shop.android_pays = 0.5
    rate = funnel.locator(".is-worst .rate")
    expect(rate).not_to_have_text("54.3%", timeout=3000)
    page.wait_for_function(
        "() => { const worst = document.querySelector('.is-worst .rate'); "
        "return worst && document.querySelector('.leak .words').textContent.includes(worst.textContent + ' where'); }",
        timeout=3000,
    )


def test_a_leak_against_what_is_usual_is_named_where_there_is_no_target(open_page: Open, shop: Shop) -> None:
    """The usual rate is known on basis adjusted."""
    shop.android_pays = 0.6
    words = open_page("#basis.purchase=adjusted&window.purchase=1h").locator(PURCHASE).locator(".leak .words")
    expect(words).to_contain_text("more than usual: 67.2% where 72.0% is usual, 4.8 points under")
    expect(words).to_contain_text("All of them: device android")


def test_no_leak_is_said_to_be_none(open_page: Open, shop: Shop) -> None:
    """Everything is at its target; where people leave is said all the same."""
    shop.android_pays = 0.72
    words = open_page().locator(PURCHASE).locator(".leak .words")
    expect(words).to_contain_text(
        "No step is surely under its target or its usual rate. Most people leave at Views a product → Adds to cart"
    )


def test_a_step_shows_its_rate_with_interval_target_benchmark_and_time(open_page: Open) -> None:
    """All of it in words, beside what is drawn."""
    step = open_page("#basis.purchase=entries").locator(PURCHASE).locator(".stages li").last
    expect(step.locator(".rate")).to_have_text("54.3%")
    expect(step.locator(".interval")).to_have_text("50.3% to 58.2%")
    expect(step.locator(".target")).to_have_text("target 70.0% ✗ 15.7 under")
    expect(step.locator(".bench-words")).to_have_text("benchmark 62.0%")
    expect(step.locator(".took")).to_have_text("half within 43 sec, 9 in 10 within 2 min 50 sec")
    expect(step.locator(".lost")).to_have_text("−272 lost 45.7%")


def test_differences_of_values_are_marked_and_counted(open_page: Open) -> None:
    """Which are significant, out of how many tests, and on users none is claimed."""
    page = open_page("#basis.purchase=entries&by.purchase=device")
    funnel = page.locator(PURCHASE)
    expect(funnel.locator(".compared")).to_contain_text("3 values compared with all others, 9 tests; 3 differences are significant.")
    expect(funnel.locator("tbody tr", has_text="android").locator(".differs.less")).to_have_text("▼ 43.6")
    pick(page, "basis", "users")
    expect(funnel.locator(".compared")).to_contain_text("users at two stages are no share of one another")
    expect(funnel.locator(".differs.less")).to_have_count(0)


def test_alerts_are_told_by_sign_and_word(open_page: Open) -> None:
    """Every state, the pipeline's own alert too; none by its colour alone."""
    page = open_page()
    shown = page.locator("#alerts li")
    expect(shown).to_have_count(5)
    states = page.locator("#alerts .state:visible").all_inner_texts()
    assert states == ["▲ firing", "▲ firing", "◌ stale", "◑ recovering", "◔ pending", "○ inactive", "◌ stale", "silenced"]
    expect(shown.filter(has_text="FunnelwatchPipeline")).to_contain_text("source web")
    expect(shown.filter(has_text="CheckoutToPayLow")).to_contain_text("seen by kim at")
    page.locator("#calm summary").click()
    assert page.locator("#inactive .state.data:visible").all_inner_texts() == ["∅ no data", "… low sample"]
    expect(page.locator("#summary")).to_have_text("3 firing, 1 pending")
    assert page.title() == "(3 firing) funnelwatch"


def test_the_timeline_has_a_lane_for_each_alert_that_changed(open_page: Open) -> None:
    """With what it was when, for who cannot see it too."""
    page = open_page()
    expect(page.locator("#timeline li")).to_have_count(5)
    lane = page.locator("#timeline li", has_text="CheckoutToPayLow")
    assert [node.get_attribute("class") for node in lane.locator(".segment").all()] == [
        "segment firing",
        "segment pending",
        "segment firing",
    ]
    assert "firing from" in lane.locator(".lane-words").inner_text()


def test_trends_are_drawn_and_can_be_read_by_keyboard(open_page: Open) -> None:
    """Hour and day for each step; an arrow key reads the points out."""
    page = open_page()
    funnel = page.locator(PURCHASE)
    expect(funnel.locator(".canvas path.line[d*='L']")).to_have_count(8)
    chart = funnel.locator(".charts li").last.locator(".hour .canvas")
    assert chart.get_attribute("aria-label") == "Rate of Pays, last hour"
    assert "points; from" in (chart.get_attribute("aria-valuetext") or "")
    chart.focus()
    page.keyboard.press("Home")
    assert "%" in funnel.locator(".charts li").last.locator(".readout").inner_text()
    assert ": 7" in (chart.get_attribute("aria-valuetext") or "")


def test_what_a_number_means_is_one_hover_focus_or_tap_away(open_page: Open) -> None:
    """The same words whichever way; Escape closes them."""
    page = open_page()
    meaning = page.locator("#meaning")
    page.locator(PURCHASE).locator(".lost").nth(1).hover()
    expect(meaning).to_contain_text("Users at the stage before less users here")
    page.keyboard.press("Escape")
    expect(meaning).to_be_hidden()
    page.locator(PURCHASE).locator(".key").first.focus()
    expect(meaning).to_contain_text("Distinct entities that reached a stage")
    page.keyboard.press("ArrowRight")
    expect(meaning).to_contain_text("Users at the stage before less users here")
    page.keyboard.press("Escape")
    page.locator(PURCHASE).locator(".target").nth(2).click()
    expect(meaning).to_contain_text("The rate of a step that is wanted.")


def test_a_stage_a_rate_and_an_alert_mean_what_the_dictionary_says(open_page: Open) -> None:
    """In the config's own terms, with how it is counted."""
    page = open_page()
    live(page)
    meaning = page.locator("#meaning")
    page.locator(PURCHASE).locator(".stages .name").last.click()
    expect(meaning.locator("b")).to_have_text("Pays")
    expect(meaning).to_contain_text("“purchase”")
    page.locator(PURCHASE).locator(".rate").last.click()
    expect(meaning.locator("b")).to_have_text("Begins checkout → Pays")
    page.locator("#alerts .what b", has_text="CheckoutToPayLow").click()
    expect(meaning.locator("b")).to_have_text("CheckoutToPayLow")


def test_the_dictionary_is_a_view_with_an_address(open_page: Open) -> None:
    """Every funnel, stage, rate, dimension, alert and word of it."""
    page = open_page()
    live(page)
    page.get_by_role("button", name="Dictionary").click()
    expect(page.locator("#live")).to_be_hidden()
    shown = page.locator("#dictionary")
    for title in ("Pays", "Begins checkout → Pays", "device", "CheckoutToPayLow", "FunnelwatchPipeline", "watermark"):
        expect(shown.get_by_role("heading", name=title, exact=True).first).to_be_visible()
    assert page.url.endswith("#view=dictionary")
    page.get_by_role("button", name="Live").click()
    expect(page.locator("#live")).to_be_visible()


def test_both_languages_have_the_same_words(open_page: Open) -> None:
    """But for the plurals, of which Chinese has none; and nothing stays English in it."""
    page = open_page()
    load = "async (file) => Object.keys(Object.values(await import(`/page/${file}.js`))[0])"
    plain = [{key.removesuffix("_one").removesuffix("_other") for key in page.evaluate(load, file)} for file in ("english", "chinese")]
    assert plain[0] == plain[1]


# For everyone


def test_the_page_speaks_chinese(open_page: Open) -> None:
    """By the browser's language, and with its numbers, durations and times."""
    page = open_page(locale="zh-CN")
    live(page)
    assert page.evaluate("document.documentElement.lang") == "zh-CN"
    funnel = page.locator(PURCHASE)
    expect(funnel.locator(".leak .words")).to_contain_text("每小时比达到目标时多流失")
    expect(funnel.locator("fieldset.window")).to_contain_text("5分钟")
    expect(page.locator("#summary")).to_have_text("3 条触发中，1 条未决")
    expect(page.locator("#mode")).to_have_text("实时")


def test_the_language_can_be_chosen_and_stays_in_the_address(open_page: Open) -> None:
    """A link opens in its sender's language."""
    page = open_page()
    page.locator("#languages").get_by_role("radio", name="简体中文").check()
    expect(page.locator("#alerts-title")).to_have_text("告警")
    assert "lang=zh" in page.url
    expect(open_page(f"#{page.url.split('#')[1]}").locator("#alerts-title")).to_have_text("告警")


@pytest.mark.parametrize("width", [375, 768, 1440, 2560])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_page_fits(open_page: Open, keep_screenshot: Callable[[Page, str], None], width: int, scheme: str, language: str) -> None:
    """Nothing is wider than the window, in either scheme and language; the screenshots stay."""
    end = f"#lang={language}&by.purchase=device&basis.purchase=adjusted"
    page = open_page(end, viewport={"width": width, "height": 900}, color_scheme=scheme)
    expect(page.locator(PURCHASE).locator(".canvas path.line[d*='L']")).to_have_count(8)
    expect(page.locator(PURCHASE).locator(".differs.less")).to_have_count(1)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(244, 245, 247)", "dark": "rgb(15, 19, 25)"}[scheme]
    keep_screenshot(page, f"page-{width}-{scheme}-{language}")


@pytest.mark.parametrize(
    "options", [{"color_scheme": "light"}, {"color_scheme": "dark", "locale": "zh-CN"}, {"viewport": {"width": 375, "height": 800}}]
)
def test_axe_finds_nothing_serious(open_page: Open, shop: Shop, options: dict[str, Any]) -> None:
    """Contrast, names, roles: with alerts, values and stale data on the page."""
    shop.stale = True
    page = open_page("#by.purchase=device&basis.purchase=entries", **options)
    expect(page.locator(PURCHASE).locator(".differs.less")).to_have_count(1)
    page.locator("#calm summary").click()
    page.locator(PURCHASE).locator(".key").first.focus()
    page.wait_for_timeout(600)
    assert complaints_of_axe(page) == []
    page.get_by_role("button", name=re.compile("Dictionary|词典")).click()
    assert complaints_of_axe(page) == []
