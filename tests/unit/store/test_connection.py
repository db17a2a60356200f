"""What a server must have, and what of its configuration is dangerous, from its answer to INFO."""

from __future__ import annotations

from typing import Any

import pytest

from clinvk.core.errors import BrokerError
from clinvk.store.connection import check_version, configuration_warnings

REDIS = {"redis_version": "7.0.15", "redis_mode": "standalone"}


@pytest.mark.parametrize(
    "about",
    [
        REDIS,
        {**REDIS, "redis_version": "8.2.3"},
        {**REDIS, "redis_version": "7.2.4", "valkey_version": "9.1.2", "cluster_enabled": 0},
    ],
)
def test_what_clinvk_runs_on(about: dict[str, Any]) -> None:
    check_version(about)


@pytest.mark.parametrize(
    ("about", "reason"),
    [
        ({**REDIS, "redis_version": "6.2.5"}, "the broker is Redis 6.2.5: clinvk needs Redis 7.0"),
        ({}, "the broker is Redis of an unknown version"),
        ({**REDIS, "dragonfly_version": "df-v1.2"}, "the broker is Dragonfly"),
        ({**REDIS, "redis_mode": "cluster"}, "the broker is a Redis Cluster"),
        ({**REDIS, "cluster_enabled": 1}, "the broker is a Redis Cluster"),
    ],
)
def test_what_it_does_not_run_on_is_refused_with_the_reason(
    about: dict[str, Any], reason: str
) -> None:
    with pytest.raises(BrokerError, match=reason) as raised:
        check_version(about)
    assert "\n" not in str(raised.value)
    assert raised.value.exit_code == 4


@pytest.mark.parametrize(
    ("about", "what"),
    [
        ({"maxmemory_policy": "noeviction", "aof_enabled": 1}, []),
        ({}, []),
        ({"maxmemory_policy": "allkeys-lru", "aof_enabled": 1}, ["maxmemory-policy noeviction"]),
        ({"maxmemory_policy": "noeviction", "aof_enabled": 0}, ["appendonly yes"]),
    ],
)
def test_a_configuration_that_can_lose_tasks_is_a_warning(
    about: dict[str, Any], what: list[str]
) -> None:
    warnings = configuration_warnings(about)
    assert len(warnings) == len(what)
    assert all(mend in warning for mend, warning in zip(what, warnings, strict=True))
