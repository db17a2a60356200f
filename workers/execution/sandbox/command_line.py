"""The command line that runs a command in a sandbox."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence

from workers.execution.sandbox import bubblewrap, landlock
from workers.execution.sandbox.bubblewrap import Bound
from workers.execution.sandbox.confined import Namespace, Restricted
from workers.execution.sandbox.mechanism import Mechanism
from workers.execution.sandbox.plan import Plan


def confined_by(mechanism: Mechanism, fds: Sequence[int]) -> Restricted:
    """Return how a command is signalled and ended; it inherits `fds`."""
    return Restricted(fds) if mechanism.bubblewrap is None else Namespace(fds)


def command_line(
    mechanism: Mechanism,
    plan: Plan,
    bound: Sequence[Bound],
    confined: Restricted,
    command: Sequence[str],
) -> tuple[str, ...]:
    """Return the command line that runs a command, whose program is named by its path."""
    if not isinstance(confined, Namespace):
        rules = landlock.alone(plan, bound, mechanism.abi, confined.status_fd, platform.machine())
        return (*landlock.launch(rules), *command)
    assert mechanism.bubblewrap is not None
    around: tuple[str, ...] = ()
    if landlock.is_needed_around_bubblewrap(plan.network, mechanism.abi):
        rules = landlock.around_bubblewrap(plan.network, mechanism.abi, confined.status_fd)
        around = landlock.launch(rules)
    inner = bubblewrap.arguments(
        mechanism.bubblewrap,
        plan,
        bound,
        status_fd=confined.status_fd,
        report_fd=confined.report_fd,
        is_root=os.geteuid() == 0,
    )
    return (*around, *inner, *command)
