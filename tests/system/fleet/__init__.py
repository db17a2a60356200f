"""Several worker machines, each in a network namespace of its own, and one Redis over TCP."""
