"""What must be true after a chaos run, from three independent records, and the figures.

The records are the run's own (`clinvk results`, and its events in Redis), the CLI's log with its
locks, and the process table.
"""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from clinvk.core.prices import micro_usd
from tests.system.chaos.chaos_run import Kill
from tests.system.chaos.work import LIMITED, ONCE, Work
from tests.system.chaos.world import Unit

LOSSES = ("worker", "machine", "partition")
"""How an execution was lost: its worker alone was killed, or all of its machine was, or its
machine's link was cut (whether its worker was killed as well or not)."""
CATEGORIES = (*LOSSES, *(f"{loss}, redis" for loss in LOSSES))
"""The same with the server away between the loss and the next start."""


@dataclass
class Execution:
    """One process of the CLI, as it told itself; its provider may have refused it."""

    index: int
    dispatch: int
    start_ns: int
    owner: str
    end_ns: int | None = None
    is_refused: bool = False


@dataclass
class Log:
    """The CLI's own record. Executions are in the order in which they began."""

    executions: dict[int, list[Execution]] = field(default_factory=lambda: defaultdict(list))
    overlaps: list[str] = field(default_factory=list)
    again: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> Log:
        log = cls()
        by_lease: dict[str, Execution] = {}
        lines = (line.split() for line in path.read_text().splitlines())
        for word, at, _, owner, lease in sorted(lines, key=lambda line: int(line[1])):
            _, index, dispatch = lease.rsplit(":", 2)
            if word == "overlap":
                log.overlaps.append(lease)
            elif word in {"end", "refused"}:
                by_lease[lease].end_ns = int(at)
                by_lease[lease].is_refused = word == "refused"
            else:
                if lease in by_lease:
                    log.again.append(lease)
                by_lease[lease] = Execution(int(index), int(dispatch), int(at), owner)
                log.executions[int(index)].append(by_lease[lease])
        return log

    def of(self, index: int, dispatch: int) -> Execution | None:
        found = [each for each in self.executions[index] if each.dispatch == dispatch]
        return found[0] if found else None


@dataclass(frozen=True)
class Records:
    """All that is judged. `events` is the run's stream, `requests` what the provider was asked.

    `ledger` is what `clinvk costs` prints, `reserved` what is still reserved of any budget.
    """

    work: Sequence[Work]
    results: dict[str, Any]
    shown: dict[str, Any]
    events: Sequence[dict[str, str]]
    log: Log
    requests: Sequence[dict[str, Any]]
    kills: Sequence[Kill]
    units: Sequence[Unit]
    outages: Sequence[Sequence[int]]
    ledger: dict[str, Any]
    reserved: dict[str, str]


@dataclass(frozen=True)
class Happened:
    """The dispatches of a task by what became of them, as the run's events tell."""

    losses: Sequence[int]
    holds: Sequence[int]
    finished: Sequence[int]


def problems(records: Records) -> Iterator[str]:
    """Yield everything that must not be."""
    entries, total = records.results["results"], len(records.work)
    if [entry["index"] for entry in entries] != list(range(total)):
        yield "the results are not one for each task, in order"
        return
    shown = [(entry["index"], entry["status"]) for entry in records.shown["results"]]
    if shown != [(entry["index"], entry["status"]) for entry in entries]:
        yield "the client showed something else than was recorded"
    counts = records.results
    if counts["completed"] + counts["failed"] + counts["canceled"] != total:
        yield f"the counts do not add up to {total}"
    yield from (f"ran beside another execution: {lease}" for lease in records.log.overlaps)
    yield from (f"started twice: {lease}" for lease in records.log.again)
    yield from (f"started before the reset: {lease}" for lease in early_starts(records))
    yield from _of_money(records)
    finished = _dispatches(records.events, "finished")
    for index in range(total):
        if len(finished[index]) != 1:
            yield f"task {index} was recorded {len(finished[index])} times"
    losses, holds = _dispatches(records.events, "lost"), _dispatches(records.events, "held")
    for work, entry in zip(records.work, entries, strict=True):
        index = entry["index"]
        ran = records.log.executions[index]
        happened = Happened(losses[index], holds[index], finished[index])
        for problem in _of_task(work, entry, ran, happened):
            yield f"task {index} ({work.kind}): {problem}"


