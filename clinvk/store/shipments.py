"""What clients ship of their checkouts to workers: pieces, and what was shipped before.

Pieces are named by their content, so each is stored once for all runs of a user, for as long as one
of these runs is kept. Who reads a piece checks that it is the one that its name says.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from clinvk.core.schemas import from_piece
from clinvk.core.shipment import name_of_piece
from clinvk.store import decoding
from clinvk.store.connection import Connection, all_but_wrong_types
from clinvk.store.keys import key

CONTENT = "content"


class Shipments(Connection):
    """The operations on what is shipped."""

    def missing_pieces(self, names: Collection[str], lifetime_ms: int) -> set[str]:
        """Keep the pieces that are there for at least so long; returns those that are not."""
        with self.redis.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.pexpire(self._piece(name), lifetime_ms, gt=True)
                pipeline.exists(self._piece(name))
            answers = pipeline.execute()
        return {name for name, there in zip(names, answers[1::2], strict=True) if not there}

    def put_pieces(self, pieces: Iterable[bytes], lifetime_ms: int) -> list[str]:
        """Store pieces, one after the other; returns their names."""
        names = []
        for content in pieces:
            name = name_of_piece(content)
            with self.redis.pipeline(transaction=False) as pipeline:
                pipeline.hset(self._piece(name), CONTENT, content)
                pipeline.pexpire(self._piece(name), lifetime_ms)
                pipeline.execute()
            names.append(name)
        return names

    def _piece(self, name: str) -> str:
        return key("piece", self.submitter or "", name)

    def shipped_before(self, repository: str) -> bytes | None:
        """Return what the client noted of its last shipment of a repository."""
        found: bytes | None = self.redis.hget(self._shipped(repository), CONTENT)
        return found

    def note_shipped(self, repository: str, text: bytes, lifetime_ms: int) -> None:
        """Note what was shipped of a repository, for the next time."""
        with self.redis.pipeline(transaction=False) as pipeline:
            pipeline.hset(self._shipped(repository), CONTENT, text)
            pipeline.pexpire(self._shipped(repository), lifetime_ms)
            pipeline.execute()

    def _shipped(self, repository: str) -> str:
        return key("shipped", self.submitter or "", repository)

    def schemas(self, run: str, names: Collection[str]) -> dict[str, dict[str, Any]]:
        """Read schemas that tasks of a run share; what is not there, or is none, is left out."""
        submitter = self.submitter_of(run)
        with self.redis.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.hget(key("piece", submitter, name), CONTENT)
            answers = all_but_wrong_types(pipeline)
        found = {
            name: from_piece(content)
            for name, content in zip(names, answers, strict=True)
            if isinstance(content, bytes) and name_of_piece(content) == name
        }
        return {name: schema for name, schema in found.items() if schema is not None}

    # For workers.

    def submitter_of(self, run: str) -> str:
        """Return who submitted a run, where that was a user who may only ask."""
        found = self.redis.hget(key("run", run), "submitter")
        return "" if found is None else decoding.text(found)

    def piece(self, submitter: str, name: str) -> bytes | None:
        """Read a piece; None where it is not there, or is not what its name says."""
        with self.redis.pipeline(transaction=False) as pipeline:
            pipeline.hget(key("piece", submitter, name), CONTENT)
            (content,) = all_but_wrong_types(pipeline)
        is_it = isinstance(content, bytes) and name_of_piece(content) == name
        return content if is_it else None
