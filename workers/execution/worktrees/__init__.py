"""Worktrees: a checkout that one task has for itself, and what it changed there.

A worktree here is not one of `git worktree`, which shares branches, stash, settings and locks with
the checkout of the user: tasks would write to them, race for them and leave them behind. It has a
git directory of its own that borrows the objects of the repository, so nothing of the repository is
ever written, and all that is left of a task is one directory to remove.

    <worktrees.dir>/<run>-<number>-<dispatch>/
        lock         locked by the worker while it uses the worktree
        about.json   what it is for, and in which state (`place.About`)
        git/, index  clinvk's own git directory and index, with which it looks at the files
        work/NAME/   the files, with the task's own `.git`
"""
