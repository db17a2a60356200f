"""The exit codes of `clinvk`; scripts rely on them."""

OK = 0
TASK_FAILED = 1
"""A task failed, was canceled or lost; also an error that has no code of its own."""
USAGE = 2
CONFIG = 3
BROKER = 4
SIGNAL = 128
"""Plus the signal's number: 130 for Ctrl-C, 143 for SIGTERM."""
INTERRUPTED = SIGNAL + 2
