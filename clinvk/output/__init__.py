"""What clinvk prints and writes.

A run is shown along two lines, which know nothing of each other:

- `forms/` has one file for each form of output: text, JSON, quiet, the live display, plain progress
  lines, a directory of files. Each is a `Reporter` (`reporter.py`): it sees the run's events and
  its final report, and decides what goes where. `forms/__init__.py` registers them.
- `kinds/` has one file for each kind of run: parallel, chain, compare. Each is a `Formatter`: how
  its header, its results, its totals and its JSON document look.

`presenter` follows a run with the reporters that the command line asked for; `streams` is the way
to stdout and stderr. The other files format what is not a run: tables of runs, queues and workers
(`tables`), the commands of a dry run (`plan`), the configuration (`config`).
"""
