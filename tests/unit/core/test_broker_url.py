"""Broker URLs: which are valid, and that none is shown with its password."""

from __future__ import annotations

import pytest

from clinvk.core.broker_url import broker_problem, mask_password, with_login_in_front


@pytest.mark.parametrize(
    "url",
    [
        "redis://host",
        "redis://:secret@host:6379/0",
        "rediss://user:secret@host/1",
        "redis+socket:///run/r.sock",
        "unix:///run/r.sock",
    ],
)
def test_valid_urls(url: str) -> None:
    assert broker_problem(url) is None


@pytest.mark.parametrize(
    "url", ["s3cret", "http://s3cret@host", "redis://:s3/cret@host:1", "unix://s3cret", ""]
)
def test_a_problem_does_not_quote_the_url(url: str) -> None:
    problem = broker_problem(url)
    assert problem is not None
    assert problem.startswith("must ")
    assert "s3cret" not in problem


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("redis://:secret@host:1/0", "redis://:***@host:1/0"),
        ("redis://user:secret@host", "redis://user:***@host"),
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("redis+socket:///run/r.sock", "redis+socket:///run/r.sock"),
        ("redis+socket:///run/a@b.sock", "redis+socket:///run/a@b.sock"),
        ("redis://secret@host/0", "redis://***@host/0"),
        ("redis://:se/cr@et@host/0", "redis://:***@host/0"),
        ("redis://:1?secret@host", "redis://:1?***"),
        ("redis://host/0?password=secret", "redis://host/0?password=***"),
        ("redis://host/0?db=1&pass%77ord=secret&x=y", "redis://host/0?db=1&pass%77ord=***&x=y"),
        ("redis+socket:///r.sock?password=secret", "redis+socket:///r.sock?password=***"),
        (
            "rediss://host?ssl_keyfile=k&ssl_password=secret",
            "rediss://host?ssl_keyfile=k&ssl_password=***",
        ),
        ("no url", "no url"),
    ],
)
def test_a_password_is_masked(url: str, masked: str) -> None:
    assert mask_password(url) == masked


@pytest.mark.parametrize(
    ("url", "in_front"),
    [
        ("redis://host/0", "redis://host/0"),
        ("redis://host/0?password=a/b&db=1", "redis://:a%2Fb@host/0?db=1"),
        ("redis://host:1/0?username=u&password=p", "redis://u:p@host:1/0"),
        ("redis://u:first@host/0?password=p", "redis://u:first@host/0"),  # as redis-py has it
        ("socket:///run/r.sock?password=p", "socket://:p@/run/r.sock"),
    ],
)
def test_options_of_a_login_are_put_where_kombu_reads_them(url: str, in_front: str) -> None:
    assert with_login_in_front(url) == in_front
