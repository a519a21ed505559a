"""Signing in: a token becomes a cookie for this service's own pages; what other sites make a browser send changes nothing."""

from __future__ import annotations

from http.cookies import SimpleCookie
from typing import Any

import httpx
import pytest

from streams.web.problem import Problem
from tests.parts.guarded import ACCESS, TOKENS, Guarded

OWN = {"Sec-Fetch-Site": "same-origin"}
SILENCE = {"matchers": {"rule": "*"}, "ends": "2100-01-01T00:00:00Z", "author": "kim", "reason": "moving"}


@pytest.fixture(scope="module")
def shared() -> Guarded:
    return Guarded()


def problem(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    return Problem.model_validate(answer.json()).detail


def sign_in(guarded: Guarded, token: str = "reader", **what: Any) -> httpx.Response:
    return guarded.ask("/session", method="POST", json={"token": TOKENS.get(token, token)}, **{"headers": OWN, **what})


def cookie(answer: httpx.Response) -> tuple[str, Any]:
    ((name, found),) = SimpleCookie(answer.headers["set-cookie"]).items()
    return name, found


def test_a_right_token_becomes_a_cookie_that_no_script_reads_and_no_other_site_sends(shared: Guarded) -> None:
    answer = sign_in(shared)
    assert answer.json() == {"needed": True, "name": "reader", "scopes": ["read"]}
    name, found = cookie(answer)
    assert (name, found["httponly"], found["samesite"], found["path"], found["secure"]) == ("funnelwatch", True, "strict", "/", "")
    assert shared.ask("/api/v1/funnels", headers={"Cookie": f"{name}={found.value}"}).status_code == 200


def test_over_https_the_cookie_stays_there(shared: Guarded) -> None:
    answer = sign_in(shared, base="https://funnelwatch")
    name, found = cookie(answer)
    assert (name, found["secure"], found["domain"]) == ("__Host-funnelwatch", True, "")
    assert answer.headers["strict-transport-security"] == "max-age=31536000"
    assert shared.ask("/api/v1/funnels", base="https://funnelwatch", headers={"Cookie": f"{name}={found.value}"}).status_code == 200
    problem(shared.ask("/api/v1/funnels", base="https://funnelwatch", headers={"Cookie": f"funnelwatch={found.value}"}), 401)
    assert "strict-transport-security" not in sign_in(shared).headers


@pytest.mark.parametrize("token", ["old", "fw_wrong", "", "x" * 500])
def test_a_wrong_token_becomes_none(shared: Guarded, token: str) -> None:
    answer = sign_in(shared, token, client="10.2.0.1")
    assert answer.status_code in (400, 401)
    assert "set-cookie" not in answer.headers
    assert token == "" or TOKENS.get(token, token) not in answer.text


@pytest.mark.parametrize(("token", "name"), [(None, None), ("reader", "reader"), ("old", None), ("fw_wrong", None)])
def test_who_is_signed_in_is_told_to_whoever_asks(shared: Guarded, token: str | None, name: str | None) -> None:
    """A page asks before anything else: it is no error to be nobody yet."""
    headers = {} if token is None else {"Cookie": f"funnelwatch={TOKENS.get(token, token)}"}
    assert shared.ask("/session", headers=headers).json() == {"needed": True, "name": name, "scopes": ["read"] if name else []}


def test_signing_out_takes_the_cookie_back(shared: Guarded) -> None:
    answer = shared.ask("/session", method="DELETE", headers=OWN)
    name, found = cookie(answer)
    assert (answer.json()["name"], name, found.value, found["max-age"]) == (None, "funnelwatch", "", "0")


def test_without_tokens_there_is_nothing_to_sign_in_to() -> None:
    open_ = Guarded({})
    assert open_.ask("/session").json() == {"needed": False, "name": None, "scopes": []}
    assert "everything is open" in problem(sign_in(open_), 404)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://funnelwatch.evil.example"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://funnelwatch"},
    ],
)
def test_what_another_site_makes_a_browser_send_changes_nothing(shared: Guarded, headers: dict[str, str]) -> None:
    """Neither by the cookie, nor by signing somebody in or out."""
    signed_in = headers | {"Cookie": f"funnelwatch={TOKENS['ops']}"}
    assert "only this service's own page" in problem(shared.ask("/api/v1/silences", method="POST", json=SILENCE, headers=signed_in), 403)
    problem(shared.ask("/api/v1/silences/x?author=kim", method="DELETE", headers=signed_in), 403)
    problem(sign_in(shared, headers=headers), 403)
    problem(shared.ask("/session", method="DELETE", headers=headers), 403)
    assert shared.ask("/api/v1/silences", "ops").json()["silences"] == []


