"""Where Redis is, as one address says it."""

from __future__ import annotations

import pytest

from schemas.errors import SettingsError
from streams.redis_address import is_loopback, parse


@pytest.mark.parametrize(
    ("url", "shown", "hosts", "db"),
    [
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0", (("127.0.0.1", 6379),), 0),
        ("redis://shop", "redis://shop:6379/0", (("shop", 6379),), 0),
        ("rediss://u:p@shop:7000/3", "rediss://shop:7000/3", (("shop", 7000),), 3),
        ("redis://[::1]:6380/1", "redis://[::1]:6380/1", (("::1", 6380),), 1),
        ("redis://[::1]", "redis://[::1]:6379/0", (("::1", 6379),), 0),
        ("redis+cluster://a:1,b", "redis+cluster://a:1,b:6379", (("a", 1), ("b", 6379)), 0),
        ("rediss+cluster://u:p@a:1/0", "rediss+cluster://a:1", (("a", 1),), 0),
        ("redis+sentinel://a,b:3/shop", "redis+sentinel://a:26379,b:3/shop/0", (("a", 26379), ("b", 3)), 0),
        ("rediss+sentinel://a/shop/2", "rediss+sentinel://a:26379/shop/2", (("a", 26379),), 2),
        ("unix:///run/redis.sock", "unix:///run/redis.sock", (), 0),
    ],
)
def test_every_shape_is_taken_apart_and_shown_without_its_password(url: str, shown: str, hosts: tuple[tuple[str, int]], db: int) -> None:
    found = parse(url)
    assert (str(found), found.hosts, found.db) == (shown, hosts, db)


def test_user_and_password_are_percent_decoded_and_not_shown() -> None:
    found = parse("redis://fun%40shop:p%3Aw%2F%40@h/0")
    assert (found.username, found.password) == ("fun@shop", "p:w/@")
    assert "p:w" not in f"{found} {found!r}"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://h", "is no address of a Redis"),
        ("hush", "is no address of a Redis"),
        ("redis+ring://h", "is no address of a Redis"),
        ("redis+://h", "is no address of a Redis"),
        ("redis://", "a host or its port is missing or wrong"),
        ("redis://h:port", "a host or its port is missing or wrong"),
        ("redis://h:70000", "a host or its port is missing or wrong"),
        ("redis+cluster://a,,b", "a host or its port is missing or wrong"),
        ("redis://a,b", "several hosts belong to a cluster or to sentinels"),
        ("redis://h/x", "the number of a database"),
        ("redis+cluster://h/1", "a cluster has none but 0"),
        ("redis+sentinel://h", "asked for a master by its name"),
        ("rediss://:hush@h/0?ssl_cert_reqs=none", "options after ? are not taken"),
    ],
)
def test_what_is_no_address_is_refused_without_repeating_it(url: str, said: str) -> None:
    with pytest.raises(SettingsError) as refused:
        parse(url)
    assert str(refused.value).startswith("FUNNELWATCH_REDIS__URL: ")
    assert said in str(refused.value)
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize(
    ("host", "here"), [("127.0.0.1", True), ("127.8.0.1", True), ("::1", True), ("localhost", True), ("10.0.0.1", False)]
)
def test_what_stays_on_this_machine_is_known(host: str, here: bool) -> None:
    assert is_loopback(host) is here
    assert parse(f"redis://[{host}]:1" if ":" in host else f"redis://{host}:1").leaves_the_machine is not here


def test_what_sentinels_name_may_be_anywhere() -> None:
    assert parse("redis+sentinel://127.0.0.1/shop").leaves_the_machine
    assert not parse("unix:///run/redis.sock").leaves_the_machine
