"""The mechanisms that can enforce a sandbox, and what each of them leaves open."""

from __future__ import annotations

from dataclasses import dataclass

from clinvk.core.network import Network
from workers.execution.sandbox import landlock
from workers.execution.sandbox.plan import Mode

BEYOND_LANDLOCK_ALONE = ("path-sockets", "metadata", "process-list", "orphans")
"""Unix sockets whose path is known; times and permissions of files; other processes' command
lines; and that nothing ends all processes at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mechanism:
    """How this machine enforces a sandbox.

    `bubblewrap` is its program, or None; `abi` the version of Landlock that is used, 0 if it is
    not; `reason` says why there is neither.
    """

    bubblewrap: str | None = None
    abi: int = 0
    reason: str | None = None

    @property
    def works(self) -> bool:
        """Whether anything can be enforced."""
        return self.bubblewrap is not None or self.abi > 0

    def by(self, network: Network) -> str:
        """Return what it is called in results."""
        if self.bubblewrap is None:
            return "landlock" if self.abi else "none"
        needs_both = landlock.is_needed_around_bubblewrap(network, self.abi)
        return "bwrap+landlock" if needs_both else "bwrap"

    def gaps(self, mode: Mode, network: Network) -> tuple[str, ...]:
        """Return what it leaves open, by the names of docs/concepts/sandbox.md."""
        found = () if self.bubblewrap else BEYOND_LANDLOCK_ALONE
        if not self.bubblewrap and mode == "workspace":
            found = ("git-hooks", *found)
        if self.abi < landlock.SCOPE_ABI and not (self.bubblewrap and network.is_off):
            found = (*found, "abstract-sockets", *(() if self.bubblewrap else ("signals",)))
        if network.ports:
            found = (*found, "udp")
        return found

    def network_problem(self, network: Network, architecture: str) -> str | None:
        """Return why it cannot hold a restriction of the network, None if it can."""
        if network.is_open or (network.is_off and self.bubblewrap):
            return None
        if network.is_off and architecture not in landlock.ARCHITECTURES:
            return f"Landlock alone cannot close the network on {architecture}"
        if network.ports and self.abi < landlock.NETWORK_ABI:
            return (
                f"ports need Landlock of version {landlock.NETWORK_ABI} (this kernel: {self.abi})"
            )
        return None
