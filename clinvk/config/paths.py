"""Where the configuration file is: known without reading it, or loading what reads it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from clinvk.core.errors import ConfigError
from clinvk.core.user_paths import UnknownHomeError, expanded_default

VARIABLE = "CLINVK_CONFIG"
DEFAULT_PATH = "~/.clinvk/config.yaml"
RUNS_DIR = "~/.clinvk/runs"
"""Where local runs are recorded, unless `runs.dir` says otherwise."""


def name(path: str | None, environment: Mapping[str, str] = os.environ) -> str:
    """Choose among the command line's path, the variable's, and the default one."""
    return path or environment.get(VARIABLE) or DEFAULT_PATH


def locate(path: str | None, environment: Mapping[str, str] = os.environ) -> Path:
    """Say where the configuration file is, or would be.

    Raises:
        ConfigError: it begins with the home of nobody.
    """
    chosen = name(path, environment)
    try:
        return expanded_default(chosen)
    except UnknownHomeError as error:
        raise ConfigError([str(error)]) from error
