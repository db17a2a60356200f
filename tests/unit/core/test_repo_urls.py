"""Addresses of repositories: what workers fetch from, and what is no plain address."""

from __future__ import annotations

import pytest

from clinvk.core.repo_urls import fetchable, name_of, problem


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/team/app.git",
        "https://example.org:8443/a?b=c",
        "ssh://git@example.org:2222/app.git",
        "git@example.org:team/app.git",
        "git://example.org/app",
        "file:///srv/git/app.git",
        "ssh://[::1]/app",
    ],
)
def test_addresses(url: str) -> None:
    assert problem(url) is None


@pytest.mark.parametrize(
    "url",
    [
        *(
            "ext::sh -c id",
            "-u",
            "--upload-pack=id",
            "/srv/git/app",
            "../app",
            "app",
            "",
            "C:\\app",
        ),
        *("http://example.org/app", "ftp://example.org/app", "fd::3", "file://host/app"),
        *("ssh://-oProxyCommand=id/app", "git@-oProxyCommand=id:app", "git@example.org:-app"),
        *("https://example.org/a\n/b", "https://example.org/a b", "https:///app"),
        *("file:///srv/git/../../etc", "https://example.org/%2e%2e/x", "git@example.org:../x"),
        *("git://ann@example.org/app", "https://example.org/" + "a" * 3000),
    ],
)
def test_what_is_no_address(url: str) -> None:
    assert problem(url) is not None


@pytest.mark.parametrize(
    "url",
    [
        "https://ann:s3cret@example.org/app",
        "https://s3cret@example.org/app",
        "http://ann:s3cret@example.org/app",
        "ssh://ann:s3cret@example.org/app",
        "ann:s3cret@example.org:app",
    ],
)
def test_credentials_are_the_workers(url: str) -> None:
    said = problem(url) or ""
    assert "no password" in said
    assert "s3cret" not in said


@pytest.mark.parametrize(
    ("remote", "url"),
    [
        ("https://ann:s3cret@example.org/app", "https://example.org/app"),
        ("https://s3cret@example.org/app", "https://example.org/app"),
        ("ssh://ann:s3cret@example.org/app", "ssh://ann@example.org/app"),
        ("git@example.org:app", "git@example.org:app"),
        ("file:///srv/app", None),
        ("/srv/app", None),
        ("../app", None),
    ],
)
def test_the_address_of_a_remote(remote: str, url: str | None) -> None:
    assert fetchable(remote) == url


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://example.org/team/app.git/", "app"),
        ("git@example.org:app", "app"),
        ("https://example.org/%2e%2e%2f.git", "repository"),
        ("https://example.org/a%00b", "a-b"),
    ],
)
def test_names(url: str, name: str) -> None:
    assert name_of(url) == name
