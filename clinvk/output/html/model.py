"""What the report of a run says: sums, groups of failures, and each task, within a size."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from clinvk.core.changes import Changes, Commit
from clinvk.core.sanitize import multi_line, one_line
from clinvk.core.spec import TaskResult, TaskSpec, Try, Verification
from clinvk.output.html.markdown import rendered
from clinvk.output.text_width import first_line, fit, title
from clinvk.runs.report import FAILED, Report

TEXT_CHARS = 2_000_000
"""For all texts of all tasks together: as HTML they are about twice as long."""
TASK_CHARS = 100_000
"""For one of these texts, however few there are."""
TITLE_CELLS = 120
MESSAGES = 20
"""How many different messages of a kind of failure are listed."""
Steps = Mapping[int, Sequence[str]]
"""The steps of tasks, as lines, by the tasks' indexes."""


@dataclass(frozen=True, slots=True)
class Failures:
    """The failures of one kind: how many, and their messages, each with the tasks that have it."""

    kind: str
    count: int
    messages: Sequence[tuple[str, Sequence[int]]]
    more: int


@dataclass(frozen=True, slots=True)
class Share:
    """What the tasks of one backend and model used; None is not known."""

    backend: str
    model: str
    tasks: int
    tokens: int
    cost_usd: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """All that the page shows, beside the timeline."""

    counts: Mapping[str, int]
    failures: Sequence[Failures]
    shares: Sequence[Share]
    rows: Sequence[Mapping[str, Any]] = field(default_factory=list)
    cut_chars: int | None = None
    has_waited: bool = False


def contents(report: Report, steps: Steps, text_chars: int = TEXT_CHARS) -> Contents:
    """Make what the page shows of a run, with at most `text_chars` of texts (`_texts`)."""
    sizes = (
        len(text) for spec, result in report.rows() for text in _texts(spec, result, steps).values()
    )
    limit = _limit(sorted(sizes), text_chars)
    return Contents(
        counts=Counter(str(result.status) for result in report.results),
        failures=list(_failures(report)),
        shares=list(_shares(report)),
        rows=[_row(spec, result, steps, limit) for spec, result in report.rows()],
        cut_chars=limit if limit < TASK_CHARS else None,
        has_waited=any(result.waited_seconds for result in report.results),
    )


def _failures(report: Report) -> Iterator[Failures]:
    found: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for result in report.results:
        if result.status in FAILED:
            message = fit(one_line(result.error or "no message"), 300)
            found[str(result.error_kind or result.status)][message].append(result.index)
    for kind, messages in sorted(found.items(), key=lambda item: -_count(item[1])):
        frequent = sorted(messages.items(), key=lambda item: -len(item[1]))
        yield Failures(kind, _count(messages), frequent[:MESSAGES], len(frequent[MESSAGES:]))


def _count(messages: Mapping[str, Sequence[int]]) -> int:
    return sum(map(len, messages.values()))


def _shares(report: Report) -> Iterator[Share]:
    found: dict[tuple[str, str], list[TaskResult]] = defaultdict(list)
    for spec, result in report.rows():
        found[result.backend or spec.backend, result.model or ""].append(result)
    for (backend, model), results in sorted(found.items()):
        costs = [cost for result in results for cost in _costs(result)]
        tokens = sum(result.usage.total_tokens for result in results if result.usage)
        yield Share(backend, model, len(results), tokens, sum(costs) if costs else None)


def _costs(result: TaskResult) -> Iterator[float]:
    """Yield what each execution of a task is known to have cost."""
    costs = (*(each.cost_usd for each in result.tried), result.cost_usd)
    yield from (cost for cost in costs if cost is not None)


def _texts(spec: TaskSpec, result: TaskResult, steps: Steps) -> dict[str, str]:
    """Return the texts of a task that may be long, as they are before they are cut."""
    return {
        "prompt": spec.prompt,
        "data": "" if result.data is None else _as_json(result.data),
        "answer": result.output or "",
        "verify": result.verify.output if result.verify else "",
        "patch": _patch(result.changes) if result.changes else "",
        "steps": "\n".join(steps.get(result.index, ())),
    }


def _as_json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _patch(changes: Changes) -> str:
    if changes.patch is None and changes.patch_bytes:
        return f"[{changes.patch_bytes:,} bytes: clinvk diff prints them]"
    return changes.patch or ""


def _limit(sizes: Sequence[int], text_chars: int) -> int:
    """Return to how many characters each text is cut, so that all fit; `sizes` are sorted."""
    left, limit = text_chars, TASK_CHARS
    for position, size in enumerate(sizes):
        share = left // (len(sizes) - position)
        if size > share:
            return min(limit, share)
        left -= size
    return limit


def _row(spec: TaskSpec, result: TaskResult, steps: Steps, limit: int) -> dict[str, Any]:
    """Return a task for the page's script; what says nothing is left out."""
    texts = {
        name: multi_line(_cut(text, limit)) for name, text in _texts(spec, result, steps).items()
    }
    values = {
        "n": result.index + 1,
        "title": fit(title(spec), TITLE_CELLS),
        "id": spec.id,
        "tags": spec.tags,
        "backend": result.backend or spec.backend,
        "model": result.model,
        "status": str(result.status),
        "kind": str(result.error_kind) if result.error_kind else None,
        "seconds": result.duration_seconds,
        "waited": result.waited_seconds,
        "tokens": result.usage.total_tokens if result.usage else None,
        "cost": sum(_costs(result)) or None,
        "worker": result.worker,
        "start": result.start_time,
        "attempts": result.attempts if result.attempts > 1 else None,
        "repairs": result.repairs or None,
        "reused": result.reused,
        "opens": result.retry_at,
        "error": one_line(result.error or "") or None,
        **texts,
        "answer": rendered(texts["answer"]) if texts["answer"] else None,
        "verified": _verified(result.verify) if result.verify else None,
        "changes": _changes(result.changes) if result.changes and result.changes.any else None,
        "commits": [_commit(each) for each in result.changes.commits] if result.changes else None,
        "tried": [_tried(each) for each in result.tried],
        "warnings": [one_line(warning) for warning in result.warnings],
    }
    return {name: value for name, value in values.items() if value not in (None, "", [])}


def _verified(verification: Verification) -> str:
    code = verification.exit_code
    return "passed" if code == 0 else "stopped" if code < 0 else f"failed, exit code {code}"


def _changes(changes: Changes) -> str:
    files = f"{changes.files:,} {'file' if changes.files == 1 else 'files'}"
    return f"{files}, +{changes.insertions:,} -{changes.deletions:,}"


def _commit(commit: Commit) -> str:
    return f"{one_line(commit.sha[:12])} {first_line(commit.message)}"


def _tried(each: Try) -> str:
    parts = (each.backend, each.error_kind, each.error)
    return one_line(": ".join(str(part) for part in parts if part))


def _cut(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    return f"{text[:limit]}\n\n[cut here: {len(text) - limit:,} more characters are in the results]"
