"""Results that later runs may take instead of running the same task again."""

from __future__ import annotations

from clinvk.store.connection import Connection
from clinvk.store.keys import key


class Reusable(Connection):
    """Results by the fingerprints of their tasks. Only workers write them."""

    def reusable(self, fingerprint: str) -> bytes | None:
        """Return the result that is kept for a task of this fingerprint, if there is one."""
        found: bytes | None = self.redis.get(key("reusable", fingerprint))
        return found

    def keep_reusable(self, fingerprint: str, result: bytes, lifetime_ms: int) -> None:
        """Keep a whole result, with all of its output, for later runs."""
        self.redis.set(key("reusable", fingerprint), result, px=lifetime_ms)
