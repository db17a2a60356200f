"""The schemas that tasks of a run share, read once by this worker."""

from __future__ import annotations

import threading
from typing import Any

from clinvk.core.schemas import from_piece
from clinvk.core.shipment import PIECE
from clinvk.core.spec import ErrorKind, TaskSpec
from workers.execution.refusal import RefusedError
from workers.execution.worktrees.repositories import ReadShipments

MOST_KNOWN = 50


class SharedSchemas:
    """Gives tasks the schemas that they name.

    Attributes:
        store: where they are read.
    """

    def __init__(self) -> None:
        self.store: ReadShipments | None = None
        self._known: dict[tuple[str, str], dict[str, Any]] = {}
        self._lock = threading.Lock()

    def complete(self, spec: TaskSpec, run: str) -> TaskSpec:
        """Return a task with its schema.

        Raises:
            RefusedError: it names one that is not there.
        """
        name = spec.shared_schema
        return spec if name is None else spec.with_schema({name: self._schema(run, name)})

    def _schema(self, run: str, name: str) -> dict[str, Any]:
        with self._lock:  # tasks that begin together wait for the first one's look
            if (run, name) not in self._known:
                if len(self._known) >= MOST_KNOWN:
                    del self._known[next(iter(self._known))]
                self._known[run, name] = self._read(run, name)
            return self._known[run, name]

    def _read(self, run: str, name: str) -> dict[str, Any]:
        content = None
        if self.store is not None and PIECE.fullmatch(name):
            content = self.store.piece(self.store.submitter_of(run), name)
        schema = None if content is None else from_piece(content)
        if schema is None:
            error = "the task's schema is not in the store any more: submit the task anew"
            raise RefusedError(ErrorKind.INVALID, error)
        return schema
