"""What of the network a sandboxed task may use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self

NetworkAccess = Literal["on", "off"]


@dataclass(frozen=True, slots=True)
class Network:
    """All of the network, none, or connections to some TCP ports.

    `ports` is None for all ports; an empty tuple is no network.
    """

    ports: tuple[int, ...] | None = None

    @classmethod
    def of(cls, setting: str | Mapping[Literal["ports"], Sequence[int]]) -> Self:
        """Read a setting: `on`, `off` or `{"ports": [443]}`."""
        if isinstance(setting, str):
            return cls(() if setting == "off" else None)
        return cls(tuple(setting["ports"]))

    def narrowed(self, access: str | None) -> Network:
        """Return what remains of it for a task that asks for `on`, `off` or nothing."""
        return Network(()) if access == "off" else self

    @property
    def is_off(self) -> bool:
        """Whether nothing of the network may be used."""
        return self.ports == ()

    @property
    def is_open(self) -> bool:
        """Whether all of the network may be used."""
        return self.ports is None
