"""What Python processes do at their start, before the program itself: for tests of real ones."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).parent.parent


def python_path(folder: Path, *lines: str) -> str:
    """Write these lines into a folder of their own; returns the PYTHONPATH with which they run."""
    site = folder / "site"
    site.mkdir(parents=True)
    (site / "sitecustomize.py").write_text("".join(f"{line}\n" for line in lines))
    return f"{site}{os.pathsep}{ROOT}"
