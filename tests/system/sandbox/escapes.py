"""What a hostile task tries, as a program that runs in a sandbox: `python -I -S escapes.py`.

It reads a JSON object about the world outside from stdin, and prints one about each attempt: None
where it failed, otherwise how far it came. What needs more than an exit code, the tests look at
from outside.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

World = dict[str, Any]
Attempt = Callable[[World], str | None]

CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_BIND, MS_REMOUNT = 4096, 32
PTRACE_ATTACH = 16
libc = ctypes.CDLL(None, use_errno=True)


def write(path: str, text: str = "escaped\n") -> None:
    with open(path, "a") as stream:
        stream.write(text)


def tried(what: str, action: Callable[..., Any], *arguments: Any) -> str | None:
    """Say what succeeded, or None."""
    try:
        action(*arguments)
    except OSError:
        return None
    return what


def called(result: int) -> None:
    """Raise where a call of the C library failed."""
    if result != 0:
        raise OSError(ctypes.get_errno(), "failed")


def first(*found: str | None) -> str | None:
    return next((each for each in found if each is not None), None)


def write_outside(world: World) -> str | None:
    return first(
        *(
            tried(path, write, path)
            for path in (
                *(f"{world['sibling']}/planted", f"{world['sibling']}/secret"),
                *("/usr/planted", "/etc/planted", "/opt/planted", "/planted", "/root/planted"),
            )
        )
    )


def read_outside(world: World) -> str | None:
    def read(path: str) -> None:
        with open(path) as stream:
            stream.read()

    return first(
        *(
            tried(path, read, path)
            for path in (
                *(f"{world['home']}/.ssh/id_ed25519", f"{world['home']}/.clinvk/config.yaml"),
                *(f"{world['sibling']}/secret", world["spill"], "/etc/shadow", "/proc/1/environ"),
            )
            if not (path == "/proc/1/environ" and world["has_namespace"])
        )
    )


def through_a_symbolic_link(world: World) -> str | None:
    link = f"{os.environ['TMPDIR']}/link"
    os.symlink(world["sibling"], link)
    return first(
        tried("wrote", write, f"{link}/planted"),
        tried("listed", os.listdir, link),
    )


def through_a_hard_link(world: World) -> str | None:
    own = f"{os.environ['TMPDIR']}/linked"
    return tried("linked", os.link, f"{world['sibling']}/secret", own)


def through_proc(world: World) -> str | None:
    found = []
    for pid in (world["worker"], world["neighbour"]):
        root = f"/proc/{pid}/root{world['sibling']}"
        found += [
            tried("root", os.listdir, root),
            tried("wrote", write, f"{root}/planted"),
            tried("cwd", os.listdir, f"/proc/{pid}/cwd"),
            tried("descriptors", os.readlink, f"/proc/{pid}/fd/0"),
        ]
    return first(*found)


def the_brokers_url(world: World) -> str | None:
    """Look for it in every environment that can be read, beginning with its own."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb") as stream:
            if world["secret"].encode() in stream.read():
                return f"in the environment of {pid}"
    return None


def signal_others(world: World) -> str | None:
    return first(
        tried("worker", os.kill, world["worker"], 0),
        tried("neighbour", os.kill, world["neighbour"], signal.SIGKILL),
    )


def trace_others(world: World) -> str | None:
    def attach(pid: int) -> None:
        called(libc.ptrace(PTRACE_ATTACH, pid, 0, 0))

    def memory(pid: int) -> None:
        os.close(os.open(f"/proc/{pid}/mem", os.O_RDWR))

    return first(
        tried("traced", attach, world["neighbour"]),
        tried("memory", memory, world["neighbour"]),
        tried("worker's memory", memory, world["worker"]),
    )


def connect_to_the_server(world: World) -> str | None:
    with socket.socket(socket.AF_UNIX) as client:
        return tried("connected", client.connect, world["socket"])


def connect_to_an_abstract_socket(world: World) -> str | None:
    with socket.socket(socket.AF_UNIX) as client:
        return tried("connected", client.connect, "\0" + world["abstract"])


def mounts(world: World) -> str | None:
    here = os.environ["TMPDIR"].encode()

    def bind() -> None:
        called(libc.mount(world["sibling"].encode(), here, None, MS_BIND, None))

    def remount() -> None:
        called(libc.mount(None, b"/", None, MS_REMOUNT | MS_BIND, None))
        write("/usr/planted")

    def unshared() -> None:
        """In a child, since this one would lose its user."""
        child = os.fork()
        if child == 0:
            with contextlib.suppress(OSError):
                called(libc.unshare(CLONE_NEWUSER | CLONE_NEWNS))
                called(libc.mount(b"none", here, b"tmpfs", 0, None))
                os._exit(0)
            os._exit(1)
        called(os.waitpid(child, 0)[1])

    return first(
        tried("bound", bind), tried("remounted", remount), tried("mounted in its own", unshared)
    )


