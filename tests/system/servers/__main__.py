"""Run the tests that meet a server on each server of the matrix: `python -m tests.system.servers`.

    python -m tests.system.servers.install          once, before
    python -m tests.system.servers "Redis 7.0"      on this one only

Prints a line for each server: its version, how many tests passed, in how many seconds. A server
that is missing, a test that fails and a test that is skipped make the exit code 1.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from xml.etree import ElementTree

from tests import harness
from tests.system.servers.install import SUPPORTED, Server, version_of

TESTS = (
    "tests/local/store",
    "tests/local/broker",
    "tests/system/broker/test_acl.py",
)
LONG = (
    "tests/system/broker/test_acl_flows.py",
    "tests/local/workers/liveness",
    "tests/local/test_local_mode.py",
    "tests/system/runs/test_lost_data.py",
)
"""Take longer: on the oldest server only, and with all other tests on clinvk's own."""
AT_ONCE = 2
"""How many servers are tested at the same time."""


def main() -> None:
    """Run them on all servers, or on those that are named."""
    parser = argparse.ArgumentParser(prog="python -m tests.system.servers")
    names = [server.name for server in SUPPORTED]
    parser.add_argument("name", nargs="*", help=f"one of {', '.join(names)}; default: all")
    chosen = parser.parse_args().name or names
    if unknown := set(chosen) - set(names):
        parser.error(f"no such server: {', '.join(unknown)}")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        passed = pool.map(_on, (server for server in SUPPORTED if server.name in chosen))
        sys.exit(0 if all([*passed]) else 1)


def _on(server: Server) -> bool:
    """Run the tests on one server; whether all of them passed."""
    program = server.checked()
    tests = (*TESTS, *LONG) if server is SUPPORTED[0] else TESTS
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        argv = [sys.executable, "-m", "pytest", "--quiet", "--junit-xml", str(report)]
        done = subprocess.run(
            [*argv, "--server", str(program), *tests],
            cwd=harness.ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        total, others = _counted(report)
    is_good = done.returncode == 0 and total > 0 and not any(others.values())
    if not is_good:
        print(done.stdout)
    said = "".join(f", {number} {what}" for what, number in others.items() if number)
    seconds = time.monotonic() - begun
    passed = total - sum(others.values())
    print(f"{version_of(program):14} {passed} passed{said} in {seconds:.0f} s", flush=True)
    return is_good


def _counted(report: Path) -> tuple[int, dict[str, int]]:
    """Read how many tests there were, and how many of them did anything but pass."""
    suite = ElementTree.parse(report).getroot().find("testsuite") if report.exists() else None
    if suite is None:
        return 0, {}
    others = {what: int(suite.get(what, 0)) for what in ("failures", "errors", "skipped")}
    return int(suite.get("tests", 0)), others


if __name__ == "__main__":
    main()
