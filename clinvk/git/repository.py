"""A repository on this machine, and the checkout of it that a directory is in."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from clinvk.core.shipment import LINE_ENDS
from clinvk.git.runner import GitError, git

SETTINGS = (
    *(*LINE_ENDS, "core.filemode", "core.symlinks", "core.ignorecase"),
    *("core.precomposeunicode", "core.excludesfile"),
)
"""Settings that decide how files look in a checkout, and that run nothing."""
IDENTITY = ("GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL", "EMAIL")
MOST_ALTERNATES = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """A checkout: its `top` directory, its git directory, and the one that all worktrees share."""

    top: str
    git_directory: str
    common_directory: str

    @classmethod
    def around(cls, directory: str) -> Repository | None:
        """Find the checkout that a directory is in; None if it is in none.

        Raises:
            GitError: what is there cannot be used.
        """
        asked = ("--show-toplevel", "--absolute-git-dir", "--git-common-dir")
        try:
            answer = git("rev-parse", "--path-format=absolute", *asked, directory=directory)
        except GitError as error:
            if "not a git repository" in str(error):
                return None
            raise
        lines = os.fsdecode(answer).removesuffix("\n").split("\n")
        if len(lines) != len(asked):
            raise GitError(f"{directory}: its path has a line end, which git cannot tell apart")
        return cls(top=lines[0], git_directory=lines[1], common_directory=lines[2])

    @property
    def objects(self) -> str:
        """The directory of its objects."""
        return f"{self.common_directory}/objects"

    @property
    def index(self) -> str:
        """The file with its index, which need not be there."""
        return f"{self.git_directory}/index"

    def commit(self, ref: str) -> str:
        """Return the id of the commit that a ref names.

        Raises:
            GitError: there is none.
        """
        wanted = f"{ref}^{{commit}}"
        try:
            answer = self._git("rev-parse", "--verify", "--quiet", "--end-of-options", wanted)
        except GitError as error:
            what = "has no commit yet" if ref == "HEAD" else f"has no commit {ref}"
            raise GitError(f"the repository {self.top} {what}") from error
        return answer.decode().strip()

    def object_format(self) -> str:
        """Return how its objects are named: sha1 or sha256."""
        return self._git("rev-parse", "--show-object-format").decode().strip()

    def update_ref(self, name: str, commit: str, old: str) -> None:
        """Move a ref from one commit to another; no hook is run.

        Raises:
            GitError: it is not where it was.
        """
        self._git("update-ref", "-m", "clinvk apply", name, commit, old)

    def identity(self) -> str:
        """Return who commits here: a name, an address, a time and its zone.

        Raises:
            GitError: git does not know.
        """
        home = {name: os.environ.get(name) for name in ("HOME", "XDG_CONFIG_HOME")}
        given = {name: os.environ.get(name) for name in IDENTITY if name in os.environ}
        variables = {**home, **given, "GIT_CONFIG_GLOBAL": None}
        answer = git("var", "GIT_COMMITTER_IDENT", variables=variables, directory=self.top)
        return answer.decode("utf-8", "surrogateescape").strip()

    def refs(self) -> bytes:
        """Return its branches and tags, a line each: an object's id and a name."""
        kinds = ("refs/heads", "refs/remotes", "refs/tags")
        return self._git("for-each-ref", "--format=%(objectname) %(refname)", *kinds)

    def settings(self) -> dict[str, str]:
        """Return those of SETTINGS that are set, for this repository or this process's user."""
        pattern = "^(" + "|".join(map(re.escape, SETTINGS)) + ")$"
        home = {name: os.environ.get(name) for name in ("HOME", "XDG_CONFIG_HOME")}
        answer = git(
            *("config", "--null", "--includes", "--get-regexp", pattern),
            variables={**home, "GIT_CONFIG_GLOBAL": None},
            directory=self.top,
            allowed=(0, 1),
        )
        pairs = (entry.partition("\n") for entry in os.fsdecode(answer).split("\0") if entry)
        return {name: value for name, _, value in pairs}

    def remotes(self) -> list[tuple[str, str]]:
        """Return the settings of its remotes and who commits, in the order of its file."""
        answer = git(
            *("config", "--null", "--local", "--get-regexp"),
            r"^(remote\..*\.(url|pushurl|fetch)|branch\..*\.(remote|merge)|user\.(name|email))$",
            directory=self.top,
            allowed=(0, 1),
        )
        pairs = (entry.partition("\n") for entry in os.fsdecode(answer).split("\0") if entry)
        return [(name, value) for name, _, value in pairs]

    def upstream(self) -> tuple[str, str] | None:
        """Return the remote that the branch follows, or `origin`, and its address; None if none."""
        settings = self.remotes()
        urls = {name[7:-4]: value for name, value in settings if name.endswith(".url")}
        urls = {name: url for name, url in urls.items() if f"remote.{name}.url" in dict(settings)}
        followed = [value for name, value in settings if re.fullmatch(r"branch\..*\.remote", name)]
        for remote in (*followed[:1], "origin", *urls):
            if remote in urls:
                return remote, urls[remote]
        return None

    def worktree_setting(self) -> str | None:
        """Return the directory that its git directory names as its checkout, if it names one."""
        answer = git("config", "--local", "core.worktree", directory=self.top, allowed=(0, 1))
        named = os.fsdecode(answer).removesuffix("\n")
        return os.path.join(self.git_directory, named) if named else None  # noqa: PTH118

    def object_directories(self) -> list[str]:
        """Return the directories of its objects: its own, and those that it borrows from."""
        found, waiting = list[str](), [self.objects]
        while waiting and len(found) < MOST_ALTERNATES:
            directory = os.path.normpath(waiting.pop(0))
            if directory in found or not os.path.isdir(directory):  # noqa: PTH112
                continue
            found.append(directory)
            waiting += _alternates(directory)
        return found

    def _git(self, *arguments: str) -> bytes:
        return git(*arguments, directory=self.top)


def _alternates(objects: str) -> list[str]:
    try:
        with open(f"{objects}/info/alternates", encoding="utf-8", errors="surrogateescape") as file:  # noqa: PTH123
            lines = file.read().splitlines()
    except OSError:
        return []
    named = [line for line in lines if line and not line.startswith("#")]
    return [os.path.join(objects, line) for line in named]  # noqa: PTH118
