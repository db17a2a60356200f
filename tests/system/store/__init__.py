"""Tests of the store that take minutes."""
