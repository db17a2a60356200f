"""Tasks made of one prompt and many things: files, lines, or the rows of a CSV file.

A thing has named values, which replace `{name}` in the prompt in one pass, so that braces inside of
a value stay as they are. The tasks come as JSON Lines, and are read as any task file is.
"""

from __future__ import annotations

import csv
import glob
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any

from clinvk.core.errors import TaskFileError, UsageError
from clinvk.core.suggestions import did_you_mean
from clinvk.taskfile.sources import decode_lines, fail

_NAME = re.compile(r"\{\{(\w+)\}\}|\{(\w+)\}")
FILE_NAMES = ("file", "stem", "content")

Thing = tuple[str, Mapping[str, str]]
"""What a task is called, and the values of its names."""


def files(patterns: Sequence[str], prompt: str) -> Iterator[Thing]:
    """Yield the files that match any of the patterns (`**` is any directories), each once.

    Raises:
        TaskFileError: none does, or one cannot be read as text; with all of them.
        UsageError: the prompt uses a name that files do not have.
    """
    wanted = names_in(prompt, FILE_NAMES)
    problems = []
    found = dict.fromkeys(path for pattern in patterns for path in _matching(pattern))
    for path in found:
        values = {"file": path, "stem": Path(path).stem}
        try:
            if "content" in wanted:
                values["content"] = Path(path).read_text(encoding="utf-8")
            yield path, values
        except UnicodeDecodeError as error:
            problems.append(f"{path}: is not UTF-8 text (byte {error.start})")
        except OSError as error:
            problems.append(f"{path}: cannot be read: {error.strerror}")
    if not found:
        fail(f"--each: no file matches {' or '.join(patterns)}")
    if problems:
        raise TaskFileError(problems)


def _matching(pattern: str) -> list[str]:
    return sorted(p for p in glob.glob(pattern, recursive=True) if Path(p).is_file())  # noqa: PTH207


def lines(stream: IO[bytes], name: str, prompt: str) -> Iterator[Thing]:
    """Yield the lines of a file that are not blank; where it is called `.csv`, its rows.

    Raises:
        TaskFileError: it is not UTF-8, has no line, or a row has more cells than the header.
        UsageError: the prompt uses a name that a line, or the header of the file, does not have.
    """
    text = decode_lines(stream, name)
    if name.lower().endswith(".csv"):
        yield from _rows(text, name, prompt)
        return
    names_in(prompt, ("line",))
    for line in text:
        if line.strip():
            yield line.strip(), {"line": line.rstrip("\r\n")}


def _rows(text: Iterable[str], name: str, prompt: str) -> Iterator[Thing]:
    reader = csv.DictReader(text, strict=True)
    try:
        columns = reader.fieldnames or ()
        names_in(prompt, columns)
        for row in reader:
            if None in row:
                fail(f"{name}: line {reader.line_num}: has more cells than the header")
            values = {column: value or "" for column, value in row.items()}
            yield next(iter(values.values()), ""), values
    except csv.Error as error:
        fail(f"{name}: line {reader.line_num}: is not valid CSV: {error}")


def names_in(prompt: str, known: Sequence[str]) -> set[str]:
    """Return the names that a prompt uses.

    Raises:
        UsageError: one is not known.
    """
    used = {match[2] for match in _NAME.finditer(prompt) if match[2]}
    for name in sorted(used - set(known)):
        listed = ", ".join(f"{{{each}}}" for each in known) or "none"
        raise UsageError(
            f"the prompt has {{{name}}}{did_you_mean(name, known)} (known: {listed}; "
            f"for the text itself write {{{{{name}}}}})"
        )
    return used


def filled(prompt: str, values: Mapping[str, str]) -> str:
    """Return the prompt with its names replaced by their values, and `{{x}}` by `{x}`."""
    return _NAME.sub(lambda found: values[found[2]] if found[2] else f"{{{found[1]}}}", prompt)


def task_lines(things: Iterable[Thing], prompt: str, common: Mapping[str, Any]) -> Iterator[bytes]:
    """Yield a JSON line for the task of each thing, with the fields that all have in common."""
    tasks = (
        {**common, "prompt": filled(prompt, values), "name": name, "meta": _meta(values)}
        for name, values in things
    )
    encoded = (json.dumps(task).encode() for task in tasks)
    head = list(islice(encoded, 2))
    if len(head) == 1:  # one object alone would be a whole file
        head = [b"[%b]" % head[0]]
    for line in chain(head, encoded):
        yield line + b"\n"


def _meta(values: Mapping[str, str]) -> dict[str, str]:
    """Return what is kept with the result; contents are not."""
    return {name: value for name, value in values.items() if name != "content"}
