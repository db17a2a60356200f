"""Which variables a command gets: an allow-list."""

from __future__ import annotations

import pytest

from clinvk.core.child_environment import COMMON, conditional, passed

SECRETS = {
    "CLINVK_BROKER_URL": "redis://:secret@host/0",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "GITHUB_TOKEN": "secret",
    "SSH_AUTH_SOCK": "/run/agent",
    "LD_PRELOAD": "/lib/x.so",
    "NODE_OPTIONS": "--require /x.js",
    "PYTHONPATH": "/x",
}


def test_a_command_gets_what_every_program_needs_and_no_secret() -> None:
    needed = {"PATH": "/bin", "HOME": "/root", "LC_ALL": "C", "https_proxy": "http://p", "TZ": "x"}
    assert passed(SECRETS | needed, ()) == needed


def test_patterns_add_to_that_but_never_what_is_clinvks_own() -> None:
    assert passed(SECRETS, ("AWS_*",)) == {"AWS_SECRET_ACCESS_KEY": "secret"}
    assert passed(SECRETS, ("*",)) == {
        name: value for name, value in SECRETS.items() if name != "CLINVK_BROKER_URL"
    }


@pytest.mark.parametrize("name", ["API_KEY", "TOKEN", "SECRET", "PASSWORD", "CREDENTIALS"])
def test_nothing_common_looks_like_a_secret(name: str) -> None:
    assert not [pattern for pattern in COMMON if name in pattern.upper()]


@pytest.mark.parametrize(("value", "is_on"), [("1", True), ("true", True), ("0", False)])
def test_some_patterns_count_where_a_variable_switches_them_on(value: str, is_on: bool) -> None:
    assert bool(conditional({"USE_X": value}, {"USE_X": ("X_*",)})) == is_on
    assert conditional({}, {"USE_X": ("X_*",)}) == ()
