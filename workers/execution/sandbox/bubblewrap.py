"""The command line of bubblewrap (`bwrap`) for a plan. Pure.

The options are in the order in which bubblewrap mounts: what comes later covers what came before,
so that a home or a working directory below /tmp is there although /tmp is private.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from workers.execution.sandbox.plan import Plan, is_below

UNPRIVILEGED_ID = 1000
"""Whom a root user's command takes itself for: some CLIs refuse to work for root."""

TEMPORARY = "/tmp"  # noqa: S108  (where the private directory is mounted)

NAMESPACES = (
    "--unshare-user",
    "--disable-userns",
    "--unshare-pid",
    "--unshare-ipc",
    "--unshare-uts",
    "--unshare-cgroup-try",
    "--cap-drop",
    "ALL",
    "--die-with-parent",
    "--new-session",
)

ORPHANS = "o"
"""What REPORT writes where the command left processes behind."""

REPORT = r"""
trap : HUP INT QUIT TERM
exec {spare}>&2 2>/dev/null
(exec "$@" 2>&{spare} {spare}>&-)
status=$?
children=
read -r children </proc/1/task/1/children
for child in $children; do
    [ "$child" = $$ ] && continue
    read -r line </proc/$child/stat || continue
    case $line in
        *") Z "*) ;;
        *) printf {orphans} >/proc/self/fd/{report_fd} ;;
    esac
done
exit $status
"""
"""Runs the command and says whether it left processes behind: to ask from outside is too late,
because bubblewrap ends them with the command. The trap keeps the shell, and only it, alive where
the whole group is told to end: what it starts has the signals' defaults. What the shell itself has
to say about the command's end is not the command's, and is dropped."""


@dataclass(frozen=True, slots=True)
class Bound:
    """An open file or directory, and where it is mounted."""

    fd: int
    target: str
    writable: bool


def arguments(
    program: str,
    plan: Plan,
    bound: Iterable[Bound],
    *,
    status_fd: int,
    report_fd: int,
    is_root: bool,
) -> list[str]:
    """Return bubblewrap's command line, up to where the command's own begins.

    `bound` are the working directory and what is mounted over parts of it. bubblewrap writes to
    `status_fd` (`--json-status-fd`), and ORPHANS may be written to `report_fd`.
    """
    workdir = plan.workdir or TEMPORARY
    ids = ("--uid", str(UNPRIVILEGED_ID), "--gid", str(UNPRIVILEGED_ID)) if is_root else ()
    return [
        program,
        *_system(plan),
        *_private(plan),
        *_readable(plan),
        *_cli(plan),
        *_bound(bound),
        *("--remount-ro", "/"),
        *("--chdir", workdir),
        *NAMESPACES,
        *ids,
        *(("--unshare-net",) if plan.network.is_off else ()),
        *("--unsetenv", "XDG_RUNTIME_DIR"),  # it is in /run, which is empty
        *("--setenv", "HOME", plan.home),
        *("--setenv", "TMPDIR", TEMPORARY),
        *("--json-status-fd", str(status_fd)),
        "--",
        *("/bin/sh", "-c", _report(report_fd), "sh"),
    ]


def _report(report_fd: int) -> str:
    spare = 9 if report_fd != 9 else 8
    return REPORT.format(report_fd=report_fd, orphans=ORPHANS, spare=spare)


def _system(plan: Plan) -> Iterator[str]:
    system = plan.system
    for directory in system.directories:
        yield from ("--ro-bind", directory, directory)
    for link, target in system.links:
        yield from ("--symlink", target, link)
    for path in system.settings:
        yield from ("--ro-bind-try", path, path)
    yield from ("--dev", "/dev", "--proc", "/proc", "--dir", "/run", "--dir", "/var")


def _private(plan: Plan) -> Iterator[str]:
    yield from ("--bind", plan.private.temporary, TEMPORARY)
    yield from ("--symlink", TEMPORARY, "/var/tmp")  # noqa: S108
    yield from ("--bind", plan.private.home, plan.home)
    for _, directory, own in plan.own_directories():
        if not is_below(directory, plan.home):
            yield from ("--bind", own, directory)
    for directory, kept in plan.kept_sessions():
        yield from ("--bind", kept, directory)


def _readable(plan: Plan) -> Iterator[str]:
    """Yield the mounts of what the program needs, without what is mounted already."""
    mounted = [*plan.system.directories]
    for path in sorted(plan.cli.readable, key=len):
        if not any(is_below(path, directory) for directory in mounted):
            mounted.append(path)
            yield from ("--ro-bind-try", path, path)


def _cli(plan: Plan) -> Iterator[str]:
    for path in plan.cli.settings:
        yield from ("--ro-bind-try", path, path)
    for path in plan.cli.credentials:
        yield from ("--bind-try", path, path)


def _bound(bound: Iterable[Bound]) -> Iterator[str]:
    for mount in bound:
        option = "--bind-fd" if mount.writable else "--ro-bind-fd"
        yield from (option, str(mount.fd), mount.target)