@pytest.mark.parametrize("headers", [OWN, {"Origin": "http://funnelwatch"}, {"Origin": "https://funnelwatch"}])
def test_the_services_own_page_may(headers: dict[str, str]) -> None:
    """An older browser names its origin alone, and where a proxy ends TLS that is of https."""
    guarded = Guarded()
    signed_in = headers | {"Cookie": f"funnelwatch={TOKENS['ops']}"}
    assert guarded.ask("/api/v1/silences", method="POST", json=SILENCE, headers=signed_in).status_code == 201


def test_a_token_in_the_header_needs_no_origin(shared: Guarded) -> None:
    assert shared.ask("/api/v1/alerts/ack", "ops", "POST", json={"rule": "none", "author": "kim"}).status_code == 404


def test_a_sign_in_by_form_is_refused(shared: Guarded) -> None:
    assert "application/json" in problem(shared.ask("/session", method="POST", data={"token": TOKENS["reader"]}, headers=OWN), 415)


# Other origins


def test_no_other_origin_is_let_in_unless_the_config_names_it(shared: Guarded) -> None:
    answer = shared.ask("/api/v1/funnels", "reader", headers={"Origin": "https://wiki.example"})
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_an_origin_of_the_config_may_ask_with_a_token_and_without_cookies() -> None:
    guarded = Guarded({**ACCESS, "cors": ["https://wiki.example"]})
    origin = {"Origin": "https://wiki.example"}
    asked = origin | {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}
    before = guarded.ask("/api/v1/funnels", method="OPTIONS", headers=asked)
    assert (before.status_code, before.headers["access-control-allow-origin"]) == (200, "https://wiki.example")
    assert "authorization" in before.headers["access-control-allow-headers"].lower()
    answer = guarded.ask("/api/v1/funnels", "reader", headers=origin)
    assert answer.headers["access-control-allow-origin"] == "https://wiki.example"
    assert "access-control-allow-credentials" not in answer.headers
    assert answer.headers["x-content-type-options"] == "nosniff"
    other = guarded.ask("/api/v1/funnels", "reader", headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in other.headers


# Every answer


@pytest.mark.parametrize("path", ["/", "/page/page.js", "/api/v1/funnels", "/session", "/livez", "/nothing"])
def test_every_answer_is_shut_in(shared: Guarded, path: str) -> None:
    headers = shared.ask(path).headers
    assert headers["cross-origin-opener-policy"] == headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["x-frame-options"] == "DENY"
    assert "camera=()" in headers["permissions-policy"]
    assert "form-action 'none'" in headers["content-security-policy"]


@pytest.mark.parametrize(("head", "status"), [({"X-Long": "x" * 20_000}, 431), ({"Content-Length": "70000"}, 413)])
def test_an_overlong_request_is_refused(shared: Guarded, head: dict[str, str], status: int) -> None:
    problem(shared.ask("/livez", headers=head), status)


def test_an_overlong_body_is_refused_when_it_has_become_so(shared: Guarded) -> None:
    """One that does not say how long it will be."""

    async def chunks() -> Any:
        for _ in range(80):
            yield b" " * 1000

    answer = shared.ask("/session", method="POST", content=chunks(), headers={**OWN, "Content-Type": "application/json"})
    assert "64000 bytes" in problem(answer, 413)
