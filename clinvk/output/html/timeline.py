"""The run over time, as SVG: a lane for each slot of each worker, or how many tasks ran."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape

from clinvk.core.spec import TaskSpec
from clinvk.output.text_width import fit, title
from clinvk.runs.report import Report

MOST_BARS = 1000
MOST_LANES = 60
WIDTH, LANE, GAP, LEFT, AXIS = 1000, 14, 3, 150, 22
"""Units of the drawing, which is as wide as its place on the page."""
BUCKETS = 200
TICKS = 6


@dataclass(frozen=True, slots=True)
class Bar:
    """A task that ran: from when to when, in seconds since the run began; how long it waited."""

    index: int
    label: str
    status: str
    worker: str
    begin: float
    end: float
    waited: float


def drawing(report: Report) -> str:
    """Return the drawing; empty where nothing ran."""
    bars = sorted(_bars(report), key=lambda bar: bar.begin)
    if not bars:
        return ""
    length = max(max(bar.end for bar in bars), report.duration_seconds, 0.001)
    lanes = list(_lanes(bars))
    if len(bars) <= MOST_BARS and len(lanes) <= MOST_LANES:
        height = len(lanes) * (LANE + GAP) + AXIS
        parts = [*_axis(length, height), *_drawn_lanes(lanes, length)]
        what = "each bar is a task"
    else:
        height = 160 + AXIS
        parts = [*_axis(length, height), _area(bars, length, height - AXIS)]
        what = "how many tasks ran"
    label = f"Timeline of {length:.0f} seconds: {what}"
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="group" aria-label="{label}">'
        f"<title>{label}</title>{''.join(parts)}</svg>"
    )


def _bars(report: Report) -> Iterator[Bar]:
    for spec, result in report.rows():
        if result.start_time is None or result.end_time is None:
            continue
        begin, end = (
            datetime.fromisoformat(at).timestamp() - report.started_ms / 1000
            for at in (result.start_time, result.end_time)
        )
        waited = min(result.waited_seconds or 0.0, max(0.0, begin))
        worker = result.worker or "unknown"
        yield Bar(
            result.index, _label(spec, result.index), str(result.status), worker, begin, end, waited
        )


def _label(spec: TaskSpec, index: int) -> str:
    return f"[{index + 1}] {fit(title(spec), 80)}"


def _lanes(bars: Sequence[Bar]) -> Iterator[tuple[str, list[Bar]]]:
    """Yield each worker's lanes: of each, tasks that ran one after another."""
    found: dict[str, list[list[Bar]]] = defaultdict(list)
    for bar in bars:
        lanes = found[bar.worker]
        free = next((lane for lane in lanes if lane[-1].end <= bar.begin), None)
        if free is None:
            lanes.append([bar])
        else:
            free.append(bar)
    for worker in sorted(found):
        for lane in found[worker]:
            yield worker, lane


def _x(seconds: float, length: float) -> float:
    return LEFT + (WIDTH - LEFT) * min(1.0, max(0.0, seconds / length))


def _drawn_lanes(lanes: Sequence[tuple[str, list[Bar]]], length: float) -> Iterator[str]:
    named = None
    for number, (worker, lane) in enumerate(lanes):
        top = number * (LANE + GAP)
        if worker != named:
            yield f'<text x="0" y="{top + LANE - 3}">{escape(fit(worker, 22))}</text>'
            named = worker
        for bar in lane:
            yield from _drawn(bar, top, length)


def _drawn(bar: Bar, top: int, length: float) -> Iterator[str]:
    x, end = _x(bar.begin, length), _x(bar.end, length)
    if bar.waited:
        at = _x(bar.begin - bar.waited, length)
        yield (
            f'<rect class="waited" x="{at:.1f}" y="{top + 5}" width="{x - at:.1f}" height="4">'
            f"<title>waited {bar.waited:.0f} s for limits</title></rect>"
        )
    told = escape(f"{bar.label}: {bar.status}, {bar.end - bar.begin:.1f} s")
    yield (
        f'<a href="#task-{bar.index + 1}"><rect class="{escape(bar.status)}" x="{x:.1f}" y="{top}" '
        f'width="{max(1.5, end - x):.1f}" height="{LANE}"><title>{told}</title></rect></a>'
    )


def _area(bars: Sequence[Bar], length: float, height: int) -> str:
    """Return how many tasks ran at each time."""
    counts = [0] * (BUCKETS + 1)
    for bar in bars:
        first, last = (
            int(BUCKETS * min(1.0, max(0.0, at / length))) for at in (bar.begin, bar.end)
        )
        for bucket in range(first, max(last, first + 1)):
            counts[min(bucket, BUCKETS)] += 1
    most = max(counts)
    points = (
        f"{_x(n * length / BUCKETS, length):.1f},{height - count * (height - 10) / most:.1f}"
        for n, count in enumerate(counts)
    )
    edge = f"{WIDTH},{height} {LEFT},{height}"
    return (
        f'<polygon class="ok" points="{" ".join(points)} {edge}"/>'
        f'<text x="0" y="14">{most} at most</text>'
    )


def _axis(length: float, height: int) -> Iterator[str]:
    for tick in range(TICKS + 1):
        seconds = length * tick / TICKS
        x = _x(seconds, length)
        anchor = "end" if tick == TICKS else "middle" if tick else "start"
        yield f'<line x1="{x:.1f}" y1="0" x2="{x:.1f}" y2="{height - AXIS}"/>'
        yield f'<text x="{x:.1f}" y="{height - 6}" text-anchor="{anchor}">{_time(seconds)}</text>'


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02d}:{rest:02d}"
    return f"{minutes}:{rest:02d}" if minutes else f"{seconds:.1f}s"
