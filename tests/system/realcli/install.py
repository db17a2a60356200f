"""Install the CLIs from npm into a cache: `python -m tests.system.realcli.install`.

It needs nothing but Python and npm.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[3]
MANIFEST = Path(__file__).parent / "package.json"
PACKAGES: dict[str, str] = json.loads(MANIFEST.read_text())["dependencies"]


def cache() -> Path:
    """Return where they are: CLINVK_CLI_CACHE, or below the project."""
    return Path(os.environ.get("CLINVK_CLI_CACHE", ROOT / ".cache" / "clis"))


def bin_directory() -> Path:
    """Return the directory of their programs.

    Raises:
        AssertionError: they are not installed, or in another version.
    """
    assert installed() == PACKAGES, "run `python -m tests.system.realcli.install` first"
    return cache() / "node_modules" / ".bin"


def installed() -> dict[str, str]:
    """Return the versions that are there."""
    found = {}
    for name in PACKAGES:
        manifest = cache() / "node_modules" / name / "package.json"
        if manifest.exists():
            found[name] = json.loads(manifest.read_text())["version"]
    return found


def copilot_cache() -> Path:
    """Return where this CLI unpacks itself, 235 MB, at its first start."""
    return cache() / "copilot"


def main() -> None:
    """Install what is not there yet, and unpack what would do that in the midst of a test."""
    if installed() != PACKAGES:
        cache().mkdir(parents=True, exist_ok=True)
        shutil.copy(MANIFEST, cache())
        subprocess.run(
            ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock"],
            cwd=cache(),
            check=True,
        )
    if not copilot_cache().exists():
        unpacking = {**os.environ, "COPILOT_CACHE_HOME": str(copilot_cache())}
        subprocess.run([bin_directory() / "copilot", "--version"], env=unpacking, check=True)
    print(bin_directory())


if __name__ == "__main__":
    main()
