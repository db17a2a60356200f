"""Submit a run, follow it, let a person interrupt it, report how it ended."""
