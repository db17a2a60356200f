"""The CLIs that clinvk runs: one file per CLI, whose methods are pure, and the registry of them."""

from clinvk.backends.registry import BackendRegistry, packaged_names

__all__ = ["BackendRegistry", "packaged_names"]
