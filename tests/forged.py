"""What anyone who reaches the broker could put there, and what must hold whatever it is.

The unit tests look at some hundred examples each, `tests/system/fuzz` at ten thousand.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from functools import cache, partial
from typing import Any

from hypothesis import strategies as st

from clinvk.broker import message_checks
from clinvk.broker.app import create_app
from clinvk.broker.message import EXECUTE, template
from clinvk.broker.message_checks import BadMessageError
from clinvk.broker.transport import Channel
from clinvk.core.changes import Changes
from clinvk.core.errors import WireError
from clinvk.core.spec import TaskResult, TaskSpec
from clinvk.core.worker_config import WorkerConfig
from clinvk.output import documents, tables
from clinvk.output.kinds import formatter_of
from clinvk.store import decoding
from clinvk.store.types import Claim
from workers.execution.assignment import assigned
from workers.execution.preparation import Preparation
from workers.execution.refusal import RefusedError
from workers.execution.shared_schemas import SharedSchemas

RUN, QUEUE = "20260102-030405-abcdef01", "clinvk.echo"

TEXTS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["", " ", "\ud800", "a\0b", "~nosuchuser", "/", "..", "NaN", "1e999", "\x9b31m"]
    ),
    st.sampled_from(["ok", "lost", "echo", "claude", "codex", "py", "full", "{{previous}}", "-x"]),
)
NUMBERS = st.one_of(
    st.integers(-3, 3),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([2**31, 2**53, 2**63, 10**400, -(10**20), 1e308]),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=6,
)
"""Any JSON, with a preference for what is likely to hurt."""


def changed(genuine: dict[str, Any], other_names: Sequence[str] = ()) -> st.SearchStrategy[Any]:
    """A genuine object of which some values are any others, and some are missing."""
    names = st.sampled_from([*genuine, *other_names, "unheard of"])
    edits = st.lists(st.tuples(names, st.one_of(st.just(...), VALUES)), max_size=4)
    return edits.map(lambda edits: _edited(genuine, edits))


def _edited(genuine: dict[str, Any], edits: list[tuple[str, Any]]) -> dict[str, Any]:
    edited = copy.deepcopy(genuine)
    for name, value in edits:
        if value is ...:
            edited.pop(name, None)
        else:
            edited[name] = value
    return edited


def wires(objects: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    """Objects as they would stand in Redis, other JSON, JSON that is cut, and any bytes."""
    texts = st.one_of(objects, objects, VALUES).map(json.dumps).map(str.encode)
    cut = st.tuples(texts, st.integers(1, 9)).map(lambda pair: pair[0][: -pair[1]])
    return st.one_of(texts, texts, texts, cut, st.binary(max_size=9))


# Tasks.

SPECS = wires(
    changed({"v": 1, "backend": "echo", "prompt": "x"}, list(TaskSpec.__dataclass_fields__))
)


@cache
def preparation() -> Preparation:
    """What a worker with one configured backend prepares tasks with."""
    return Preparation(WorkerConfig(backends={"py": {"command": ["true"]}}), "w@h")


def check_spec(wire: bytes) -> None:
    """A task is refused with a reason, or can be started and supervised."""
    earlier = TaskResult.unknown(0, "gone")
    try:
        claim, complete = Claim("go", wire), partial(SharedSchemas().complete, run="r")
        spec, session = assigned(claim, complete).begin("w@h", "go on")
        task = preparation().prepare(spec, lambda indexes: [earlier] * len(indexes), session)
    except RefusedError:
        return
    task.close()
    spec = task.spec
    assert spec.timeout_seconds is None or 0 < spec.timeout_seconds < float("inf")
    assert all(isinstance(argument, str) for argument in task.command.argv)
    assert TaskSpec.from_wire(spec.to_wire()) == spec


# Messages.


@cache
def genuine_message() -> dict[str, Any]:
    """What the store publishes for the first dispatch of a task."""
    text = template(_app(), RUN)
    for name, value in {"INDEX": "0", "DISPATCH": "1", "LEASE": f"{RUN}:0:1"}.items():
        text = text.replace(f"@{name}@", value)
    message: dict[str, Any] = json.loads(text.replace("@QUEUE@", QUEUE))
    return message


@cache
def _app() -> Any:
    app = create_app("redis://localhost")

    def nothing(run: str, index: int, dispatch: int) -> None:
        """Stand for the task of a worker."""

    app.finalize()
    if EXECUTE not in app.tasks:  # it is where a worker's module is loaded
        app.task(name=EXECUTE)(nothing)
    return app


@st.composite
def messages(draw: st.DrawFn) -> Any:
    """A message with something changed in any of its parts."""
    message = copy.deepcopy(genuine_message())
    part = draw(st.sampled_from(["all", "headers", "properties", "delivery_info", "body", "any"]))
    match part:
        case "any":
            return draw(VALUES)
        case "all":
            return draw(changed(message))
        case "body":
            message["body"] = draw(st.one_of(TEXTS, VALUES.map(json.dumps), _bodies()))
        case "delivery_info":
            properties = message["properties"]
            properties[part] = draw(changed(properties[part]))
        case _:
            others = ["compression", "eta", "expires", "shadow", "timelimit", "body_encoding"]
            message[part] = draw(changed(message[part], others))
    return message


def _bodies() -> st.SearchStrategy[str]:
    embedded = changed({"callbacks": None, "errbacks": None, "chain": None, "chord": None})
    arguments = st.one_of(st.just([RUN, 0, 1]), st.lists(VALUES, max_size=4))
    parts = st.tuples(arguments, st.one_of(st.just({}), VALUES), st.one_of(embedded, VALUES))
    return parts.map(list).map(json.dumps)


class DecodingChannel(Channel):
    """As much of a channel as a message asks for."""

    def __init__(self) -> None:
        """Connect to nothing."""

    def __del__(self) -> None:
        """Have nothing to close."""


def check_message(message: Any) -> None:
    """A message is refused, or Celery makes a request of it that calls the task."""
    from celery.worker.request import Request

    try:
        message_checks.check(message, QUEUE)
    except BadMessageError:
        return
    kombus: Any = Channel
    taken = kombus.Message(message, channel=DecodingChannel())
    app = _app()
    request = Request(taken, app=app, hostname="h", task=app.tasks[EXECUTE])
    run, index, dispatch = request.args
    assert (type(run), type(index), type(dispatch)) == (str, int, int)
    assert request.kwargs == {}
    assert request.eta is None
    hash(request.id)
    assert not request.revoked()


# Records.

GENUINE_RESULT = {"v": 1, "index": 0, "status": "ok", "exit_code": 0, "duration_seconds": 1.5}
CHANGES = changed(
    {
        **dict.fromkeys(("base", "start", "tree", "head"), "0" * 40),
        "changed_files": ["a"],
        "files": 1,
        "insertions": 1,
        "patch_bytes": 1,
        "patch": "x",
        "commits": [{"sha": "0" * 40, "author": "a", "message": "m"}],
        "blobs": {"pack": "b"},
    },
    list(Changes.__dataclass_fields__),
)
RESULTS = wires(
    st.one_of(
        changed(GENUINE_RESULT, list(TaskResult.__dataclass_fields__)),
        CHANGES.map(lambda changes: {**GENUINE_RESULT, "changes": changes}),
    )
)
KINDS = ("parallel", "chain", "compare", "of a later version")


def check_result(wire: bytes) -> None:
    """A result is shown, whatever it is."""
    result = decoding.result(0, wire)
    assert result.index == 0
    assert TaskResult.from_wire(result.to_wire()) == result
    spec = TaskSpec(backend="echo", prompt="x")
    formatter = formatter_of(KINDS[len(wire) % len(KINDS)])
    json.loads(documents.dump(formatter.entry(spec, result)))
    formatter.ended(spec, result, 80)
    "".join(formatter.results(decoded_run(), iter([(spec, result)]), {})).encode()


def decoded_run() -> Any:
    """A run whose record can be read."""
    return decoding.summary(RUN, GENUINE_RUN, [b"1:r:clinvk.echo:w/1/2"])


GENUINE_RUN = {
    b"total": b"3",
    b"state": b"running",
    b"max_parallel": b"3",
    b"fail_fast": b"0",
    b"created_ms": b"1767323045000",
    b"requires": b'{"echo": ">=3", "tags": ["gpu"]}',
}
BYTES = st.one_of(
    st.binary(max_size=6),
    st.sampled_from(
        [b"", b"-1", b"nan", b"1e9", b"9" * 5000, b"9" * 30, b"\xff", b"\x9b31m", b"3"]
    ),
)
Run = tuple[dict[bytes, bytes], list[bytes], tuple[bytes, bytes | None]]
"""A run's record, its entries of tasks in flight, and what these have reserved."""
RUNS = st.tuples(
    st.dictionaries(
        st.one_of(
            st.sampled_from([*GENUINE_RUN, b"ok", b"ended_ms", b"kind", b"lost", b"max_cost"]),
            BYTES,
        ),
        BYTES,
        max_size=4,
    ),
    st.lists(BYTES, max_size=2),
    st.tuples(BYTES, st.one_of(st.none(), BYTES)),
)


def check_run(record: Run) -> None:
    """A run's record is refused as one that cannot be read, or is shown."""
    fields, in_flight, reserved = record
    try:
        run = decoding.summary(RUN, {**GENUINE_RUN, **fields}, in_flight, reserved)
    except WireError:
        return
    assert run is not None
    values = formatter_of(run.kind).status(run)
    shown = [*tables.runs([run]), *tables.status(values)]
    assert "\x9b" not in "".join(shown)
    json.loads(documents.dump(values))


WORKERS = wires(
    changed(
        {
            "slots": 1,
            "queues": ["clinvk.echo"],
            "version": "1",
            "clis": {"echo": "1"},
            "tags": ["a"],
        },
        ["sandbox"],
    )
)


def check_worker(wire: bytes) -> None:
    """A worker's entry is refused as one that cannot be read, or is shown."""
    try:
        entry = decoding.worker("w@h", wire)
    except WireError:
        return
    "".join(tables.workers({"w@h": entry})).encode("utf-8", "replace")
    json.loads(documents.dump(entry))
