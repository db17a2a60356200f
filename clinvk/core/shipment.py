"""What a client ships of its checkout to workers that have none: said in one message.

Its content is in packs of git objects, in pieces that are named by their SHA-256. So is the message
itself, so a task names both with one word.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

from clinvk.core.errors import WireError

PIECE_BYTES = 1 << 20
MOST_PIECES = 2048
MOST_NAMES = 1000
MOST_CHARS = 1 << 16
PIECE = re.compile(r"[0-9a-f]{64}")
LINE_ENDS = {
    "core.autocrlf": re.compile(r"(?i:true|false|input|yes|no|on|off|1|0)"),
    "core.eol": re.compile(r"(?i:lf|crlf|native)"),
}
"""The settings that decide with which line ends git writes files, and their values."""
DAY_SECONDS = 86_400
_OBJECT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


def lifetime_ms(keep_seconds: float) -> int:
    """Return how long a piece stays: a day more than the run whose tasks need it."""
    return int((keep_seconds + DAY_SECONDS) * 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipment:
    """A commit `base` and the tree of the files that tasks are given; `included` are ignored files.

    `repository` names the checkout, for the workers that keep what they got of it, and `top` is
    where it is at the client. `packs` are lists of pieces, to be taken in this order. What they
    build on, the commits `needs`, is in the repository at `url`. The parents of the commits in
    `shallow` are nowhere. `excludes` are patterns of what git is not to see. `line_ends` are
    settings of git by which the files have the line ends that they have at the client.
    """

    repository: str
    top: str
    base: str
    tree: str
    included: str | None = None
    url: str | None = None
    needs: list[str] = field(default_factory=list)
    shallow: list[str] = field(default_factory=list)
    packs: list[list[str]] = field(default_factory=list)
    excludes: str = ""
    line_ends: dict[str, str] = field(default_factory=dict)

    @property
    def pieces(self) -> list[str]:
        """The names of all pieces."""
        return [piece for pack in self.packs for piece in pack]

    @property
    def objects(self) -> list[str]:
        """The names of the objects that a worker needs to begin."""
        return [name for name in (self.base, self.tree, self.included) if name is not None]

    def to_wire(self) -> bytes:
        """Encode it; the same shipment always in the same way."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def from_wire(cls, text: bytes) -> Self:
        """Decode what anybody may have written.

        Raises:
            WireError: it is no shipment.
        """
        try:
            body = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise WireError(f"cannot decode a shipment: {error}") from error
        known = {each.name for each in fields(cls)}
        if not isinstance(body, dict) or not known.issuperset(body) or not _fits(body):
            raise WireError("cannot decode a shipment: its fields do not fit")
        return cls(**body)


def name_of_piece(content: bytes) -> str:
    """Return the name of a piece."""
    return hashlib.sha256(content).hexdigest()


def _fits(body: Mapping[str, Any]) -> bool:
    packs = body.get("packs", [])
    return (
        _is(PIECE, body.get("repository"))
        and _is_text(body.get("top"))
        and _is(_OBJECT, body.get("base"))
        and _is(_OBJECT, body.get("tree"))
        and (body.get("included") is None or _is(_OBJECT, body["included"]))
        and (body.get("url") is None or _is_text(body["url"]))
        and _are(_OBJECT, body.get("needs", []), MOST_NAMES)
        and _are(_OBJECT, body.get("shallow", []), MOST_NAMES)
        and isinstance(packs, list)
        and all(_are(PIECE, pack, MOST_PIECES) for pack in packs)
        and sum(map(len, packs)) <= MOST_PIECES
        and _is_text(body.get("excludes", ""))
        and _are_line_ends(body.get("line_ends", {}))
    )


def _are_line_ends(settings: object) -> bool:
    return isinstance(settings, dict) and all(
        name in LINE_ENDS and _is(LINE_ENDS[name], value) for name, value in settings.items()
    )


def _is(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _are(pattern: re.Pattern[str], value: object, most: int) -> bool:
    return isinstance(value, list) and len(value) <= most and all(_is(pattern, x) for x in value)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= MOST_CHARS and "\0" not in value
