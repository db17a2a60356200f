"""Feeds a backend's reader with the stdout of a command while it is written."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime

from clinvk.backends.base import OutputReader, ParsedOutput, ProcessResult
from clinvk.core.error_log import ErrorLog
from clinvk.core.steps import Step
from workers.execution import local_time
from workers.execution.lines import LineSplitter

logger = logging.getLogger(__name__)

_errors = ErrorLog(logger)


class LiveReader:
    """The reader of one command's output; `on_line` gets each line with the steps it tells of.

    `tz` is the command's variable TZ, where it is not that of this process; `clock` tells the
    seconds since the epoch. `on_session` gets the id of the CLI's session as soon as a line has
    named it.

    A reader that raises has a bug: that is logged once, and costs the task the steps of a line.

    Attributes:
        wants_output: whether the reader reads lines at all.
    """

    def __init__(
        self,
        backend: str,
        reader: OutputReader,
        on_line: Callable[[str, Sequence[Step]], object],
        tz: str | None = None,
        clock: Callable[[], float] = time.time,
        *,
        on_session: Callable[[str], object] = lambda _: None,
    ) -> None:
        self._backend = backend
        self._reader = reader
        self._on_line = on_line
        self._tz = tz
        self._clock = clock
        self._on_session = on_session
        self._session_id: str | None = None
        self._lines = LineSplitter()
        self._failed_lines = 0
        self._taken_bytes = 0
        self.wants_output = type(reader).read is not OutputReader.read

    def take(self, piece: bytes) -> None:
        """Read the next piece of stdout; never raises."""
        self._taken_bytes += len(piece)
        self._read(self._lines.split(piece))

    def finish(self, process: ProcessResult) -> ParsedOutput:
        """Read what is left, and return what the CLI meant."""
        if self.wants_output:
            self._read(self._lines.end())
        parsed = self._reader.finish(replace(process, ended_at=self._now()))
        is_whole = self._failed_lines == 0 and self._taken_bytes >= process.stdout.size
        if self.wants_output and not is_whole and not parsed.acted:
            parsed = replace(parsed, acted=None)  # what was not read may tell of it
        if self._failed_lines:
            lines = "1 line" if self._failed_lines == 1 else f"{self._failed_lines} lines"
            warning = f"clinvk could not read {lines} of the output of {self._backend}"
            parsed = replace(parsed, warnings=(*parsed.warnings, warning))
        return parsed

    def _now(self) -> datetime:
        return local_time.now(self._tz, self._clock)

    def _read(self, lines: Iterable[str]) -> None:
        at = self._now()
        for line in lines:
            try:
                self._on_line(line, tuple(self._reader.read(line, at)))
            except Exception as error:  # noqa: BLE001  (the backend of some package)
                self._failed_lines += 1
                _errors.log(f"reading the output of {self._backend}", error)
        if self._reader.session_id != self._session_id and self._reader.session_id:
            self._session_id = self._reader.session_id
            self._on_session(self._session_id)