def _of_money(records: Records) -> Iterator[str]:
    """Yield what is wrong with the budget, which is to agree with the tasks and the ledger."""
    budget = records.results["budget"]
    if budget["stopped"] or records.reserved:
        yield f"the budget is {budget}, and reserved is {records.reserved}"
    executions = [
        execution
        for entry in records.results["results"]
        for execution in (entry, *entry.get("tried", ()))
    ]
    costs = {
        "the tasks": sum(micro_usd(each.get("cost_usd")) for each in executions),
        "the ledger": micro_usd(records.ledger["cost_usd"]),
        "the run": micro_usd(records.results["cost_usd"]),
        "the budget": micro_usd(budget["cost_usd"]["spent"]),
    }
    tokens = {
        "the tasks": sum(each.get("usage", {}).get("total_tokens", 0) for each in executions),
        "the ledger": records.ledger["usage"]["total_tokens"],
        "the budget": budget["total_tokens"]["spent"],
    }
    for sums in (costs, tokens):
        if len(set(sums.values())) > 1 or not sums["the tasks"]:
            yield f"what was used does not agree: {sums}"
    if budget["cost_usd"]["reserved"] or budget["total_tokens"]["reserved"]:
        yield f"the budget has something reserved: {budget}"


def _dispatches(events: Iterable[dict[str, str]], *kinds: str) -> dict[int, list[int]]:
    found: dict[int, list[int]] = defaultdict(list)
    for event in events:
        if event["kind"] in kinds:
            found[int(event["index"])].append(int(event["dispatch"]))
    return found


def _of_task(
    work: Work,
    entry: dict[str, Any],
    ran: Sequence[Execution],
    happened: Happened,
) -> Iterator[str]:
    if entry["status"] == "lost":
        if work.kind != ONCE:
            yield "is lost"
        if len(ran) > 1:
            yield f"may run once, ran {len(ran)} times"
        return
    if (entry["status"], entry["exit_code"]) != work.expected:
        yield f"is {entry['status']}, {entry['exit_code']}: {entry.get('error')}"
    yield from _of_executions(work, entry, ran, happened)
    yield from _of_holds(entry, ran, happened.holds)


def _of_executions(
    work: Work,
    entry: dict[str, Any],
    ran: Sequence[Execution],
    happened: Happened,
) -> Iterator[str]:
    losses, finished = happened.losses, happened.finished
    if entry["attempts"] != 1 + len(losses):
        yield f"says {entry['attempts']} attempts, has {len(losses)} losses"
    attempts = [each for each in ran if each.dispatch not in happened.holds]
    if len(attempts) > entry["attempts"]:
        yield f"ran {len(attempts)} times in {entry['attempts']} attempts"
    counted = [each for each in ran if each.dispatch in finished]
    if len(counted) != 1 or counted[0] is not ran[-1]:
        yield f"its last execution is not the one recorded ({finished})"
    elif counted[0].end_ns is None and work.kind != "deaf":
        yield "what was recorded never ended"
    if entry["status"] == "ok" and work.kind not in {"flood", "bytes"}:
        lease = f":{entry['index']}:{finished[0]}"
        if not entry["output"].strip().endswith(lease):
            yield f"its output is not of dispatch {finished}"


def _of_holds(
    entry: dict[str, Any], ran: Sequence[Execution], holds: Sequence[int]
) -> Iterator[str]:
    """Yield what is wrong with the executions that were put back: each was refused, once."""
    refused = [each.dispatch for each in ran if each.is_refused]
    if len(set(holds)) != len(holds) or not set(holds) <= set(refused):
        yield f"dispatches {holds} were put back, {refused} were refused"
    if entry.get("rejections", 0) != len(holds):
        yield f"says {entry.get('rejections', 0)} rejections, was put back {len(holds)} times"


def early_starts(records: Records) -> list[str]:
    """Return what was started after a window limit was recorded, and before its reset."""
    opens_ms = {
        request["lease"].partition(":")[2]: 1000 * request["opens_at"]
        for request in records.requests
        if request.get("refused") == "usage_limit"
    }
    held, started = (
        {_of(e): _at_ms(e) for e in records.events if e["kind"] == kind}
        for kind in ("held", "started")
    )
    closed = [(at, opens_ms[task]) for task, at in held.items() if task in opens_ms]
    return [
        task
        for task, at in started.items()
        if records.work[int(task.partition(":")[0])].kind == LIMITED
        and any(since < at < until for since, until in closed)
    ]


def _of(event: dict[str, str]) -> str:
    """Return the task of an event, and the dispatch of it."""
    return f"{event['index']}:{event['dispatch']}"


