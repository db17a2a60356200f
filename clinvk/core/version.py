"""The version of clinvk."""

__version__ = "0.1.0"
