"""Estimates of a dry run, as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from clinvk.core.estimates import Estimate, Range, Total
from clinvk.core.prices import MICROS
from clinvk.output.money import dollars
from clinvk.output.step_lines import short


def line(estimate: Estimate) -> str:
    """Return what a task is likely to use: `estimate: ~$0.08-$0.21, ~12k-40k tokens (…)`."""
    if not estimate.executions:
        return "estimate: none, nothing like it has run"
    parts = []
    if estimate.micro_usd is not None:
        parts.append(_usd(estimate.micro_usd))
    if estimate.tokens is not None:
        parts.append(f"{_tokens(estimate.tokens)} tokens")
    return f"estimate: {', '.join(parts)} (from {estimate.executions} executions)"


def total_lines(total: Total) -> Iterator[str]:
    """Yield what all tasks are likely to use, and how far that is not known."""
    if total.unknown_cost == total.unknown_tokens == total.tasks:
        yield f"Estimate of all {total.tasks} tasks: none, nothing like them has run"
        return
    parts = []
    if total.unknown_cost < total.tasks:
        parts.append(_usd(total.micro_usd) + _without(total.unknown_cost))
    if total.unknown_tokens < total.tasks:
        parts.append(f"{_tokens(total.tokens)} tokens" + _without(total.unknown_tokens))
    yield f"Estimate of all {total.tasks} tasks: {', '.join(parts)}"
    yield "(of such executions, half used up to the first number, nine of ten up to the second)"


def document(micro_usd: Range | None, tokens: Range | None, **more: Any) -> dict[str, Any]:
    """Return an estimate as JSON has it: null is what nobody knows."""
    return {
        "cost_usd": micro_usd and {"p50": micro_usd.half / MICROS, "p90": micro_usd.most / MICROS},
        "total_tokens": tokens and {"p50": tokens.half, "p90": tokens.most},
        **more,
    }


def total_document(total: Total) -> dict[str, Any]:
    """Return the estimate of all tasks as JSON has it."""
    return document(
        total.micro_usd if total.unknown_cost < total.tasks else None,
        total.tokens if total.unknown_tokens < total.tasks else None,
        tasks=total.tasks,
        tasks_of_unknown_cost=total.unknown_cost,
        tasks_of_unknown_tokens=total.unknown_tokens,
    )


def _without(tasks: int) -> str:
    return f" without {tasks} of unknown use" if tasks else ""


def _usd(amounts: Range) -> str:
    if amounts.half == amounts.most:
        return f"~{dollars(amounts.half)}"
    return f"~{dollars(amounts.half)}-{dollars(amounts.most)}"


def _tokens(amounts: Range) -> str:
    if amounts.half == amounts.most:
        return f"~{short(amounts.half)}"
    return f"~{short(amounts.half)}-{short(amounts.most)}"
