"""Every error that clinvk raises on purpose, and the exit code of each.

    ClinvkError                an error that is reported to the user                 exit 1
    ├── UsageError             a command line or a task file that cannot be run      exit 2
    │   └── TaskFileError      every problem of a task file, each with its place
    ├── ConfigError            a configuration file or CLINVK_* variable             exit 3
    ├── BrokerError            Redis or the workers behind it cannot be reached      exit 4
    └── WireError              a stored message that this version cannot read

A failed prompt is none of these: it is a `TaskResult`. Each message is one line that says what
is wrong, where, and what to do; facts that code would branch on are attributes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from clinvk.core import exit_codes


class ClinvkError(Exception):
    """Base of all errors that are reported to the user.

    Attributes:
        exit_code: what `clinvk` exits with when this error ends the command.
        problems: the lines to print, one for each problem.
    """

    exit_code: ClassVar[int] = exit_codes.TASK_FAILED

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        self.problems: tuple[str, ...] = (f"clinvk: {message}",)


class UsageError(ClinvkError):
    """The command line or the task file cannot be run as it stands."""

    exit_code = exit_codes.USAGE


class TaskFileError(UsageError):
    """A task file with all its problems.

    Attributes:
        problems: one line each, `tasks.json: tasks[4].max_turns: must be >= 1 (got 0)`.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class ConfigError(ClinvkError):
    """A configuration file or an environment variable that cannot be used.

    Attributes:
        problems: one line each, with the file or variable and the place in it.
    """

    exit_code = exit_codes.CONFIG

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class BrokerError(ClinvkError):
    """Redis, or the workers behind it, cannot be reached."""

    exit_code = exit_codes.BROKER


class WireError(ClinvkError):
    """A message in Redis that this version cannot decode."""
