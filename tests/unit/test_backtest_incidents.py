"""Labelled incidents: what files of them may hold, and how rules are scored on them."""

from __future__ import annotations

import pytest

from alerting.incidents import Incident, Page, check, parse, score, spans
from alerting.lifecycle import AlertKey
from alerting.reports import moment
from schemas.duration import MICROS
from schemas.errors import UsageError
from schemas.report import Transition
from tests.parts.backtest import config

RULE = config({"by": ["device"]}).alerts[0]
TOTAL, IOS, WEB = AlertKey("PayLow"), AlertKey("PayLow", "device", "ios"), AlertKey("PayLow", "device", "web")
SPAN = (0, 10_000 * MICROS)


def told(at: int, state: str, alert: AlertKey = TOTAL) -> Transition:
    return Transition(
        at=moment(at * MICROS), rule=alert.rule, funnel="shop", stage="pay", dimension=alert.dimension, value=alert.value,
        state=state, numerator=1, denominator=2, rate=0.5, threshold=0.4,
    )  # fmt: skip


def incident(start: int, end: int, **where: str) -> Incident:
    return Incident(start * MICROS, end * MICROS, **where)


def test_yaml_and_csv_say_the_same() -> None:
    yaml = "- {from: 2026-03-01T10:00:00Z, to: 2026-03-01T11:30:00Z, funnel: shop, dimension: device, value: 0123}\n- {from: 10, to: 20}\n"
    csv = "from,to,funnel,stage,dimension,value\n2026-03-01T10:00:00Z,2026-03-01T11:30:00Z,shop,,device,0123\n10,20,,,,\n"
    assert parse(yaml, "i.yaml") == parse(f"incidents:\n{yaml}", "i.yaml") == parse(csv, "i.csv")
    assert parse(csv, "i.csv")[0] == incident(10, 20)
    assert parse(csv, "i.csv")[1].value == "0123"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("a: [", "i.yaml:1: is not YAML"),
        ("just: this", "i.yaml: holds no list of incidents"),
        ("- {from: 10, to: 20}\n- [x]", "i.yaml:2: is no incident"),
        ("- {from: 10}", "i.yaml:1: has no `to`"),
        ("- {from: 10, to: noon}", "i.yaml:1: 'noon' is no time"),
        ("- {from: 20, to: 10}", "i.yaml:1: `to` does not come after `from`"),
        ("- {from: 10, to: 20, who: me}", "i.yaml:1: 'who' is nothing that an incident has"),
        ("- {from: 10, to: 20, value: ios}", "i.yaml:1: `dimension` and `value` go together"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_line(text: str, what: str) -> None:
    with pytest.raises(UsageError) as error:
        parse(text, "i.yaml")
    assert str(error.value).startswith(what)
    assert "\n" not in str(error.value)


def test_a_csv_with_a_short_row_is_refused_with_its_line() -> None:
    with pytest.raises(UsageError, match=r"i\.csv:3: has another number of cells"):
        parse("from,to\n10,20\n10\n", "i.csv")


@pytest.mark.parametrize(
    ("where", "what"),
    [
        ({"funnel": "shopp"}, "no funnel 'shopp'"),
        ({"stage": "buy"}, "no stage 'buy'"),
        ({"dimension": "os", "value": "x"}, "no dimension 'os'"),
    ],
)
def test_names_must_be_those_of_the_config(where: dict[str, str], what: str) -> None:
    with pytest.raises(UsageError, match=what):
        check([incident(1, 2, **where)], config({}), "i.yaml")


def test_delays_are_from_the_beginning_of_an_incident_to_the_first_alert_in_it() -> None:
    transitions = [told(150, "pending"), told(160, "firing"), told(170, "firing", IOS), told(300, "resolved"), told(300, "resolved", IOS)]
    done = score(RULE, [incident(100, 200), incident(400, 500)], [Page(160 * MICROS, (TOTAL,))], transitions, SPAN, SPAN[1])
    assert (done.incidents, done.delays, done.missed, done.outside) == (2, (60.0,), 1, 0)
    assert done.median_delay_seconds == 60


def test_what_fires_already_finds_an_incident_at_once() -> None:
    done = score(RULE, [incident(100, 200)], [Page(50 * MICROS, (TOTAL,))], [told(50, "firing")], SPAN, SPAN[1])
    assert (done.delays, done.outside) == ((0.0,), 1)


def test_an_alert_that_is_over_or_comes_after_finds_nothing() -> None:
    transitions = [told(50, "firing"), told(90, "resolved"), told(201, "firing")]
    assert score(RULE, [incident(100, 200)], [], transitions, SPAN, SPAN[1]).delays == ()


@pytest.mark.parametrize(("alert", "finds"), [(TOTAL, True), (IOS, True), (WEB, False)])
def test_an_incident_in_one_value_is_found_by_the_total_or_that_value(alert: AlertKey, finds: bool) -> None:
    mine = incident(100, 200, dimension="device", value="ios")
    done = score(RULE, [mine], [Page(150 * MICROS, (alert,))], [told(150, "firing", alert)], SPAN, SPAN[1])
    assert (len(done.delays), done.outside) == ((1, 0) if finds else (0, 1))


def test_a_page_is_inside_by_any_alert_told_in_it() -> None:
    mine = incident(100, 200, dimension="device", value="ios")
    assert score(RULE, [mine], [Page(150 * MICROS, (WEB, IOS))], [], SPAN, SPAN[1]).outside == 0


def test_incidents_of_other_stages_and_other_times_do_not_count() -> None:
    others = [incident(100, 200, stage="checkout"), incident(100, 200, funnel="other"), incident(20_000, 20_100)]
    assert score(RULE, others, [], [], SPAN, SPAN[1]).incidents == 0


def test_pages_are_told_by_the_week() -> None:
    week = 7 * 86_400 * MICROS
    assert score(RULE, [], [Page(1, (TOTAL,))] * 3, [], (0, 3 * week), 2 * week).pages_per_week == 1.5
    assert score(RULE, [], [], [], (5, 5), 0).pages_per_week is None


def test_spans_of_firing_end_where_they_are_resolved() -> None:
    assert spans([told(1, "firing"), told(2, "no_data"), told(3, "resolved"), told(4, "firing")]) == {
        TOTAL: [(MICROS, 3 * MICROS), (4 * MICROS, None)]
    }
