"""`clinvk worker`: check configuration and policy, then become a worker of this machine."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import replace
from typing import NoReturn

from clinvk.commands import fleet
from clinvk.config.settings import Settings
from clinvk.core.broker_url import mask_password
from clinvk.core.errors import UsageError
from clinvk.core.requirements import tags_of
from clinvk.core.spec import queue_of
from clinvk.output.streams import note
from workers import handover
from workers.execution import policy_file
from workers.liveness import supervisor


def run(
    settings: Settings,
    broker: str | None,
    queues: str | None,
    concurrency: int,
    name: str,
    tags: Sequence[str] = (),
) -> NoReturn:
    """Replace this process with a worker; does not return. `tags` are instead of `worker.tags`.

    Configuration and policy are checked before the broker is tried, so that a broken file is
    reported even where the broker cannot be reached.

    Raises:
        UsageError: no broker, no backend to serve, or an unknown one; a tag that is none.
        ConfigError: the policy file cannot be used.
        BrokerError: the broker cannot be reached.
    """
    if settings.worker.policy_file:
        policy_file.load(settings.worker.policy_file)
    backends = _backends(settings, queues)
    config = replace(settings.worker, tags=_tags(tags)) if tags else settings.worker
    url = fleet.required_broker_url(settings, broker)
    with fleet.fleet(settings, broker):
        note(
            f"clinvk worker {name}@{socket.gethostname()}: {', '.join(backends)}; "
            f"{concurrency} at once; {mask_password(url)}"
        )
    handover.give(url, config.dump())
    arguments = ["--queues", ",".join(map(queue_of, backends)), "--concurrency", str(concurrency)]
    supervisor.become([*arguments, "--name", name])


def _tags(given: Sequence[str]) -> list[str]:
    try:
        return tags_of(given)
    except ValueError as error:
        raise UsageError(f"--tag: {error}") from error


def _backends(settings: Settings, queues: str | None) -> Sequence[str]:
    """Return the backends to serve: those named in `queues`, or all that are installed here."""
    names = queues.split(",") if queues else settings.installed()
    if not names:
        raise UsageError("no CLI is installed here: install one, or name backends with --queues")
    if unknown := [name for name in names if name not in settings.backends]:
        raise UsageError(
            f"unknown backend {', '.join(unknown)} (known: {', '.join(settings.backends)})"
        )
    settings.load_backends(names)
    return names
