"""Signals as the tests need them, whatever the shell did that started pytest."""

from __future__ import annotations

import signal

import pytest


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT, signal.SIGHUP])
def test_no_signal_that_tests_send_is_ignored(number: signal.Signals) -> None:
    """`tests/local/test_signals.py` runs this in a pytest that was started with them ignored."""
    assert signal.getsignal(number) is not signal.SIG_IGN
