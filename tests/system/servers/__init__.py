"""The matrix: the tests that meet a server, run again on each server that clinvk promises."""
