"""The client that submits runs through Celery.

Importing this loads redis-py; everything that a command needs before that is in
`clinvk.runs.client`. Celery is loaded where a run is submitted to a broker. That of a private fleet
has it already, and makes the message.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import socket
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import redis

from clinvk.broker.dispatcher import Dispatcher
from clinvk.core.broker_url import mask_password
from clinvk.core.errors import BrokerError, ClinvkError, UsageError
from clinvk.core.requirements import NOTHING, Requirements
from clinvk.core.spec import RunOptions, RunSummary, TaskSpec, backend_of, queue_of
from clinvk.core.worker_config import WorkerConfig
from clinvk.runs.celery_run import CeleryRun, RetriedRun
from clinvk.runs.client import LAST, PrivateFleet, key_problem, new_run_id
from clinvk.runs.event_reader import Beginning
from clinvk.runs.retry import NOT_RETRIED
from clinvk.runs.run_reader import BrokerAwayError, RunIsGoneError
from clinvk.runs.shared_schemas import SharedSchemas
from clinvk.runs.step_reader import NEWEST
from clinvk.store.store import Store

if TYPE_CHECKING:
    from clinvk.runs.shipping import Shipping

MOST_SHOWN = 5
"""Of how many workers it is said what they have."""
LOOK_BACK_RUNS = 1000
"""Among how many of the newest runs the user's newest is looked for."""


