"""Why a task cannot be started here."""

from __future__ import annotations

from clinvk.core.spec import ErrorKind


class RefusedError(Exception):
    """A task that cannot be started here; becomes its result.

    With `is_final` it is not tried elsewhere either.
    """

    def __init__(self, kind: ErrorKind, message: str, *, is_final: bool = False) -> None:
        super().__init__(message)
        self.kind = kind
        self.is_final = is_final
