"""Read the steps of a run: those that are there, and those that come."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from clinvk.core.steps import StepRecord
from clinvk.runs.run_reader import BrokerAwayError, RunReader

POLL_SECONDS = 0.2
"""How often to look for new steps."""
AWAY_SECONDS = 600.0
"""How long whoever follows a run waits for its broker to come back."""


NEWEST = 1 << 52
"""A position after any: the store says of it what the newest is."""
RECENT_STEPS = 1000


class StepReader:
    """Reads the steps of a run, of one task or of all, each once.

    With `only_recent`, it skips what came before the last RECENT_STEPS steps of the run. It begins
    after the sequence `after`.

    Attributes:
        position: the sequence after which the next steps are read.
    """

    def __init__(
        self,
        run: RunReader,
        index: int | None = None,
        *,
        only_recent: bool = False,
        after: int = 0,
    ) -> None:
        self.position = NEWEST if only_recent else after
        self._run = run
        self._index = index

    def new(self) -> Iterator[StepRecord]:
        """Yield the steps that have come since the last call.

        Raises:
            BrokerAwayError: the broker cannot be used just now.
        """
        client, has_more = self._run.client, True
        if self.position == NEWEST:
            with client.reaching_broker():
                newest = client.store.steps_since(self._run.id, NEWEST).position
            self.position = max(0, newest - RECENT_STEPS)
        while has_more:
            with client.reaching_broker():
                page = client.store.steps_since(self._run.id, self.position, self._index)
            self.position, has_more = page.position, page.has_more
            yield from (each for each in page.records if 0 <= each.index < self._run.total)


def follow(
    run: RunReader, index: int | None, note: Callable[[str], None], away_seconds: float
) -> Iterator[StepRecord]:
    """Yield steps until the run, or the task, has ended. Waits for a broker that is away.

    Raises:
        BrokerAwayError: it could not be used for `away_seconds`.
        RunIsGoneError: the broker has lost the run.
    """
    reader, reached_at, is_away = StepReader(run, index), time.monotonic(), False
    while True:
        try:
            has_ended = _has_ended(run, index)
            yield from reader.new()
            if is_away:
                note("clinvk: the broker can be reached again")
            reached_at, is_away = time.monotonic(), False
            if has_ended:
                return
        except BrokerAwayError as error:
            if time.monotonic() - reached_at >= away_seconds:
                raise
            if not is_away:
                note(f"clinvk: {error}; retrying")
            is_away = True
        time.sleep(POLL_SECONDS)


def _has_ended(run: RunReader, index: int | None) -> bool:
    """Whether no more steps will come; asked before the last ones are read."""
    if run.summary().ended_ms is not None:
        return True
    return index is not None and next(run.read_results([index])) is not None
