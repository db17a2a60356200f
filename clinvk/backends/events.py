"""What the readers of event streams share: a line is a JSON object, and tells of some steps."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from datetime import datetime

from clinvk.backends import parsing
from clinvk.backends.base import OutputReader
from clinvk.backends.parsing import Json
from clinvk.core.steps import Step


class EventReader(OutputReader):
    """Reads a stream of JSON events; what is no event is passed over.

    Attributes:
        acted: whether a tool was called that can change something.
        at: when the latest event was read; None before the first one.
    """

    acted: bool = False
    at: datetime | None = None

    def read(self, line: str, at: datetime) -> Sequence[Step]:
        """Read an event and note whether it calls a tool that can change something."""
        event = next(parsing.objects([line]), None)
        if event is None:
            return ()
        self.at = at
        steps = self.event(event)
        self.acted = self.acted or any(step.can_change for step in steps)
        return steps

    @abstractmethod
    def event(self, event: Json) -> Sequence[Step]:
        """Take in one event; return the steps that it tells of, none for an unknown one."""
