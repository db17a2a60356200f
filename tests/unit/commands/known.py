"""The backends that messages and `--all-backends` name, so that a new one changes no test."""

from __future__ import annotations

from clinvk.backends import BackendRegistry, packaged_names

KNOWN = f"known: {', '.join(packaged_names())}"
_ALL = [BackendRegistry.from_config({}).get(name) for name in packaged_names()]
REAL = [backend.name for backend in _ALL if not (backend.is_demo or backend.only_named)]
"""All that are meant without being named."""
