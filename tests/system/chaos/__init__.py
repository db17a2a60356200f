"""Chaos: a fleet under faults, and what must still be true of its runs afterwards."""
