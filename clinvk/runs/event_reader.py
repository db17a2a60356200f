"""Read a run's events from Redis to its end, whatever happens to the server meanwhile."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from clinvk.core.spec import TaskResult
from clinvk.runs.client import Event, StepsWanted
from clinvk.runs.run_reader import BrokerAwayError, RunIsGoneError, RunReader, pages
from clinvk.runs.step_reader import StepReader
from clinvk.runs.waiting import Wait, describe, is_normal, waits
from clinvk.store.types import Explanation

AWAY_SECONDS = 600.0
"""How long whoever watches a run waits for its broker to come back."""
PRIVATE_AWAY_SECONDS = 10.0
"""The same where it is a private server, which may have no room on its disk for a moment."""
RETRY_SECONDS = 0.5
FEW, BUSY_SECONDS, GATHER_SECONDS = 20, 0.05, 0.02
"""Once there were more than a few events, and one came so soon after another, how long to gather
more: many short tasks would otherwise be read one by one, and each cost the server and this process
more than its worker."""
BLOCK_MS = 1000
"""How long to wait for events at a time."""
STEPS_BLOCK_MS = 200
"""The same where steps are wanted, which are looked for each time."""
LOOK_SECONDS = 0.9
"""How long after the last event, or the last look, the fleet's health is checked."""
ENDS = frozenset({"finished", "ended"})
QUIET_SECONDS = 10.0
"""After how long without an event to say what the run waits for, where that is not normal."""
NORMAL_QUIET_SECONDS = 300.0
"""The same where it just takes its time."""
WAITS_SECONDS, SELDOM_SECONDS = 2.0, 10.0
"""How often to look what tasks wait for until a time: while some do or none runs, and otherwise."""


def _step_reader(run: RunReader, steps: StepsWanted, anew: Beginning | None) -> StepReader | None:
    if steps == "none":
        return None
    if anew is not None:
        return StepReader(run, after=anew.steps_position)
    return StepReader(run, only_recent=steps == "recent")


