"""Nothing that Celery shows of a broker has its secret."""

from __future__ import annotations

from typing import Any

import pytest

from clinvk.broker.app import create_app


@pytest.mark.parametrize(
    "url",
    [
        "redis://s3cret@host/0",
        "redis://:s3cret@host/0",
        "redis://user:s3cret@host:6379/0",
        "redis://host:6379/0?password=s3cret",
        "rediss://host/1?password=s3cret&username=me",
        "redis+socket:///run/x.sock?password=s3cret",
        "unix:///run/x.sock?password=s3cret&db=1",
    ],
)
def test_a_url_is_shown_without_its_secret(url: str) -> None:
    app: Any = create_app(url)
    shown = [app.connection().as_uri(), app.connection().clone().as_uri(), app.backend.as_uri()]
    for text in shown:
        assert "s3cret" not in text
    assert "s3cret" in app.connection().as_uri(include_password=True)


def test_the_rest_of_it_is_shown() -> None:
    app: Any = create_app("redis://user:s3cret@host:6380/2")
    assert app.connection().as_uri() == "clinvk://user:***@host:6380/2"
    assert app.backend.as_uri() == "redis://user:***@host:6380/2"
