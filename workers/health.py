"""How well this machine can run tasks: its CLIs, their logins, its sandbox, its disk.

Nothing here costs money: a CLI is asked for its version and its login, never for an answer.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from clinvk.backends.base import Backend
from clinvk.core.checks import Check, CheckState
from clinvk.core.errors import ConfigError
from clinvk.core.user_paths import UnknownHomeError, expanded, expanded_default
from clinvk.core.worker_config import WorkerConfig
from workers.execution import policy_file
from workers.execution.ask import ask
from workers.execution.environment import decoded
from workers.execution.executor import Executor
from workers.execution.reuse.cli_version import Stamp, program_of, stamp_of, version_of
from workers.execution.sandbox.sandbox import Sandbox

LARGEST_FILE_BYTES = 1 << 20
_VERSION = re.compile(r"\d+(?:\.\d+)+")


def announced(config: WorkerConfig, executor: Executor) -> dict[str, Any]:
    """Return what a worker announces of its machine: `clis`, their versions, and `checks`."""
    backends = executor.backends()
    found = list(clis(backends, executor.environment, {backend.name for backend in backends}))
    checks = [*machine(config, executor.sandbox), *(check for _, _, check in found)]
    return {
        "clis": {backend.name: version for backend, version, _ in found if backend.version_argv},
        "checks": [check.to_dict() for check in checks],
    }


def programs(executor: Executor) -> list[Stamp | None]:
    """Return what changes when the program of a CLI is replaced, for each backend."""
    return [stamp_of(backend, executor.environment(backend)) for backend in executor.backends()]


def machine(config: WorkerConfig, sandbox: Sandbox) -> Iterator[Check]:
    """Yield what is not a matter of single backends."""
    yield _sandbox(config, sandbox)
    yield _git()
    yield _disk(config)
    if config.policy_file:
        yield _policy(config.policy_file)


def _sandbox(config: WorkerConfig, sandbox: Sandbox) -> Check:
    announced = sandbox.description()
    if "gaps" in announced:
        gaps = announced["gaps"]
        listed = f" (gaps: {', '.join(map(str, gaps))})" if isinstance(gaps, list) and gaps else ""
        return Check(name="sandbox", state="ok", detail=f"{announced['by']}{listed}")
    state: CheckState = "problem" if config.sandbox_require else "warning"
    hint = "install bubblewrap, or see docs/concepts/sandbox.md for what a container needs"
    if config.sandbox == "off":
        hint = "set worker.sandbox: auto"
    return Check(name="sandbox", state=state, detail=str(announced.get("reason")), hint=hint)


def _git() -> Check:
    hint = "install git: agents use it, and tasks in checkouts are guarded by its layout"
    if (program := shutil.which("git")) is None:
        return Check(name="git", state="warning", detail="not found", hint=hint)
    said, _ = ask([program, "--version"], None)
    return Check(name="git", state="ok", detail=said.removeprefix("git version "))


def _disk(config: WorkerConfig) -> Check:
    directory = expanded_default(config.spill_dir)
    existing = next(path for path in (directory, *directory.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    detail = f"{free >> 20} MiB free at {existing}"
    if not os.access(existing, os.W_OK):
        hint = "long outputs are kept there: set limits.spill_dir to a directory of yours"
        return Check(name="disk", state="warning", detail=f"cannot write {existing}", hint=hint)
    if free < 2 * config.spill_reserve_bytes:
        hint = "make room, or set limits.spill_dir; long outputs will be cut"
        return Check(name="disk", state="warning", detail=detail, hint=hint)
    return Check(name="disk", state="ok", detail=detail)


def _policy(path: str) -> Check:
    try:
        policy_file.load(path)
    except ConfigError as error:
        hint = "correct the file: a worker does not start with half a policy"
        return Check(name="policy", state="problem", detail="; ".join(error.problems), hint=hint)
    return Check(name="policy", state="ok", detail=path)


def clis(
    backends: Sequence[Backend],
    environment_of: Callable[[Backend], Mapping[bytes, bytes]],
    needed: Collection[str],
) -> list[tuple[Backend, str | None, Check]]:
    """Return each backend with the version of its CLI (None: there is none) and how it is.

    A `needed` one that does not work is a problem. CLIs take seconds to answer, so all are asked
    at once.
    """

    def look(backend: Backend) -> tuple[Backend, str | None, Check]:
        version, check = _cli(backend, environment_of(backend), is_needed=backend.name in needed)
        return backend, version, check

    with ThreadPoolExecutor(max(1, len(backends))) as pool:
        return list(pool.map(look, backends))


def versions(
    backends: Iterable[Backend], environment_of: Callable[[Backend], Mapping[bytes, bytes]]
) -> dict[str, str | None]:
    """Return what the CLI of each backend says of its version; None where nobody can tell."""
    asked = [backend for backend in backends if backend.version_argv]

    with ThreadPoolExecutor(max(1, len(asked))) as pool:
        names = [backend.name for backend in asked]
        answers = pool.map(version_of, asked, map(environment_of, asked))
        return dict(zip(names, answers, strict=True))


def _cli(
    backend: Backend, environment: Mapping[bytes, bytes], *, is_needed: bool
) -> tuple[str | None, Check]:
    if program_of(backend, environment) is None:
        state: CheckState = "problem" if is_needed else "absent"
        hint = backend.install_hint
        return None, Check(name=backend.name, state=state, detail="not installed", hint=hint)
    said, code = ask(backend.version_argv, environment) if backend.version_argv else ("", 0)
    wrong: CheckState = "problem" if is_needed else "warning"
    if code is None:
        detail = f"{' '.join(backend.version_argv)} does not work: {said}"
        hint = f"install it again: {backend.install_hint}"
        return None, Check(name=backend.name, state=wrong, detail=detail, hint=hint)
    return said or None, _installed(backend, environment, said, wrong)


def _installed(
    backend: Backend, environment: Mapping[bytes, bytes], version: str, wrong: CheckState
) -> Check:
    """Return how a CLI is that works: whether it is logged in, and as new as the one tried."""
    login = _login(backend, environment)
    words = (version, {True: "logged in", False: "not logged in", None: ""}[login])
    detail = ", ".join(word for word in words if word)
    if login is False:
        hint = f"{backend.login_hint} (as the user that runs tasks)"
        return Check(name=backend.name, state=wrong, detail=detail, hint=hint)
    if is_older(version, backend.tested_version):
        detail += f"; clinvk was tested with {backend.tested_version}"
        hint = f"update it: {backend.install_hint}"
        return Check(name=backend.name, state="warning", detail=detail, hint=hint)
    return Check(name=backend.name, state="ok", detail=detail)


def _login(backend: Backend, environment: Mapping[bytes, bytes]) -> bool | None:
    """Whether a CLI is logged in; None where that cannot be told."""
    argv = backend.login_argv
    has_login = ask(argv, environment)[1] == 0 if argv else None
    return backend.is_logged_in(decoded(environment), _read, has_login=has_login)


def _read(path: str) -> str | None:
    """Return the text of a small file of this user's; None where there is none."""
    try:
        with expanded(path).open(encoding="utf-8", errors="replace") as stream:
            return stream.read(LARGEST_FILE_BYTES)
    except (OSError, UnknownHomeError):
        return None


def is_older(said: str, tested: str) -> bool:
    """Whether a version, somewhere in what a CLI said, is older than another."""
    found = _VERSION.search(said)
    return bool(tested and found and _numbers(found[0]) < _numbers(tested))


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]