def change_its_limits(world: World) -> str | None:
    def raise_limit() -> None:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard + 1))
        except ValueError as error:
            raise OSError from error

    def leave_cgroup() -> None:
        write("/sys/fs/cgroup/cgroup.procs", str(os.getpid()))

    return first(tried("raised", raise_limit), tried("left its cgroup", leave_cgroup))


def change_the_clis_settings(world: World) -> str | None:
    """Its own home may be full of them: they must be gone with the task. The tests look."""
    for name in (".codex/config.toml", ".claude/settings.json", ".bashrc", ".gitconfig"):
        path = os.path.expanduser(f"~/{name}")
        with contextlib.suppress(OSError):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            write(path, "planted\n")
        with contextlib.suppress(OSError):
            write(f"{world['home']}/{name}", "planted\n")
    return None


def plant_a_git_hook(world: World) -> str | None:
    git = f"{world['workdir']}/.git"
    return first(
        tried("hook", write, f"{git}/hooks/pre-commit"),
        tried("settings", write, f"{git}/config", "[core]\n\tfsmonitor = planted\n"),
        tried("unlinked", os.unlink, f"{git}/config"),
        tried("moved", os.rename, git, f"{world['workdir']}/moved"),
        tried("moved hooks", os.rename, f"{git}/hooks", f"{git}/old"),
        tried("led elsewhere", lambda: None if world["is_writable"] else write(f"{git}/commondir"))
        if not world["is_writable"]
        else None,
    )


def share_memory(world: World) -> str | None:
    """Make a file where every process of the machine sees it. The tests look."""
    with contextlib.suppress(OSError):
        write(f"/dev/shm/{world['marker']}")
    with contextlib.suppress(OSError):
        write(f"/var/tmp/{world['marker']}")
    with contextlib.suppress(OSError):
        write(f"/tmp/{world['marker']}")
    return None


def change_its_read_only_directory(world: World) -> str | None:
    if world["is_writable"]:
        return None
    kept = f"{world['workdir']}/kept"
    return first(
        tried("wrote", write, f"{world['workdir']}/new"),
        tried("truncated", os.truncate, kept, 0),
        tried("appended", write, kept),
        tried("renamed", os.rename, kept, f"{world['workdir']}/renamed"),
        tried("unlinked", os.unlink, kept),
        tried("made", os.mkdir, f"{world['workdir']}/folder"),
    )


def change_permissions(world: World) -> str | None:
    paths = [f"{world['sibling']}/secret", f"{world['home']}/.ssh/id_ed25519"]
    if not world["is_writable"]:
        paths.append(f"{world['workdir']}/kept")
    return first(*(tried(path, os.chmod, path, 0o777) for path in paths))


def leave_a_process(world: World) -> str | None:
    """Leave processes behind, the last one without environment and no descendant of the task."""
    for escapes in (False, True):
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            if escapes:
                os.setsid()
                if os.fork() != 0:
                    os._exit(0)
            for fd in range(3):  # or whoever reads the output of this would wait for them
                os.dup2(os.open(os.devnull, os.O_RDWR), fd)
            marker = f"{world['marker']}-{'daemon' if escapes else 'child'}"
            sleep = f"import time; {marker!r}; time.sleep(600)"
            os.execve(sys.executable, [sys.executable, "-I", "-S", "-c", sleep], {})
    return None


ATTEMPTS: tuple[Attempt, ...] = (
    write_outside,
    read_outside,
    through_a_symbolic_link,
    through_a_hard_link,
    through_proc,
    the_brokers_url,
    signal_others,
    trace_others,
    connect_to_the_server,
    connect_to_an_abstract_socket,
    mounts,
    change_its_limits,
    change_the_clis_settings,
    plant_a_git_hook,
    share_memory,
    change_its_read_only_directory,
    change_permissions,
    leave_a_process,
)


def main() -> None:
    world = json.load(sys.stdin)
    found: dict[str, str | None] = {}
    for attempt in ATTEMPTS:
        try:
            found[attempt.__name__] = attempt(world)
        except Exception as error:  # noqa: BLE001
            found[attempt.__name__] = f"could not be tried: {error!r}"
    print(json.dumps(found))


if __name__ == "__main__":
    main()
