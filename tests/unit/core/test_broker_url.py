"""Broker URLs: which are valid, and that none is shown with its password."""

from __future__ import annotations

import pytest

from clinvk.core.broker_url import broker_problem, mask_password


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
    ],
)
def test_a_password_is_masked(url: str, masked: str) -> None:
    assert mask_password(url) == masked
