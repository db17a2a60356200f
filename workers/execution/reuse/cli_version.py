"""Which CLI would run a task: its version, or what its program is made of."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections.abc import Mapping
from pathlib import Path

from clinvk.backends.base import Backend
from workers.execution.ask import ask

Stamp = tuple[str, int, int, int, int]


class CliVersions:
    """The versions of CLIs, each asked for again when its program is another one."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, Stamp], str | None] = {}
        self._hashes: dict[Stamp, str] = {}
        self._lock = threading.Lock()

    def of(self, backend: Backend, environment: Mapping[bytes, bytes]) -> str | None:
        """Return what tells the CLI from other versions of it; None where nobody can say."""
        program = program_of(backend, environment)
        if program is None or (stamp := _stamp(program)) is None:
            return None
        with self._lock:
            key = (backend.name, stamp)
            if key not in self._known:
                self._known[key] = self._version(backend, environment, program)
            return self._known[key]

    def _version(
        self, backend: Backend, environment: Mapping[bytes, bytes], program: str
    ) -> str | None:
        if not backend.version_argv:
            return self._content(program)
        return version_of(backend, environment)

    def content(self, path: str) -> str | None:
        """Return what tells a file from others by what is in it; None where it is no file."""
        with self._lock:
            return self._content(path)

    def _content(self, path: str) -> str | None:
        stamp = _stamp(path)
        if stamp is None:
            return None
        if stamp not in self._hashes:
            try:
                with Path(path).open("rb") as file:
                    self._hashes[stamp] = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError:
                return None
        return self._hashes[stamp]


def version_of(backend: Backend, environment: Mapping[bytes, bytes]) -> str | None:
    """Return what a CLI says of its version; None where it does not."""
    said, code = ask(backend.version_argv, environment)
    return said if code == 0 and said else None


def program_of(backend: Backend, environment: Mapping[bytes, bytes]) -> str | None:
    """Return the path of a backend's program; None where there is none."""
    search = os.fsdecode(environment.get(b"PATH", os.fsencode(os.defpath)))
    return shutil.which(backend.program, path=search)


def stamp_of(backend: Backend, environment: Mapping[bytes, bytes]) -> Stamp | None:
    """Return what changes when the program of a backend is replaced; None where there is none."""
    program = program_of(backend, environment)
    return None if program is None else _stamp(program)


def _stamp(path: str) -> Stamp | None:
    """Return what changes when a file is replaced or written."""
    try:
        real = os.path.realpath(path)
        about = os.stat(real)  # noqa: PTH116
    except OSError:
        return None
    if not os.path.isfile(real):  # noqa: PTH113
        return None
    return real, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns
