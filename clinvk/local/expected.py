"""The supervisor that a command is likely to need, started before the command loads anything else.

It loads what a worker needs while the command reads its files. The program guesses by its
arguments, which click has not read by then. A wrong guess costs no more than that: a supervisor
that is not used is ended, and one that is missing is started where it is needed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

from clinvk.config import paths
from clinvk.core.errors import ConfigError
from clinvk.core.worker_config import BROKER_URL
from clinvk.local import server

WITHOUT = frozenset({"-h", "--help", "--dry-run"})
"""Options with which a command starts no run."""
_expected: Spawned | None = None


class Spawned:
    """A supervisor without orders, and the directory that is for its server."""

    def __init__(self, directory: str, process: subprocess.Popen[bytes]) -> None:
        self.directory = directory
        self.process = process

    def discard(self) -> None:
        """End it, and remove the directory."""
        # It has started nothing, and shall not begin to take things down: what it writes for
        # that, as it is killed, would stay.
        with self.process:
            self.process.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


def spawn() -> Spawned:
    """Start a supervisor."""
    directory = server.make_directory()
    process = subprocess.Popen(
        [sys.executable, "-m", "clinvk.local.supervisor", directory],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        start_new_session=True,
    )
    return Spawned(directory, process)


def anticipate(arguments: Sequence[str]) -> None:
    """Start a supervisor if a command that starts runs is likely to need one, by its arguments."""
    global _expected
    broker, config = _value_of("--broker", arguments), _value_of("--config", arguments)
    if WITHOUT.isdisjoint(arguments) and not _names_broker(broker, config):
        with contextlib.suppress(OSError):  # `start` will report it
            _expected = spawn()


def _value_of(option: str, arguments: Sequence[str]) -> str | None:
    """Return the last value of an option, `--option VALUE` or `--option=VALUE`; None without."""
    found = None
    for argument, following in zip(arguments, [*arguments[1:], None], strict=False):
        name, separator, value = argument.partition("=")
        if name == option:
            found = value if separator else following
    return found


def discard() -> None:
    """End the supervisor that was started in advance, if nothing has used it."""
    if (spawned := take_expected()) is not None:
        spawned.discard()


def take_expected() -> Spawned | None:
    """Return the supervisor that was started in advance, once; None where there is none."""
    global _expected
    spawned, _expected = _expected, None
    return spawned


def _names_broker(broker: str | None, config: str | None) -> bool:
    """Whether a broker seems to be configured, without the time that reading YAML takes."""
    if broker or os.environ.get(BROKER_URL):
        return True
    try:
        return b"broker" in paths.locate(config).read_bytes()
    except (OSError, ConfigError):  # none, or one that cannot be read, which is reported later
        return False
