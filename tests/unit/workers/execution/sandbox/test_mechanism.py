"""What each mechanism is called, and what it leaves open."""

from __future__ import annotations

import pytest

from clinvk.core.network import Network
from workers.execution.sandbox.mechanism import Mechanism
from workers.execution.sandbox.plan import Mode

BOTH = Mechanism(bubblewrap="/bin/bwrap", abi=7)
BWRAP = Mechanism(bubblewrap="/bin/bwrap")
LANDLOCK = Mechanism(abi=7)
OPEN, OFF, PORTS = Network(), Network(()), Network((443,))


@pytest.mark.parametrize(
    ("mechanism", "mode", "network", "by", "gaps"),
    [
        (BOTH, "workspace", OPEN, "bwrap+landlock", ()),
        (BOTH, "read-only", PORTS, "bwrap+landlock", ("udp",)),
        (BWRAP, "workspace", OPEN, "bwrap", ("abstract-sockets",)),
        (BWRAP, "workspace", OFF, "bwrap", ()),
        (
            LANDLOCK,
            "workspace",
            OPEN,
            "landlock",
            ("git-hooks", "path-sockets", "metadata", "process-list", "orphans"),
        ),
        (
            Mechanism(abi=3),
            "read-only",
            OPEN,
            "landlock",
            ("path-sockets", "metadata", "process-list", "orphans", "abstract-sockets", "signals"),
        ),
        (Mechanism(reason="none here"), "read-only", OPEN, "none", None),
    ],
)
def test_gaps_are_named(
    mechanism: Mechanism, mode: Mode, network: Network, by: str, gaps: tuple[str, ...] | None
) -> None:
    assert mechanism.by(network) == by
    if gaps is not None:
        assert mechanism.gaps(mode, network) == gaps


def test_a_network_that_cannot_be_restricted_is_a_problem() -> None:
    assert BOTH.network_problem(PORTS, "x86_64") is None
    assert BWRAP.network_problem(OFF, "riscv64") is None
    assert "ports need Landlock" in (BWRAP.network_problem(PORTS, "x86_64") or "")
    assert LANDLOCK.network_problem(OFF, "x86_64") is None
    assert "on riscv64" in (LANDLOCK.network_problem(OFF, "riscv64") or "")