def login_name() -> str:
    """Return the name of the user of this process."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user of no name
        return str(os.getuid())


class CeleryClient:
    """Submits runs to the broker at `broker_url`.

    `private` is given for a private fleet, which ends with its client.

    Attributes:
        check_local: where the broker is the private server of another process's local run, raises
            a `BrokerError` once that is gone.
        ship_bytes: how much of a checkout may be sent to workers that have none.
    """

    check_local: Callable[[], None] | None = None
    ship_bytes: int = WorkerConfig().ship_bytes

    def __init__(
        self,
        broker_url: str,
        private: PrivateFleet | None = None,
        store: type[Store] = Store,
    ) -> None:
        self._broker_url = broker_url
        self.store = store.connect(broker_url)
        self.dispatcher = Dispatcher(self._message_of, self.store)
        self._private = private
        self.warnings: Sequence[str] = ()

    def close(self) -> None:
        """Close all connections."""
        self.store.close()

    def _message_of(self, run: str) -> str:
        if self._private is not None:
            return self._private.message_of(run)
        from clinvk.broker.app import create_app
        from clinvk.broker.message import template

        with closing(create_app(self._broker_url)) as app:
            return template(app, run)

    def is_answered(self) -> bool:
        """Whether the broker answers; the connection stays open."""
        try:
            return bool(self.store.redis.ping())
        except redis.RedisError:
            return False

    def check_server(self) -> Sequence[str]:
        """Make sure that the broker answers and has what clinvk needs.

        Returns:
            What is dangerous in its configuration for a fleet, one line each.

        Raises:
            BrokerError: it does not answer, or lacks something.
        """
        with self.reaching_broker():
            self.warnings = self.store.check_server()
        return self.warnings

    @property
    def ends_with_run(self) -> bool:
        """Whether the broker is there only as long as a run goes on."""
        return self.check_local is not None

    @property
    def is_private(self) -> bool:
        """Whether the fleet ends with this client."""
        return self._private is not None

    def check_health(self) -> None:
        """Check that the fleet can serve this client; called while a run gives no events.

        Raises:
            BrokerError: the private fleet cannot serve it any more.
        """
        if self._private is not None:
            self._private.check()
        if self.check_local is not None:
            self.check_local()

    def cancel(self, run: str, reason: str) -> None:
        """Cancel a run.

        Raises:
            BrokerError: the broker cannot be reached.
        """
        if self._private is not None:
            self._private.cancel(run, reason)
            return
        with self.reaching_broker():
            self.dispatcher.cancel(run, reason)

    def submit(
        self,
        specs: Sequence[TaskSpec],
        options: RunOptions,
        run_key: str = "",
        given: Sequence[TaskSpec] | None = None,
    ) -> CeleryRun:
        """Record a run and release its first tasks.

        With a key, the second submitter of the same tasks gets the first one's run. They are the
        same if they were `given` so, wherever they begin.

        Raises:
            BrokerError: the broker cannot be reached, or refuses to store more.
            UsageError: the key stands for a run of other tasks.
        """
        run = self._new_run(len(specs), options)
        digest = digest_of(given or specs, options) if run_key else ""
        with self.reaching_broker():
            known = self.store.submitted(run_key) if run_key else None
            if known is None:
                submitted = self.dispatcher.submit(
                    *(run, self._shipped(specs, options.keep_seconds), options),
                    *(run_key, digest, login_name()),
                )
                known = (submitted.run, submitted.taken_by_digest or digest)
        run, its_digest = known
        if its_digest != digest:
            raise UsageError(key_problem(run_key, run))
        return CeleryRun(run, len(specs), self)

    def _shipped(self, specs: Iterable[TaskSpec], keep_seconds: float) -> Iterator[TaskSpec]:
        """Yield tasks as they are stored: what they need beside them, and several may, is there.

        That is a checkout for workers that have none (`clinvk.runs.shipping`), and a schema.
        """
        shipping = None
        schemas = SharedSchemas(self.store, keep_seconds)
        for given in specs:
            spec = schemas.shared(given)
            if spec.workspace != "worktree" or self.is_private:
                yield spec
                continue
            if shipping is None:
                shipping = self._shipping(keep_seconds)
            yield shipping.shipped(spec)

    def _shipping(self, keep_seconds: float) -> Shipping:
        from clinvk.runs.shipping import Shipping  # loads what few runs need

        hosts = {entry.get("host") for entry in self.store.workers().values()}
        is_needed = hosts != {socket.gethostname()}  # else they have this machine's checkouts
        return Shipping(self.store, keep_seconds, self.ship_bytes if is_needed else 0)

    def _new_run(self, total: int, options: RunOptions) -> str:
        """Return the id of a run of so many tasks that is about to be submitted."""
        if self._private is None:
            return new_run_id()
        run = self._private.run_id
        self._private.submitting(
            RunSummary(
                run_id=run,
                total=total,
                kind=options.kind,
                max_parallel=options.max_parallel,
                fail_fast=options.fail_fast,
                max_micro_usd=options.max_micro_usd,
                max_total_tokens=options.max_total_tokens,
                created_ms=time.time_ns() // 1_000_000,
                user=login_name(),
                requires=options.requires.to_dict(),
            )
        )
        return run

    def open(self, run: str) -> CeleryRun:
        """Give a run that was submitted before; `last` is the newest of this user.

        Raises:
            UsageError: there is none of this id.
        """
        if run == LAST:
            run = self.newest()[0]
        with self.reaching_broker():
            summary = self.store.summary(run)
        if summary is None:
            raise UsageError(f"unknown run {run} (clinvk runs lists the runs)")
        return CeleryRun(run, summary.total, self, was_retried=summary.retries > 0)

    def retry(
        self,
        run: CeleryRun,
        tasks: Mapping[int, TaskSpec | None],
        seen_retries: int,
        max_parallel: int | None = None,
        budget: RunOptions | None = None,
    ) -> RetriedRun | None:
        """Run tasks of a run again, see `Store.retry`; None where they have to be chosen again.

        Raises:
            BrokerError: the broker cannot be reached, or does not have the run any more.
            ClinvkError: it cannot be retried now.
        """
        with self.reaching_broker():
            steps_position = self.store.steps_since(run.id, NEWEST).position
            edited = {index: spec for index, spec in tasks.items() if spec is not None}
            shipped = self._shipped(edited.values(), RunOptions().keep_seconds)
            changed = {**tasks, **dict(zip(edited, shipped, strict=True))}
            retried = self.store.retry(run.id, changed, seen_retries, max_parallel, budget)
        if retried.verdict == "changed":
            return None
        if retried.verdict != "retried":
            error = RunIsGoneError if retried.verdict == "gone" else ClinvkError
            raise error(NOT_RETRIED[retried.verdict].format(run.id))
        beginning = Beginning(
            indexes=tasks.keys(), position=retried.position, steps_position=steps_position
        )
        return RetriedRun(run, beginning)

    def newest(self) -> tuple[str, int]:
        """Return the newest run of this user, and when it was submitted (ms).

        Raises:
            UsageError: there is none.
        """
        user = login_name()
        with self.reaching_broker():
            for run in self.store.runs(LOOK_BACK_RUNS):
                if run.user == user:
                    return run.run_id, run.created_ms
        raise UsageError(f"last: no run of {user} here (clinvk runs lists the runs)")

    def served(self, requires: Requirements = NOTHING) -> set[str]:
        """Return the queues of live workers that have what is required of them."""
        with self.reaching_broker():
            return _served(self.store.workers().values(), requires)

    def check_served(
        self, choices: Iterable[Sequence[str]], requires: Requirements = NOTHING
    ) -> None:
        """Make sure that live workers serve one backend of each choice, and have what is required.

        Raises:
            BrokerError: nobody serves any of one, or those who do have other things.
        """
        with self.reaching_broker():
            workers = self.store.workers()
        choices = list(choices)
        if missing := _missing(choices, _served(workers.values(), NOTHING)):
            raise BrokerError(
                f"no live worker serves {', '.join(missing)}: start one with "
                f"`clinvk worker --queues {','.join(missing)}`, or submit anyway with "
                "--wait-for-workers"
            )
        if unmet := _missing(choices, _served(workers.values(), requires)):
            lines = [_unmet(name, requires, workers) for name in unmet]
            raise BrokerError(f"{'; '.join(lines)} (--wait-for-workers submits anyway)")

    @contextmanager
    def reaching_broker(self) -> Iterator[None]:
        """Turn what goes wrong with the broker into a `BrokerError`, the password masked."""
        try:
            yield
        except redis.RedisError as error:
            self.check_health()
            url = mask_password(self._broker_url)
            raise BrokerAwayError(f"cannot use the broker {url}: {error}") from error


def _served(entries: Iterable[Mapping[str, Any]], requires: Requirements) -> set[str]:
    return {
        queue
        for entry in entries
        for queue in entry["queues"]
        if requires.are_met(backend_of(queue), entry)
    }


def _missing(choices: Iterable[Sequence[str]], served: Collection[str]) -> list[str]:
    """Return the backends of those choices of which none is served."""
    unserved = [names for names in choices if not any(queue_of(name) in served for name in names)]
    return sorted({name for names in unserved for name in names})


def _unmet(name: str, requires: Requirements, workers: Mapping[str, Mapping[str, Any]]) -> str:
    """Say what is required of a backend's workers, and what they have."""
    have = [
        f"{worker} has {requires.found(name, entry)}"
        for worker, entry in sorted(workers.items())
        if queue_of(name) in entry["queues"]
    ]
    more = [f"and {len(have) - MOST_SHOWN} more"] if len(have) > MOST_SHOWN else []
    return (
        f"no live worker that serves {name} has what the run requires "
        f"({requires.of_backend(name)}): {'; '.join([*have[:MOST_SHOWN], *more])}"
    )


def digest_of(specs: Sequence[TaskSpec], options: RunOptions) -> str:
    """Return a digest of the tasks and options of a run."""
    digest = hashlib.sha256(options.to_wire())
    for spec in specs:
        digest.update(spec.to_wire())
    return digest.hexdigest()
