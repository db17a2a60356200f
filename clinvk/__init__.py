"""clinvk: run many prompts through AI coding CLIs at once and bring back ordered results."""

__all__ = ["__version__"]

__version__ = "0.1.0"
