"""The effective configuration, with the origin of each value and secrets masked."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from rich.cells import cell_len, set_cell_size

from clinvk.core.broker_url import MASK, mask_password

Row = tuple[str, Any, str]


def lines(rows: Iterable[Row]) -> Iterator[str]:
    """Yield `place: value  # origin` for each setting."""
    shown = [(f"{place}: {_text(place, value)}", origin) for place, value, origin in rows]
    width = max(cell_len(text) for text, _ in shown)
    for text, origin in shown:
        yield f"{set_cell_size(text, width)}  # {origin}"


def document(rows: Iterable[Row]) -> dict[str, Any]:
    """Return the settings as a JSON document."""
    return {
        place: {"value": _masked(place, value), "origin": origin} for place, value, origin in rows
    }


def _text(place: str, value: Any) -> str:
    return json.dumps(_masked(place, value), ensure_ascii=False)


def _masked(place: str, value: Any) -> Any:
    if place == "broker_url" and value is not None:
        return mask_password(value)
    if place.endswith(".env"):
        return dict.fromkeys(value, MASK)
    return value
