"""The command line, in click: each command is parsed, calls one function, and exits with its code.

`main` has the entry point, one file has the commands of each group, and `options` what they share.
Modules that need Celery, Redis or pydantic are imported inside the commands, so that `--help` and
usage errors load none of them.
"""
