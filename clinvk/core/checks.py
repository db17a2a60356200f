"""What `clinvk doctor` finds: one line for each thing that it looks at."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal, Self

from annotated_types import MinLen

from clinvk.core import wire_checks

CheckState = Literal["ok", "absent", "warning", "problem"]
"""`absent` is something that could be there and need not; a `problem` keeps something from working
that the configuration uses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What was looked at, how it is, and what to do where it is not well."""

    name: Annotated[str, MinLen(1)]
    state: CheckState
    detail: str = ""
    hint: str = ""

    def to_dict(self) -> dict[str, str]:
        """Return the fields by name, without empty ones."""
        return {name: value for name, value in asdict(self).items() if value}

    @classmethod
    def from_wire(cls, value: Any) -> Self | None:
        """Read what `to_dict` of a worker wrote; None where it is no check."""
        if not isinstance(value, dict):
            return None
        known = {name: value[name] for name in cls.__dataclass_fields__ if name in value}
        if not {"name", "state"} <= known.keys() or any(wire_checks.problems(cls, known)):
            return None
        return cls(**known)
