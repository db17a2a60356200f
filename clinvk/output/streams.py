"""Standard output for data, standard error for everything else."""

from __future__ import annotations

import contextlib
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from functools import cached_property
from typing import IO

from clinvk.core.sanitize import json_escaped


class Output:
    """Data on stdout. When nobody reads it any more, that is noted once and the rest is dropped.

    On a terminal, characters that it would act on, or not show, are written as escapes: text has
    none of them, and in JSON that means the same.

    Where it `is_quiet`, a reader that goes away is not noted: nothing else depends on it.

    Attributes:
        broken: whether stdout could not be written.
    """

    def __init__(self, stream: IO[str], *, is_quiet: bool = False) -> None:
        self._stream = stream
        self._is_quiet = is_quiet
        self.broken = False

    @cached_property
    def is_terminal(self) -> bool:
        """Whether stdout is a terminal."""
        return self._stream.isatty()

    def write(self, text: str) -> None:
        """Write text; a reader that went away is not an error here."""
        self.write_all((text,))

    def write_all(self, pieces: Iterable[str]) -> None:
        """Write text piece by piece, as long as somebody reads it."""
        for piece in pieces:
            shown = json_escaped(piece) if self.is_terminal else piece
            self._attempt(self._stream.write, shown)
            if self.broken:
                return
        self._attempt(self._stream.flush)

    def write_bytes(self, content: bytes) -> None:
        """Write bytes that need not be text; not to a terminal."""
        self._attempt(self._stream.flush)
        self._attempt(self._stream.buffer.write, content)  # type: ignore[attr-defined]

    def _attempt(self, act: Callable[..., object], *arguments: str | bytes) -> None:
        if self.broken:
            return
        try:
            act(*arguments)
        except OSError as error:
            self.broken = True
            # What the interpreter flushes at exit must not raise again.
            with contextlib.suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
            if not (self._is_quiet and isinstance(error, BrokenPipeError)):
                why = error.strerror
                note(f"clinvk: cannot write to standard output ({why}); the run continues")


_listener: ContextVar[Callable[[str], object] | None] = ContextVar("listener", default=None)


@contextlib.contextmanager
def noting_to(listener: Callable[[str], object]) -> Iterator[None]:
    """Give what is noted inside to a listener, and not to stderr."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def note(text: str) -> None:
    """Write a line to stderr, if there is one."""
    if (listener := _listener.get()) is not None:
        listener(text)
    else:
        _write_error(f"{text}\n")


def _write_error(text: str) -> None:
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except RuntimeError:  # a signal came while the same stream was being written
        os.write(2, text.encode("utf-8", "backslashreplace"))
    except (OSError, ValueError):
        pass


class Streams:
    """Both streams of a run. A display on the terminal can hold back what others write to them.

    stdout may be the same terminal as stderr: what is written while a display is drawn there would
    end up inside it. So the display calls `hold`, and `write_held` whenever it is out of the way.

    Attributes:
        output: stdout, for what is written when no display is on.
    """

    def __init__(self, output: Output) -> None:
        self.output = output
        self._is_held = False
        self._held: deque[tuple[Callable[[str], None], str]] = deque()

    def write(self, text: str) -> None:
        """Write data to stdout, or hold it back."""
        if self._is_held:
            self._held.append((self.output.write, text))
        else:
            self.output.write(text)

    def note(self, line: str) -> None:
        """Write a line to stderr, or hold it back. Safe in a signal handler."""
        if self._is_held:
            self._held.append((note, line))
        else:
            note(line)

    def control(self, sequence: str) -> None:
        """Write a control sequence to the terminal that moves nothing; it is never held back."""
        _write_error(sequence)

    @property
    def has_held(self) -> bool:
        """Whether something waits for `write_held`."""
        return bool(self._held)

    def hold(self) -> None:
        """Hold back what is written, until `let_go`."""
        self._is_held = True

    def write_held(self) -> None:
        """Write what was held back, in its order, and hold back what comes next."""
        for _ in range(len(self._held)):
            write, text = self._held.popleft()
            write(text)

    def let_go(self) -> None:
        """Write what was held back, and what comes from now on at once."""
        self._is_held = False
        self.write_held()
