"""A JSON document piece by piece, so that not all results need to be in memory at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from clinvk.render.document import dump


def document(head: Mapping[str, Any], results: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a document: its head, then an entry of `results` at a time."""
    yield dump(head).removesuffix("\n}\n") + ',\n  "results": ['
    separator = "\n"
    for result in results:
        entry = dump(result).rstrip("\n")
        yield separator + "\n".join("    " + line for line in entry.split("\n"))
        separator = ",\n"
    yield "\n  ]\n}\n"
