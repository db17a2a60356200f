"""The tests themselves, started by a shell in the background."""

from __future__ import annotations

import subprocess

from tests import harness

IN_THE_BACKGROUND = 'trap "" INT QUIT HUP; exec "$@"'


def test_tests_that_interrupt_can_be_started_with_interrupts_ignored() -> None:
    pytest_ = [*harness.PYTHON, "-m", "pytest", "-n", "0", "-q", "tests/unit/test_signals.py"]
    done = subprocess.run(
        ["sh", "-c", IN_THE_BACKGROUND, "sh", *pytest_],
        cwd=harness.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout
