"""The operating system enforces `sandbox_mode`, whatever CLI runs.

A restricted task sees an allow-list of the file system, an empty home with its CLI's settings, and
a temporary directory of its own; it writes to its working directory if its mode is `workspace`.

* `plan` says what a command may see and change; it is pure, and so are `bubblewrap` and `landlock`,
  which turn a plan into a command line.
* `programs`, `system_files` and `git_directory` find out what a plan needs to know.
* `launcher` is the program that applies Landlock; it imports nothing of clinvk.
* `detection` chooses a mechanism by really running a command in it.
* `sandbox` puts it together for one task; `confined` signals what runs in it, and ends it.
"""
