"""What a run requires, in local mode: whether this machine has it, and what workers are told."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from clinvk.backends import BackendRegistry
from clinvk.core.errors import BrokerError
from clinvk.core.requirements import Requirements

if TYPE_CHECKING:
    from clinvk.config.settings import Settings
    from clinvk.core.worker_config import WorkerConfig


def unmet(
    settings: Settings, requires: Requirements, choices: Iterable[Collection[str]]
) -> tuple[WorkerConfig, list[str]]:
    """Return what workers of this machine are told, and a line for each choice that it cannot run.

    A choice are backends of which any may run a task. Only CLIs whose versions the run requires are
    asked for them, since each takes a while to answer.
    """
    if not requires:
        return settings.worker, []
    from workers import health  # loads what few runs need
    from workers.execution.environment import Environments

    registry = BackendRegistry.from_config(settings.worker.backends)
    environments = Environments(settings.worker)
    clis = health.versions(map(registry.get, requires.versions), environments.of)
    worker = replace(settings.worker, clis=clis)
    has = {"clis": clis, "tags": worker.tags}
    lines = [
        f"this machine does not have what the run requires of {name} "
        f"({requires.of_backend(name)}): it has {requires.found(name, has)}"
        for names in choices
        if not any(requires.are_met(name, has) for name in names)
        for name in names
    ]
    return worker, list(dict.fromkeys(lines))


def checked(
    settings: Settings, requires: Requirements, choices: Iterable[Collection[str]]
) -> WorkerConfig:
    """Return what workers of this machine are told.

    Raises:
        BrokerError: it does not have what the run requires.
    """
    worker, lines = unmet(settings, requires, choices)
    if lines:
        raise BrokerError("; ".join(lines))
    return worker
