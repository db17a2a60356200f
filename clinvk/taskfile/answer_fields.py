"""`schema` and `verify`, which a file writes otherwise than a `TaskSpec`.

In a file `schema` may be the path of a file, relative to the task file, and `verify` a line for the
shell. A spec has the schema itself, and the arguments of a command.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clinvk.core import answers, shell
from clinvk.core.spec import not_blank
from clinvk.core.strict_json import parse_json
from clinvk.core.user_paths import UnknownHomeError, expanded
from clinvk.core.validation_errors import shown

FIELDS = frozenset({"schema", "verify"})
MOST_FILE_BYTES = 1 << 20

Problem = tuple[str, str]


class Schemas:
    """The schemas that a file of tasks names; paths are relative to `directory`."""

    def __init__(self, directory: str = ".") -> None:
        self._directory = directory
        self._read: dict[str, dict[str, Any] | str] = {}

    @classmethod
    def beside(cls, name: str) -> Schemas:
        """Return those of the file of tasks with this path, or what stands for one."""
        return cls(str(Path(name).parent))

    def read(self, given: str | dict[str, Any]) -> dict[str, Any]:
        """Return a schema, given itself or by its path; each file is read once.

        Raises:
            ValueError: answers cannot be validated against it.
        """
        if isinstance(given, dict):
            answers.check_schema(given)
            return given
        if given not in self._read:
            try:
                self._read[given] = self._load(given)
            except ValueError as error:
                self._read[given] = f"{given}: {error}"
        found = self._read[given]
        if isinstance(found, str):
            raise ValueError(found)
        return found

    def _load(self, path: str) -> dict[str, Any]:
        schema: dict[str, Any] = _parsed(self._text(path))
        answers.check_schema(schema)
        return schema

    def _text(self, path: str) -> str:
        try:
            file = Path(self._directory, expanded(path))
            if file.exists() and not file.is_file():
                raise ValueError("is not a file")
            with file.open("rb") as stream:
                content = stream.read(MOST_FILE_BYTES + 1)
            text = content.decode("utf-8-sig")
        except UnknownHomeError as error:
            raise ValueError(str(error)) from error
        except FileNotFoundError as error:
            raise ValueError("no such file") from error
        except UnicodeDecodeError as error:
            raise ValueError(f"is not UTF-8 text (byte {error.start})") from error
        except OSError as error:
            raise ValueError(f"cannot be read: {error.strerror}") from error
        if len(content) > MOST_FILE_BYTES:
            raise ValueError(f"is larger than {MOST_FILE_BYTES} bytes")
        return text


def _parsed(text: str) -> Any:
    try:
        schema, problems = parse_json(text)
    except json.JSONDecodeError as error:
        what = error.msg.removesuffix(" at")
        place = f"line {error.lineno}, column {error.colno}"
        raise ValueError(f"is not valid JSON: {what} at {place}") from error
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error
    if problems:
        raise ValueError(problems[0])
    return schema


def plain(body: Mapping[str, Any], schemas: Schemas) -> tuple[Mapping[str, Any], list[Problem]]:
    """Return a task's fields with these two as a `TaskSpec` has them, and what is wrong.

    A field with something wrong, or of another type, is left as it is.
    """
    if FIELDS.isdisjoint(body):
        return body, []
    fields, problems = dict(body), list[Problem]()
    if isinstance(schema := body.get("schema"), str | dict):
        try:
            fields["schema"] = schemas.read(schema)
        except ValueError as error:
            problems.append(("schema", str(error)))
    if isinstance(verify := body.get("verify"), str):
        fields["verify"] = shell.command_line(verify)
        if not not_blank(verify):
            problems.append(("verify", f"must not be blank (got {shown(verify)})"))
    return fields, problems
