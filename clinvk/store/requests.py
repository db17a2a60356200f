"""What users who may not change the store themselves ask of workers, who do it for them.

A submitter (`clinvk acl`) may write its submissions and its requests, and nothing else. So what a
command changes beyond that becomes a request: an operation with its arguments, in a stream that
only this user and workers can write. Whichever worker is first takes the request out, checks it,
acts and answers. The name of the stream says who asks: that much a submitter cannot forge.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any

import redis

from clinvk.core.spec import QUEUE_PATTERN
from clinvk.store import decoding
from clinvk.store.connection import Connection
from clinvk.store.keys import key
from clinvk.store.leases import CLAIM_TIMEOUT_MS
from clinvk.store.retries import NEVER_STARTED, OVER_BUDGET

REQUEST_MS = 3_600_000
"""How long a request, and the answer to one, stays. No longer than a submission."""
ANSWER_SECONDS = 30.0
"""How long a submitter waits for a worker; to open a run, as long as its request stays."""
SAY_AFTER_SECONDS = 5.0
REPEAT_SECONDS = 10.0
"""After how long without an answer a request that was taken is made again."""
BLOCK_MS = 1000
MAX_REQUESTS = 100
MAX_SUBMITTERS = 100
MAX_BYTES = 1 << 16
"""What a worker takes on between two renewals of its leases: how many requests, of how many users,
how large each. Users beyond that have their turn later; larger requests are dropped."""
RUN_PATTERN = r"[0-9A-Za-z][0-9A-Za-z_.-]{0,127}"
TICKET_PATTERN = r"[0-9a-f]{32}"
NUMBER = r"(\d{1,12}(\.\d{1,17})?)?"
LIMITS = {"max_concurrency": r"\d{0,9}", "interval_ms": NUMBER, "rate": r"[\w./ ]{0,30}"}
LIMITS["paused"] = "1?"
LIMITS["paused_until"] = r"\d{0,15}"

logger = logging.getLogger(__name__)


class RequestError(Exception):
    """A request that no worker carries out; the message is for who asked."""


class Requests(Connection):
    """Asking workers, and doing what was asked."""

    def call(self, name: str, **arguments: Any) -> Any:
        """Run the script of an operation, or have a worker run it."""
        if self.submitter is not None and name in CHECKS:
            return self._ask(self.submitter, name, arguments)
        return super().call(name, **arguments)

    def _ask(self, submitter: str, name: str, arguments: Mapping[str, Any]) -> Any:
        checked = json.dumps(CHECKS[name](submitter, arguments))
        request = {"operation": name, "arguments": checked, "ticket": secrets.token_hex(16)}
        patience_seconds = REQUEST_MS / 1000 if name == "open" else ANSWER_SECONDS
        answer = json.loads(self._answer_to(request, submitter, patience_seconds))
        if "error" in answer:
            raise redis.ResponseError(answer["error"])
        return _encoded(answer["answer"])

    def _answer_to(
        self, request: Mapping[str, str], submitter: str, patience_seconds: float
    ) -> bytes:
        """Ask, and wait for the answer; once more if it was lost together with a worker."""
        answer = key("answer", submitter, request["ticket"])
        has_said, begun_at = False, time.monotonic()
        asked_at, position = begun_at, self._put(submitter, request)
        while not self.redis.xread({answer: "0"}, count=1, block=BLOCK_MS):
            now = time.monotonic()
            if now - begun_at > SAY_AFTER_SECONDS and not has_said:
                has_said = True
                logger.warning("waiting for a worker, since the user %s may only ask", submitter)
            if now - begun_at > patience_seconds:
                raise redis.TimeoutError(
                    f"no worker did what was asked within {patience_seconds:.0f} s, and the user "
                    f"{submitter} may only ask: start a worker"
                )
            if now - asked_at > REPEAT_SECONDS and not self._is_waiting(submitter, position):
                asked_at, position = now, self._put(submitter, request)
        ((_, fields),) = self.redis.xrange(answer, count=1)
        found: bytes = fields[b"answer"]
        return found

    def _put(self, submitter: str, request: Mapping[str, str]) -> bytes:
        stream = key("requests", submitter)
        with self.redis.pipeline(transaction=False) as pipeline:
            pipeline.sadd(key("submitters"), submitter)
            pipeline.pexpire(key("submitters"), REQUEST_MS)
            pipeline.xadd(stream, request)
            pipeline.pexpire(stream, REQUEST_MS)
            position: bytes = pipeline.execute()[2]
        return position

    def _is_waiting(self, submitter: str, position: bytes) -> bool:
        return bool(self.redis.xrange(key("requests", submitter), position, position))

    # For workers.

    def serve(self, message: Callable[[str], str]) -> None:
        """Do what submitters ask for.

        `message` makes the template of a run's messages: that of a submitter is not used, for a
        worker would take it for Celery's.
        """
        found = self.redis.srandmember(key("submitters"), MAX_SUBMITTERS)
        names = [decoding.text(name) for name in found]
        self.submitters = [*dict.fromkeys([*names, *self.submitters])][:MAX_SUBMITTERS]
        room = MAX_REQUESTS
        for submitter in self.submitters:
            requests = self.call(
                "take_requests", submitter=submitter, count=room, max_bytes=MAX_BYTES
            )
            for operation, arguments, ticket in requests:
                self._serve_one(submitter, decoding.text(operation), arguments, ticket, message)
            room -= len(requests)
            if room <= 0:
                return  # after the next renewal of leases there are more

    def _serve_one(
        self,
        submitter: str,
        operation: str,
        arguments: bytes,
        ticket: bytes,
        message: Callable[[str], str],
    ) -> None:
        if not re.fullmatch(TICKET_PATTERN, decoding.text(ticket)):
            logger.warning("a request of %r without a place for its answer was dropped", submitter)
            return
        try:
            checked = self._checked(submitter, operation, arguments)
            if operation == "open":
                checked["message"] = message(checked["run"])
            answer = {"answer": _decoded(self.call(operation, **checked))}
        except (RequestError, redis.ResponseError) as error:
            answer = {"error": str(error)}
        place = key("answer", submitter, decoding.text(ticket))
        with self.redis.pipeline(transaction=False) as pipeline:
            pipeline.xadd(place, {"answer": json.dumps(answer)})
            pipeline.pexpire(place, REQUEST_MS)
            pipeline.execute()

    def _checked(self, submitter: str, operation: str, arguments: bytes) -> dict[str, Any]:
        """Return the arguments of an operation that this user may ask for."""
        if operation not in CHECKS:
            raise RequestError(f"no operation that may be asked for: {operation[:40]!r}")
        try:
            checked = CHECKS[operation](submitter, json.loads(arguments))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise RequestError(f"the arguments of {operation} do not fit: {error}") from error
        if operation in OF_OWN_RUNS:
            self._check_owner(submitter, operation, checked["run"])
        if operation in {"limit", "reopen"} and not self.redis.sismember(
            key("queues"), checked["queue"]
        ):
            raise RequestError(f"no worker has ever served {checked['queue']}")
        return checked

    def _check_owner(self, submitter: str, operation: str, run: str) -> None:
        owner = self.redis.hget(key("run", run), "submitter")
        if owner != submitter.encode():
            raise RequestError(
                f"run {run} is not one of {submitter}'s, who may {operation} only those"
            )


def _matching(pattern: str, value: object) -> str:
    text = str(value)
    if not re.fullmatch(pattern, text, re.ASCII):
        raise ValueError(f"not {pattern}: {text[:60]!r}")
    return text


def _open(submitter: str, given: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "run": _matching(RUN_PATTERN, given["run"]),
        "submitter": submitter,
        "claim_timeout_ms": CLAIM_TIMEOUT_MS,
        "once_key": _once_key(submitter, str(given["once_key"])),
        "digest": _matching(r"[0-9a-f]{0,64}", given["digest"]),
    }


def _once_key(submitter: str, given: str) -> str:
    """Return the key of a run, which is the submitter's own: nobody takes another's first."""
    if given and not given.startswith(f"{submitter}:"):
        raise ValueError("the key of the run is not the submitter's")
    return given


def _cancel(_submitter: str, given: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "run": _matching(RUN_PATTERN, given["run"]),
        "reason": _matching(r"\w{1,40}", given["reason"]),
    }


def _retry(submitter: str, given: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "run": _matching(RUN_PATTERN, given["run"]),
        "ticket": _matching(RUN_PATTERN, given["ticket"]),
        "submitter": submitter,
        "seen_retries": _matching(r"\d{1,9}", given["seen_retries"]),
        "max_parallel": _matching(r"([1-9]\d{0,8})?", given["max_parallel"]),
        "max_cost": _matching(r"\d{0,15}", given.get("max_cost", "")),
        "max_tokens": _matching(r"\d{0,15}", given.get("max_tokens", "")),
        "allow_unknown": _matching("1?", given.get("allow_unknown", "")),
        "never_started": NEVER_STARTED,
        "over_budget": OVER_BUDGET,
        "claim_timeout_ms": CLAIM_TIMEOUT_MS,
    }


def _aggregate(_submitter: str, given: Mapping[str, Any]) -> dict[str, Any]:
    return {"run": _matching(RUN_PATTERN, given["run"])}


def _admit(_submitter: str, _given: Mapping[str, Any]) -> dict[str, Any]:
    return {"claim_timeout_ms": CLAIM_TIMEOUT_MS}


def _limit(_submitter: str, given: Mapping[str, Any]) -> dict[str, Any]:
    pairs = given["pairs"]
    checked = [
        part
        for name, value in zip(pairs[::2], pairs[1::2], strict=True)
        for part in (name, _matching(LIMITS[name], value))
    ]
    return {
        "queue": _matching(QUEUE_PATTERN, given["queue"]),
        "source": "operator",
        "pairs": checked,
    }


def _reopen(submitter: str, given: Mapping[str, Any]) -> dict[str, Any]:
    return {"queue": _matching(QUEUE_PATTERN, given["queue"]), **_admit(submitter, given)}


CHECKS: Mapping[str, Callable[[str, Mapping[str, Any]], dict[str, Any]]] = {
    "open": _open,
    "cancel": _cancel,
    "retry": _retry,
    "aggregate": _aggregate,
    "admit": _admit,
    "limit": _limit,
    "reopen": _reopen,
}
"""The operations that may be asked for, each with what takes its arguments from a request."""
OF_OWN_RUNS = frozenset({"cancel", "retry"})
"""Those that a submitter may ask for only where the run is its own."""


def _decoded(answer: Any) -> Any:
    if isinstance(answer, bytes):
        return answer.decode("utf-8", "replace")
    return [_decoded(part) for part in answer] if isinstance(answer, list) else answer


def _encoded(answer: Any) -> Any:
    if isinstance(answer, str):
        return answer.encode()
    return [_encoded(part) for part in answer] if isinstance(answer, list) else answer
