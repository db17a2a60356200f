"""Many random things in the place of what clinvk reads from Redis."""
