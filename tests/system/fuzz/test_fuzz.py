"""Four thousand forged tasks, messages and records; the unit tests have fewer of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import forged


@pytest.mark.timeout(300)  # on a busy machine; four seconds each on an idle one
@pytest.mark.parametrize(
    ("examples", "strategy", "check"),
    [
        (500, forged.SPECS, forged.check_spec),
        (500, forged.messages(), forged.check_message),
        (500, forged.RESULTS, forged.check_result),
        (250, forged.RUNS, forged.check_run),
        (250, forged.WORKERS, forged.check_worker),
    ],
    ids=["specs", "messages", "results", "runs", "workers"],
)
def test_whatever_is_forged_is_refused_or_can_be_used(
    examples: int, strategy: st.SearchStrategy[Any], check: Callable[[Any], None]
) -> None:
    profile = settings(
        deadline=None,
        max_examples=examples,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    profile(given(strategy)(check))()
