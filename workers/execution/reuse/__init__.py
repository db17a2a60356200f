"""Results of earlier runs, taken instead of running the same task again.

A task that asks for it has a *fingerprint*: what its CLI would be told, by which CLI of which
version, and the state of the directory that it would work in, before it begins. Where a task with
the same fingerprint was ok within `reuse.keep_days`, its result is this one's, too, and nothing is
started. What is not in a fingerprint: files that git ignores, the history of the repository, the
settings of the CLI in its user's home, and the world outside.

`fingerprint` says what counts, `directory_state` and `cli_version` find out, `index` has the
results, and `reuse` puts it together. A worker loads none of this before the first task that asks.
"""
