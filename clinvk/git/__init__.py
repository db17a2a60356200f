"""git without what a repository could run: trees, patches and merges of checkouts.

git runs programs that a repository names: hooks, filters, `core.fsmonitor`, diff and merge drivers,
`core.sshCommand`. Their names are in the repository's configuration, so nothing here reads that
when it handles files: all of it goes through a `PrivateRepository`, a git directory with a
configuration of clinvk's own, which only borrows the repository's objects.
"""
