"""The engine: everything that happens to a task. Nothing in here imports `clinvk`."""
