"""What one command may see and change, whatever enforces it. Pure: nothing here looks at a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

from clinvk.core.network import Network

Mode = Literal["read-only", "workspace"]
"""The modes of `sandbox_mode` that restrict anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemFiles:
    """What of the operating system every command may read.

    `directories` are real ones, such as /usr; `links` map symbolic links of the root directory,
    such as /bin, to their targets; `settings` are files and directories in /etc.
    """

    directories: tuple[str, ...]
    links: tuple[tuple[str, str], ...] = ()
    settings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CliFiles:
    """The files of a CLI and its user, as absolute paths.

    `readable` are its program and what that needs, `settings` are read-only, `credentials` may be
    changed in place, because logins are refreshed. `directories` map each variable that names a
    directory of the CLI's to that directory. `sessions` are the directories of its sessions.
    """

    readable: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    credentials: tuple[str, ...] = ()
    copied: tuple[str, ...] = ()
    directories: tuple[tuple[str, str], ...] = ()
    sessions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PrivateDirectory:
    """A directory that one task has for itself, with its home and its temporary files."""

    path: str

    @property
    def home(self) -> str:
        """What the CLI takes for its user's home."""
        return f"{self.path}/home"

    @property
    def temporary(self) -> str:
        """What the CLI takes for the system's directory of temporary files."""
        return f"{self.path}/tmp"  # noqa: S108

    @property
    def empty(self) -> str:
        """An empty directory, mounted where something must not be made."""
        return f"{self.path}/empty"

    @property
    def directories(self) -> tuple[str, ...]:
        """All of them, this one first."""
        return (self.path, self.home, self.temporary, self.empty)

    def state(self, number: int) -> str:
        """Return what the CLI takes for one of its own directories that is not in its home."""
        return f"{self.path}/state-{number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one command may see and change.

    `home` is the user's real home, of which the CLI sees nothing but its own files. `workdir` has
    no symbolic links in it; without one the command runs in its directory of temporary files.
    `kept` is a directory of the task's for the sessions of its CLI, which outlives the command.
    """

    mode: Mode
    workdir: str | None
    home: str
    private: PrivateDirectory
    system: SystemFiles
    cli: CliFiles
    network: Network
    kept: str | None = None

    def own_place(self, path: str) -> str | None:
        """Return where in the private directory a path of the CLI's lives; None if nowhere."""
        for number, (_, directory) in enumerate(self.cli.directories):
            if is_below(path, directory) and not is_below(directory, self.home):
                return _moved(path, directory, self.private.state(number))
        return _moved(path, self.home, self.private.home) if is_below(path, self.home) else None

    def own_directories(self) -> tuple[tuple[str, str, str], ...]:
        """Return the variable, place and private place of each directory of the CLI's own."""
        return tuple(
            (variable, directory, self.own_place(directory) or directory)
            for variable, directory in self.cli.directories
        )

    def kept_sessions(self) -> tuple[tuple[str, str], ...]:
        """Return each directory of sessions that is kept, and where it really is."""
        if self.kept is None:
            return ()
        return tuple((path, f"{self.kept}/{n}") for n, path in enumerate(self.cli.sessions))


NEVER_BELOW = ("/dev", "/etc", "/proc", "/run", "/sys")
NEVER_EXACTLY = frozenset(
    (
        *("/bin", "/boot", "/home", "/lib", "/lib64", "/opt", "/sbin", "/usr", "/var"),
        *("/tmp", "/var/tmp"),  # noqa: S108
    )
)


def workdir_problem(workdir: str, home: str, private: str, cli: CliFiles) -> str | None:
    """Return why a directory cannot be a sandboxed task's, None if it can.

    Everything in it is the task's: neither the user's files nor other tasks' may be there.
    """
    if is_below(home, workdir):
        return "the home of the worker's user is there"
    if is_below(private, workdir):
        return "other tasks' temporary files are there"
    if workdir in NEVER_EXACTLY or any(is_below(workdir, place) for place in NEVER_BELOW):
        return "it belongs to the system"
    if is_below(workdir, home) and PurePath(workdir).relative_to(home).parts[0].startswith("."):
        # ~/.ssh, ~/.config and what else decides about the next command of the user: who may
        # choose a task's directory must not be able to write there.
        return "it is in a hidden directory of the worker's user, where settings are"
    for path in (*cli.settings, *cli.credentials, *cli.copied):
        folder = str(PurePath(path).parent)
        if is_below(path, workdir) or (folder != home and is_below(workdir, folder)):
            return f"the CLI's own files are there ({path})"
    return None


def is_below(path: str, directory: str) -> bool:
    """Whether a path is a directory or below it; both are absolute."""
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def _moved(path: str, from_directory: str, to_directory: str) -> str:
    return to_directory + path.removeprefix(from_directory.rstrip("/"))