def _at_ms(event: dict[str, str]) -> int:
    return int(event["id"].partition("-")[0])


@dataclass(frozen=True)
class Recovery:
    """From the loss of an execution to the next start of its task."""

    category: str
    seconds: float


def recoveries(records: Records) -> tuple[list[Recovery], int]:
    """Return the recoveries, and how many executions were in flight at the kills."""
    kills = {kill.owner: kill for kill in records.kills}
    units = {unit.name: unit for unit in records.units}
    finished = _dispatches(records.events, "finished", "held")
    found, in_flight = [], 0
    for index, ran in records.log.executions.items():
        # None ran of a task whose worker died between its claim and its start, and was final.
        for each, after in zip(ran, [*ran[1:], None], strict=False):
            kill = kills.get(each.owner)
            if each.dispatch in finished[index] or kill is None:
                continue
            if after is not None and after.start_ns < kill.at_ns:
                continue  # it had been stopped, and started elsewhere, before
            in_flight += 1
            if after is not None:
                span = (kill.at_ns, after.start_ns)
                is_cut = any(_meet(cut, span) for cut in units[kill.unit].cuts)
                found.append(_recovery("partition" if is_cut else kill.kind, span, records))
    found += _of_partitions(records, finished, kills)
    return found, in_flight


def _of_partitions(
    records: Records, finished: dict[int, list[int]], kills: dict[str, Kill]
) -> Iterator[Recovery]:
    """Yield what was lost to a cut link alone, from the moment of the cut."""
    units = {unit.name: unit for unit in records.units}
    for index, ran in records.log.executions.items():
        for each, after in pairwise(ran):
            kill = kills.get(each.owner)
            if kill is not None and kill.at_ns < after.start_ns:
                continue
            unit = units[each.owner.partition("@")[0]]
            cuts = [cut for cut in unit.cuts if _meet(cut, (each.start_ns, after.start_ns))]
            if cuts and each.dispatch not in finished[index]:
                since = max(cuts[0][0], each.start_ns)
                yield _recovery("partition", (since, after.start_ns), records)


def _recovery(loss: str, span: tuple[int, int], records: Records) -> Recovery:
    was_away = any(_meet(outage, span) for outage in records.outages)
    return Recovery(f"{loss}, redis" if was_away else loss, (span[1] - span[0]) / 1e9)


def _meet(one: Sequence[int], other: Sequence[int]) -> bool:
    return one[0] <= other[1] and other[0] <= (one[1] or other[1])


def figures(records: Records, left: Sequence[str], leases: Sequence[str]) -> dict[str, Any]:
    """Return the figures, by name."""
    entries = records.results["results"]
    statuses = Counter(entry["status"] for entry in entries)
    lost = [e["index"] for e in entries if e["status"] == "lost"]
    finished = _dispatches(records.events, "finished")
    ran = sum(map(len, records.log.executions.values()))
    begun = sum(1 for each in records.log.executions.values() if each)
    found, in_flight = recoveries(records)
    return {
        "tasks": len(entries),
        "statuses": dict(statuses),
        "lost": sum(records.work[index].kind != ONCE for index in lost),
        "lost as asked (on_worker_lost: fail)": sum(records.work[i].kind == ONCE for i in lost),
        "recorded twice": sum(len(dispatches) > 1 for dispatches in finished.values()),
        "overlapping executions": len(records.log.overlaps),
        "started while a limit was closed": len(early_starts(records)),
        "executions": ran,
        "refused by limits, and put back": sum(e["kind"] == "held" for e in records.events),
        "extra executions": ran - begun - sum(e["kind"] == "held" for e in records.events),
        "in flight at kills": in_flight,
        "why lost": dict(Counter(e["why"] for e in records.events if e["kind"] == "lost")),
        "recovery_seconds": {
            category: [round(r.seconds, 3) for r in found if r.category == category]
            for category in CATEGORIES
        },
        "cost_usd": records.results["cost_usd"],
        "processes left": len(left),
        "leases left": len(leases),
    }


def quantiles(seconds: Sequence[float]) -> str:
    """Say p50, p99 and the most of some times."""
    if not seconds:
        return "none"
    ordered = sorted(seconds)
    p99 = ordered[min(len(ordered) - 1, round(0.99 * (len(ordered) - 1)))]
    p50 = statistics.median(ordered)
    return f"p50 {p50:.1f} s, p99 {p99:.1f} s, at most {ordered[-1]:.1f} s ({len(ordered)})"
