"""What runs on a worker machine, and only that."""
