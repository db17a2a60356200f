"""Worktrees on machines that have no checkout, while workers are killed."""

from __future__ import annotations

import pytest

from tests.system.fleet.machines import Fleet
from tests.system.fleet.worktrees import Scene, play


@pytest.mark.timeout(240)
def test_no_change_is_lost_and_nothing_is_left(fleet: Fleet) -> None:
    scene = Scene(fleet, machines=2, files=300, tasks=8, seconds=0.5)
    outcome = play(scene, kills=2, every_seconds=0.2)
    assert outcome.statuses == {"ok": 8}
    assert outcome.lost_edits == 0
    assert outcome.is_identical
    assert outcome.is_untouched
    assert outcome.worktrees_left == 0
    assert outcome.worktrees_kept <= outcome.kills * 2
    assert outcome.second_bytes < outcome.first_bytes / 100
