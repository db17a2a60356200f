"""Local mode: a private server and its workers, for the length of one command.

The server listens on a unix socket in a directory that only this user can enter, and on no port.
`clinvk.local.supervisor` runs server and workers, and takes them down when this process ends,
however it ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from clinvk.broker.message import of_run
from clinvk.core.errors import BrokerError
from clinvk.core.spec import RunSummary
from clinvk.core.worker_config import WorkerConfig
from clinvk.local import server
from clinvk.local.expected import Spawned, spawn, take_expected
from clinvk.local.records import REUSE_DIRECTORY, Record, Records, RunKey, Summary
from clinvk.privacy import seclude

SLOTS_PER_WORKER = 4
START_SECONDS = 30.0
RESUME_SECONDS = 180.0
"""How long it may take to end what is left of a run, and to read its record."""
POLL_SECONDS = 0.005


@dataclass(frozen=True, slots=True)
class Place:
    """The run that a private fleet is for, and where it is recorded, if it is.

    With `resumes` there is a record of it, which is interrupted, and the run goes on. `key` stands
    for the run from its submission on, with the digest of its tasks.
    """

    run: str
    records: Records | None
    resumes: bool = False
    key: tuple[RunKey, str] | None = None

    @property
    def record(self) -> Record | None:
        """The record."""
        return None if self.records is None else self.records.of(self.run)


class RunTakenError(BrokerError):
    """Another process has the run that was to go on."""


class LocalFleet:
    """A private server and its workers; until `order` only their supervisor, which loads."""

    def __init__(self, spawned: Spawned) -> None:
        self._directory = Path(spawned.directory)
        self.server_program = ""
        self._place: Place | None = None
        self._queues: Sequence[str] = ()
        self._is_detached = False
        self._reports = b""
        self._last_reports: list[dict[str, Any]] = []
        self._supervisor = spawned.process
        assert self._supervisor.stdout is not None
        os.set_blocking(self._supervisor.stdout.fileno(), False)

    def order(
        self, program: str, config: WorkerConfig, place: Place, queues: Sequence[str], slots: int
    ) -> None:
        """Have the server and the workers started, `slots` tasks at once; with 0, no workers."""
        shares = divide(slots, os.cpu_count() or 1) if slots else []
        names = [f"local-{n}" for n in range(1, len(shares) + 1)] if len(shares) != 1 else ["local"]
        self.server_program, self._place, self._queues = program, place, queues
        self._tell(
            server=program,
            record=str(place.record.path) if place.record else None,
            resumes=place.resumes,
            keep_days=place.records.keep_days if place.records else 0,
            keep_bytes=place.records.keep_bytes if place.records else 0,
            queues=list(queues),
            workers=[
                ["--queues", ",".join(queues), "--concurrency", str(share), "--name", name]
                for name, share in zip(names, shares, strict=True)
            ],
            config=_private(config, place).dump(),
        )

    @property
    def run_id(self) -> str:
        """The run that this fleet is for."""
        assert self._place is not None
        return self._place.run

    def submitting(self, run: RunSummary) -> None:
        """Write down what is about to be submitted, so that it is found whatever happens next."""
        assert self._place is not None
        if self.unrecorded is None and self._place.record is not None:
            with contextlib.suppress(OSError):  # the supervisor tries it as well
                summary = Summary(run, str(self._directory), self._queues)
                self._place.record.write_summary(summary)
        if self._place.key is not None:
            key, digest = self._place.key
            key.write(run.run_id, digest)

    def message_of(self, run: str) -> str:
        """Return the message of any task of a run; waits until the supervisor has made it.

        Raises:
            BrokerError: the supervisor ended, or did not come so far in time.
        """
        path = self._directory / server.MESSAGE_NAME
        give_up_at = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(FileNotFoundError):
                return of_run(path.read_text(encoding="utf-8"), run)
            self.check()
            if time.monotonic() > give_up_at:
                raise BrokerError("the local supervisor did not make the message of tasks in time")
            time.sleep(POLL_SECONDS)

    def detach(self) -> None:
        """Let the supervisor stay until the run has ended."""
        self._is_detached = True
        self._tell(detach=True)

    def cancel(self, run: str, reason: str) -> None:
        """Cancel a run. The supervisor does it, over a connection that it has had from the start.

        So it works even where the server's socket was removed, as cleaners of /tmp do.
        """
        self._tell(cancel=run, reason=reason)

    def _tell(self, **order: Any) -> None:
        """Write a line to the supervisor."""
        assert self._supervisor.stdin is not None
        rest = json.dumps(order).encode() + b"\n"
        with contextlib.suppress(BrokenPipeError):  # it has ended, which `check` will say
            while rest:
                rest = rest[self._supervisor.stdin.write(rest) :]

    def end(self, *, at_once: bool = False) -> None:
        """Have everything taken down, and wait for that unless `at_once`."""
        assert self._supervisor.stdin is not None
        assert self._supervisor.stdout is not None
        self._supervisor.stdin.close()
        if not (at_once or self._is_detached):
            self._supervisor.wait()
            # Already gone, unless the supervisor itself was killed.
            shutil.rmtree(self._directory, ignore_errors=True)
        self._last_reports = self._read_reports()
        self._supervisor.stdout.close()

    @property
    def broker_url(self) -> str:
        """The URL of the private server."""
        return server.broker_url(str(self._directory))

    def wait_for_server(self) -> None:
        """Wait until the server answers on its socket; of a run that goes on, until it is ready.

        Raises:
            RunTakenError: another process has the run that was to go on.
            BrokerError: it ended, or did not come up in time.
        """
        assert self._place is not None
        seclude()  # while there is nothing else to do, and before any task runs
        is_up = self._is_ready if self._place.resumes else self._is_up
        seconds = RESUME_SECONDS if self._place.resumes else START_SECONDS
        give_up_at = time.monotonic() + seconds
        while not is_up():
            self.check()
            if time.monotonic() > give_up_at:
                raise BrokerError(f"the private server did not start within {seconds:.0f} s")
            time.sleep(POLL_SECONDS)

    def _is_up(self) -> bool:
        return server.is_up(str(self._directory))

    def _is_ready(self) -> bool:
        if self._reported("taken") is not None:
            raise RunTakenError(f"run {self.run_id} goes on already: clinvk attach {self.run_id}")
        if (reason := self.unrecorded) is not None:
            raise BrokerError(f"run {self.run_id} cannot go on: {reason}")
        return self._reported("ready") is not None

    @property
    def unrecorded(self) -> str | None:
        """Why the run is not recorded, if so; known when the server is up."""
        reason = self._reported("unrecorded")
        return None if reason is None else str(reason)

    def warnings(self) -> list[str]:
        """Return what the user should know, once the supervisor has ended."""
        return [str(report["warning"]) for report in self._last_reports if "warning" in report]

    def _reported(self, name: str) -> object:
        """Return what the supervisor has said of something; None where it has not."""
        return next((each[name] for each in self._read_reports() if name in each), None)

    def check(self) -> None:
        """Fail if the server or a worker cannot be kept up.

        Raises:
            BrokerError: with the last line in the log of what ended.
        """
        code = self._supervisor.poll()
        reports = [report for report in self._read_reports() if "exited" in report]
        if code is None and "server" not in {report["exited"] for report in reports}:
            return
        if code is not None and code < 0:
            raise BrokerError(f"local mode ended: its supervisor was killed by signal {-code}")
        if not reports:
            raise BrokerError(f"local mode ended: its supervisor ended with exit code {code}")
        last = reports[-1]
        said = last["said"] or f"with exit code {last['returncode']}"
        raise BrokerError(f"the local {last['exited']} ended: {said}")

    def _read_reports(self) -> list[dict[str, Any]]:
        assert self._supervisor.stdout is not None
        self._reports += self._supervisor.stdout.read() or b""
        return [json.loads(line) for line in self._reports.splitlines()]


@contextmanager
def start(
    config: WorkerConfig, place: Place, queues: Sequence[str], slots: int, program: str | None
) -> Iterator[LocalFleet]:
    """Start the private server and workers with `slots` tasks at once; take them down after.

    After `detach` they stay instead until the run has ended. `program` is the configured server
    program. Returns as soon as server and workers are being started; they come up while the caller
    goes on.

    Raises:
        BrokerError: there is no server program for this platform.
    """
    found = server.find_server(program)
    fleet = LocalFleet(take_expected() or spawn())
    leave_at_once = False
    try:
        fleet.order(found, config, place, queues, slots)
        yield fleet
    except (KeyboardInterrupt, SystemExit):
        leave_at_once = True  # the supervisor goes on without us
        raise
    finally:
        fleet.end(at_once=leave_at_once)


def _private(config: WorkerConfig, place: Place) -> WorkerConfig:
    """Return what the workers of a private fleet are told: it looks after them and the server."""
    reuse_dir = str(place.records.directory / REUSE_DIRECTORY) if place.records else ""
    return replace(
        config,
        reports_versions=False,
        has_supervisor=False,
        checks_server=False,
        local_run=place.run if place.records else "",
        reuse_dir=reuse_dir,
    )


def divide(slots: int, cores: int) -> list[int]:
    """Divide slots among workers.

    One worker can run many CLIs. But if those end after milliseconds, the threads of one Python
    process compete for its interpreter, and two workers are faster by a third.
    """
    workers = min(cores, max(1, slots // SLOTS_PER_WORKER))
    return [slots // workers + (n < slots % workers) for n in range(workers)]
