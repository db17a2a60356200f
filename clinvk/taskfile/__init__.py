"""From the bytes of a task file to validated tasks."""
