"""Where a file's text comes from: a path or standard input, as lines of UTF-8."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, NoReturn

from clinvk.core.errors import TaskFileError

STDIN = "<stdin>"
"""What messages call standard input."""


@contextmanager
def opened(
    path: str | None, stdin: IO[bytes], what: str = "task file"
) -> Iterator[tuple[IO[bytes], str]]:
    """Give a file's stream and its name; standard input where `path` is None or `-`.

    `what` is what messages call the kind of file.

    Raises:
        TaskFileError: it cannot be read, at once or inside of the `with` block.
    """
    piped = path is None or path == "-"
    name = STDIN if path is None or piped else path
    if piped and stdin.isatty():
        fail(f"no {what}: give one with --file, or pipe one to standard input")
    try:
        with nullcontext(stdin) if piped else Path(name).open("rb") as stream:
            yield stream, name
    except IsADirectoryError:
        fail(f"{name}: is a directory, not a {what}")
    except FileNotFoundError:
        fail(f"{name}: no such file")
    except OSError as error:
        fail(f"{name}: cannot be read: {error.strerror}")


def read(path: str | None, stdin: IO[bytes], what: str = "task file") -> tuple[str, str]:
    """Return the text of a file, or of standard input, and its name.

    Raises:
        TaskFileError: it cannot be read, or is not UTF-8.
    """
    with opened(path, stdin, what) as (stream, name):
        return "".join(decode_lines(stream, name)), name


def decode_lines(stream: Iterable[bytes], name: str) -> Iterator[str]:
    """Yield the lines of a stream with their line ends, without a byte order mark.

    Raises:
        TaskFileError: a line is not UTF-8.
    """
    position = 0
    for line in stream:
        if not position:
            line = line.removeprefix(codecs.BOM_UTF8)
        try:
            yield line.decode()
        except UnicodeDecodeError as error:
            fail(f"{name}: is not UTF-8 text (byte {position + error.start}); save it as UTF-8")
        position += len(line)


def fail(problem: str) -> NoReturn:
    """Refuse a file for one reason."""
    raise TaskFileError([problem])
