"""The kinds of runs: one file each for how it is shown, and one line here."""

from __future__ import annotations

from clinvk.output.formatter import Formatter
from clinvk.output.kinds.chain import Chain
from clinvk.output.kinds.compare import Compare
from clinvk.output.kinds.parallel import Parallel

FORMATTERS: dict[str, Formatter] = {
    "parallel": Parallel(),
    "chain": Chain(),
    "compare": Compare(),
}


def formatter_of(kind: str) -> Formatter:
    """Return the formatter of a kind of run; one that is not known here looks like `parallel`."""
    return FORMATTERS.get(kind, FORMATTERS["parallel"])
