"""The backends that messages and `--all-backends` name, so that a new one changes no test."""

from __future__ import annotations

from clinvk.backends import BackendRegistry, packaged_names

KNOWN = f"known: {', '.join(packaged_names())}"
REAL = [name for name in packaged_names() if not BackendRegistry.from_config({}).get(name).is_demo]
"""All but the demo."""