Entry = Mapping[str, str]
_COUNT = re.compile("[0-9]{1,15}")
"""A number of a task or a dispatch: anyone who reaches the broker could have written another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """Where to begin with a run of which some tasks run again, those of `indexes`.

    Events after `position` and steps after `steps_position` are of that; all other tasks have their
    results already.
    """

    indexes: Collection[int]
    position: str
    steps_position: int


class EventReader:
    """Follows one run, from its beginning, or from when some of it ran `anew`.

    `events` may be called once.
    """

    def __init__(
        self, run: RunReader, steps: StepsWanted = "none", anew: Beginning | None = None
    ) -> None:
        self._run = run
        self._anew = anew
        self._steps = _step_reader(run, steps, anew)
        self._steps_read_at = 0.0
        self._position = anew.position if anew else "0"
        self._is_retried = run.was_retried or anew is not None
        self._superseded: Mapping[int, int] = {}
        self._entries_seen = 0
        self._has_ended = bytearray(run.total)
        self._reached_at = time.monotonic()
        self._quiet_since = self._looked_at = self._reached_at
        self._asked_at = self._reached_at
        self._said = ""
        self._running: set[int] = set()
        self._waits: Sequence[Wait] = ()
        self._waits_read_at = self._reached_at

    def events(self) -> Iterator[Event]:
        """Yield events until `ended`, see `CeleryRun.events`."""
        is_begun = False
        while True:
            try:
                if not is_begun:
                    yield from self._known()
                    is_begun = True
                for event in self._next_events():
                    yield event
                    if event.kind == "ended":
                        return
            except BrokerAwayError as error:
                away_seconds = time.monotonic() - self._reached_at
                outlives = self._run.outlives_client
                if away_seconds > (AWAY_SECONDS if outlives else PRIVATE_AWAY_SECONDS):
                    raise
                yield Event(kind="away", why=str(error))
                time.sleep(RETRY_SECONDS)

    def _known(self) -> Iterator[Event]:
        """Yield the results of tasks that do not run again; or see what has, in the past."""
        if self._anew is None:
            self._superseded = self._run.retried_dispatches() if self._is_retried else {}
            return
        others = [index for index in range(self._run.total) if index not in self._anew.indexes]
        for page in pages(others):
            for index, result in zip(page, self._run.read_results(page), strict=True):
                if result is not None and not self._has_ended[index]:
                    self._has_ended[index] = True
                    yield Event(kind="known", index=index, result=result)

    def _next_events(self) -> Iterator[Event]:
        before, entries = self._reached_at, self._read(STEPS_BLOCK_MS if self._steps else BLOCK_MS)
        self._reached_at = time.monotonic()
        if not entries:
            yield from self._new_steps()
            yield from self._new_waits()
            if self._reached_at - self._looked_at > LOOK_SECONDS:
                self._looked_at = self._reached_at
                yield from self._quiet()
            return
        self._quiet_since = self._looked_at = self._reached_at
        has_steps = False
        for entry, result in self._with_results([each for each in entries if self._fits(each)]):
            if entry["kind"] in ENDS and not has_steps:
                has_steps = True
                yield from self._new_steps()  # what a task did comes before its end
            yield from self._events_of(entry, result)
            self._position = entry["position"]
        self._position = entries[-1]["position"]
        if self._reached_at - self._steps_read_at > STEPS_BLOCK_MS / 1000:
            yield from self._new_steps()
        yield from self._new_waits()
        self._entries_seen += len(entries)
        if self._entries_seen > FEW and self._reached_at - before < BUSY_SECONDS:
            time.sleep(GATHER_SECONDS)

    def _new_steps(self) -> Iterator[Event]:
        """Yield the steps that have come, if they are wanted."""
        if self._steps is None:
            return
        self._steps_read_at = self._reached_at
        for step in self._steps.new():
            yield Event(kind="step", index=step.index, step=step)

    def _new_waits(self) -> Iterator[Event]:
        """Yield what tasks wait for until a time, if it is time to look and that has changed."""
        is_waiting = self._waits or not self._running
        interval_seconds = WAITS_SECONDS if is_waiting else SELDOM_SECONDS
        if self._reached_at - self._waits_read_at < interval_seconds or all(self._has_ended):
            return
        self._waits_read_at = self._reached_at
        before, explanation = self._waits, self._explanation()
        self._waits = waits(explanation) if explanation is not None else ()
        if [replace(each, now_ms=0) for each in self._waits] != [
            replace(each, now_ms=0) for each in before
        ]:
            yield Event(kind="waits", waits=self._waits)

    def _explanation(self) -> Explanation | None:
        client = self._run.client
        with client.reaching_broker():
            return client.store.explain(self._run.id)

    def _read(self, block_ms: int) -> Sequence[Entry]:
        client = self._run.client
        with client.reaching_broker():
            _, entries = client.store.wait_events(self._run.id, self._position, block_ms)
        return entries

    def _fits(self, entry: Entry) -> bool:
        """Whether an event is one that this run can have: others are passed over."""
        match entry.get("kind"):
            case "started" | "finished" | "held":
                index, dispatch = entry.get("index", ""), entry.get("dispatch", "")
                are_counts = _COUNT.fullmatch(index) and _COUNT.fullmatch(dispatch)
                if not are_counts or int(index) >= self._run.total:
                    return False
                return int(dispatch) > self._superseded.get(int(index), 0)
            case "retried":
                index = entry.get("index", "")
                return bool(_COUNT.fullmatch(index)) and int(index) < self._run.total
            case kind:
                return kind is not None

    def _with_results(self, entries: Sequence[Entry]) -> Iterator[tuple[Entry, TaskResult | None]]:
        """Yield the entries with the results that they tell of, and no more in memory than that."""
        for page in pages(entries):
            indexes = [int(entry["index"]) for entry in page if entry["kind"] == "finished"]
            results = self._run.read_results(indexes)
            for entry in page:
                yield entry, next(results) if entry["kind"] == "finished" else None

    def _events_of(self, entry: Entry, result: TaskResult | None) -> Iterator[Event]:
        at_ms = int(entry["at_ms"])
        match entry["kind"]:
            case "started":
                yield from self._started(entry, at_ms)
            case "retried":
                yield from self._retried(int(entry["index"]), at_ms)
            case "held":
                index = int(entry["index"])
                self._running.discard(index)
                self._waits_read_at = -math.inf  # so that it is told at once
                yield Event(kind="held", at_ms=at_ms, index=index)
            case "finished":
                index, dispatch = int(entry["index"]), int(entry["dispatch"])
                if result is not None and not self._has_ended[index]:
                    yield self._finished(index, result, at_ms, dispatch)
            case "repaired":
                yield Event(kind="repaired", at_ms=at_ms, why=entry.get("why", ""))
            case "ended" if entry.get("retries", "0") == str(self._run.summary().retries):
                yield from self._unseen(at_ms)
                yield Event(kind="ended", at_ms=at_ms)
            # Others that ended were retried since.
            # Others are of a newer version, or nobody has a use for them.

    def _started(self, entry: Entry, at_ms: int) -> Iterator[Event]:
        index, dispatch = int(entry["index"]), int(entry["dispatch"])
        if self._has_ended[index]:
            if self._is_retried:
                return
            raise self._lost_results()
        self._running.add(index)
        yield Event(
            kind="started",
            at_ms=at_ms,
            index=index,
            dispatch=dispatch,
            worker=entry.get("worker", ""),
            backend=entry.get("backend", ""),
        )

    def _retried(self, index: int, at_ms: int) -> Iterator[Event]:
        self._is_retried = True
        if self._has_ended[index]:
            self._has_ended[index] = False
            yield Event(kind="retried", at_ms=at_ms, index=index)

    def _finished(self, index: int, result: TaskResult, at_ms: int, dispatch: int) -> Event:
        self._has_ended[index] = True
        self._running.discard(index)
        return Event(kind="finished", at_ms=at_ms, index=index, dispatch=dispatch, result=result)

    def _unseen(self, at_ms: int) -> Iterator[Event]:
        """Yield the tasks whose end was not among the events."""
        unseen = [index for index in range(self._run.total) if not self._has_ended[index]]
        for page in pages(unseen):
            for index, result in zip(page, self._run.read_all_results(page), strict=True):
                yield self._finished(index, result, at_ms, 0)

    def _quiet(self) -> Iterator[Event]:
        """Nothing happened for a moment: see whether it should have."""
        client = self._run.client
        yield Event(kind="idle")
        client.check_health()
        # Where the last worker has gone, nobody else ends what it ran, or closes the run. A user
        # who may only ask leaves it to the next worker.
        if client.store.submitter is None:
            with client.reaching_broker():
                client.dispatcher.reap()
        self._check_progress()
        if text := self._what_it_waits_for():
            yield Event(kind="waiting", why=text)

    def _check_progress(self) -> None:
        """Hold the run's record against what was seen of it.

        A server that lost data, or another one that took over while it was behind, would
        otherwise be silent for ever.
        """
        summary = self._run.summary()
        seen = sum(self._has_ended)
        if summary.ended < seen:
            if self._read(1):
                return  # perhaps that some of it was retried
            raise self._lost_results()
        is_behind = summary.state == "done" or (summary.state == "running" and summary.ended > seen)
        if is_behind and not self._read(1):
            self._position = "0"  # of a server whose clock is behind; what was seen is passed over

    def _lost_results(self) -> RunIsGoneError:
        return RunIsGoneError(
            f"the broker has lost results of run {self._run.id} that it had recorded (a replica "
            "that was behind took over, or old data was restored)"
        )

    def _what_it_waits_for(self) -> str:
        """Say it once it is time, and only if it is not what was said before."""
        now = time.monotonic()
        if now - max(self._quiet_since, self._asked_at) < QUIET_SECONDS:
            return ""
        self._asked_at = now
        explanation = self._explanation()
        if explanation is None or not explanation.remaining:
            return ""
        if explanation.pending and len(waits(explanation)) == len(explanation.pending):
            return ""  # it is told already, by what they wait for
        patience_seconds = NORMAL_QUIET_SECONDS if is_normal(explanation) else QUIET_SECONDS
        text = describe(explanation)
        if now - self._quiet_since < patience_seconds or text == self._said:
            return ""
        self._said = text
        return text
