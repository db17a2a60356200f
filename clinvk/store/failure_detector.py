"""Which workers are dead, and which are only disconnected: the rules of both sides.

A task may be dispatched again only when nothing of its last attempt runs any more. What a reaper
takes as proof of that, strongest first:

    released    the owner itself, or the supervisor that saw its end, says that nothing runs
    closed      the owner's liveness connection to this very server has closed, and its lease is
                over. A process that dies closes its sockets; one that lives connects again and
                renews
    silent      nothing was heard for SILENCE_MS, whatever the reason: a machine that lost its
                power, a network that lost it, a process that hangs, a server that was restarted

A worker that hears nothing from Redis must have stopped its commands before any of these can be
true of it by mistake:

    the connection stands      the server cannot see it closed either: SILENT_SECONDS
    closed, and no answer      somebody else may get answers: DISCONNECTED_SECONDS
    closed, and refused        no server listens (or it cannot write), so nobody can reap: not while
                               that goes on. A server that comes back has no connection of ours, so
                               only silence counts there

Both times include what it takes to end commands, KILL and escaped processes included.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

LEASE_MS = 11_000
"""How long a worker may be silent before its tasks count as lost, if its connection has closed."""
RENEW_SECONDS = 2.0
ANSWER_SECONDS = 2.0
"""How long a renewer waits for an answer, or for a connection."""
STOP_SECONDS = 4.0
"""What a disconnected worker needs to end its commands: TERM, KILL, and what escaped."""
DISCONNECTED_SECONDS = LEASE_MS / 1000 - ANSWER_SECONDS - STOP_SECONDS - 1.0
SILENT_SECONDS = 75.0
SILENCE_MS = int(1000 * (SILENT_SECONDS + ANSWER_SECONDS + STOP_SECONDS + 4.0))


@dataclass(frozen=True, slots=True)
class Overdue:
    """A lease that ran out `over_ms` ago; None where it was released.

    `connection` is "<run id of the server>:<client id>", or empty where nothing is known.
    """

    lease: str
    is_running: bool
    owner: str
    connection: str
    over_ms: int | None


@dataclass(frozen=True, slots=True)
class Server:
    """What a server says of itself. `clients` are the ids of those connected, None if unknown."""

    run_id: str
    up_ms: int
    clients: Set[int] | None


def loss_reason(overdue: Overdue, server: Server) -> str | None:
    """Say why a task counts as lost, or None where that is not certain."""
    if overdue.over_ms is None:
        return "its worker released it"
    if not overdue.is_running:
        # Only a message is lost, and a late one is refused. But a server that crashed may have
        # lost the claim itself, and its owner must have had the time to renew it.
        return "nobody claimed it" if server.up_ms > LEASE_MS else None
    run_id, _, client = overdue.connection.partition(":")
    if run_id == server.run_id and server.clients is not None and int(client) not in server.clients:
        return "its worker ended"
    if LEASE_MS + overdue.over_ms > SILENCE_MS and server.up_ms > SILENCE_MS:
        return "its worker was silent for too long"
    return None


def stop_deadline(heard_at: float, *, is_connected: bool, refused_at: float | None) -> float:
    """Return when a worker that hears nothing must stop its commands, on its own clock.

    `heard_at` is when it last asked for something that was answered; `refused_at` is when it last
    learned that no server can serve anybody.
    """
    if is_connected:
        return heard_at + SILENT_SECONDS
    return max(heard_at, refused_at or heard_at) + DISCONNECTED_SECONDS
