"""What one worker is told about itself: JSON in the file that CLINVK_WORKER_CONFIG names.

Written by whoever starts the worker (local mode, `clinvk worker`), so that a worker neither
parses the user's configuration again nor needs the packages for it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from workers.errors import ConfigError

BROKER_URL = "CLINVK_BROKER_URL"
WORKER_CONFIG = "CLINVK_WORKER_CONFIG"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """Backends defined in configuration (`{name: {command, env}}`) and the output limits."""

    backends: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    output_bytes: int = 10 << 20
    spill_bytes: int = 1 << 30
    spill_dir: str = "~/.clinvk/outputs"

    @classmethod
    def load(cls) -> Self:
        """Read the file that the environment names; without one, the defaults.

        Raises:
            ConfigError: the file cannot be read or does not fit.
        """
        path = os.environ.get(WORKER_CONFIG)
        if path is None:
            return cls()
        try:
            return cls(**json.loads(Path(path).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError([f"{WORKER_CONFIG}={path}: {error}"]) from error

    def save(self, path: Path) -> None:
        """Write the file, readable by its owner only: backends' environments hold secrets."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            json.dump(asdict(self), stream)


def mask_password(url: str) -> str:
    """Return a broker URL with its password as `***`, fit for messages and logs."""
    return re.sub(r"(://[^:/@]*:)[^/]*@", r"\1***@", url)
