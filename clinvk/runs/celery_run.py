"""One submitted run."""

from __future__ import annotations

from collections.abc import Iterator

from clinvk.runs.client import Event, StepsWanted
from clinvk.runs.event_reader import Beginning, EventReader
from clinvk.runs.run_reader import RunReader


class CeleryRun(RunReader):
    """One submitted run."""

    def events(self, steps: StepsWanted = "none") -> Iterator[Event]:
        """Yield the run's events from its beginning, waiting for new ones, until `ended`.

        Raises:
            BrokerError: the broker cannot be reached any more, or has lost the run.
        """
        return EventReader(self, steps).events()


class RetriedRun(CeleryRun):
    """A run of which some tasks run again."""

    def __init__(self, run: CeleryRun, beginning: Beginning) -> None:
        super().__init__(run.id, run.total, run.client, was_retried=True)
        self._beginning = beginning

    def events(self, steps: StepsWanted = "none") -> Iterator[Event]:
        """Yield the results that are known, then the events since some tasks run again."""
        return EventReader(self, steps, self._beginning).events()
