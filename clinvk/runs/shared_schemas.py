"""Schemas of answers, each of which is stored once for all tasks that have it."""

from __future__ import annotations

from dataclasses import replace

from clinvk.core.schemas import to_piece
from clinvk.core.shipment import lifetime_ms, name_of_piece
from clinvk.core.spec import TaskSpec
from clinvk.store.store import Store


class SharedSchemas:
    """Stores the schemas of a run's tasks, as pieces that are named by their content.

    They stay as long as what is shipped of a checkout (`lifetime_ms`).
    """

    def __init__(self, store: Store, keep_seconds: float) -> None:
        self._store = store
        self._lifetime_ms = lifetime_ms(keep_seconds)
        self._stored = set[str]()

    def shared(self, spec: TaskSpec) -> TaskSpec:
        """Return a task that names its schema, if it has one, which is stored then."""
        if spec.schema is None:
            return spec
        piece = to_piece(spec.schema)
        name = name_of_piece(piece)
        if name not in self._stored:
            self._store.put_pieces([piece], self._lifetime_ms)
            self._stored.add(name)
        return replace(spec, schema=None, shared_schema=name)
