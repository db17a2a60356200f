"""A git directory of clinvk's own, through which the objects and files of a repository are handled.

It borrows the repository's objects and keeps new ones itself, or wherever its user says. Its
configuration and attributes name no program, and what a checkout's own `.gitattributes` name finds
no program to run: filters are off, and there are no drivers for diffs and merges.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from clinvk.core.user_paths import make_directory
from clinvk.git.repository import Repository
from clinvk.git.runner import GitError, git, git_status

ATTRIBUTES = "* -filter\n"
"""Before all that a checkout says: no filters. Pointers of LFS stay pointers."""
EXCLUDES = "info/excludes-of-user"


@dataclass(frozen=True, slots=True)
class PrivateRepository:
    """A git directory at `path`; `variables` say where else objects are read or written."""

    path: str
    variables: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def create(
        cls, path: str, repository: Repository, settings: Mapping[str, str] | None = None
    ) -> PrivateRepository:
        """Make one for a repository, whose settings of how files look it takes over, or others.

        Raises:
            GitError: the repository cannot be read.
            OSError: it cannot be written.
        """
        settings = dict(repository.settings() if settings is None else settings)
        excludes = settings.pop("core.excludesfile", None)
        write_git_directory(path, repository, settings)
        _write(f"{path}/info/attributes", ATTRIBUTES)
        _copy(f"{repository.common_directory}/info/exclude", f"{path}/info/exclude")
        _copy(_user_excludes(excludes), f"{path}/{EXCLUDES}")
        with open(f"{path}/config", "a", encoding="utf-8") as file:  # noqa: PTH123
            file.write(f"[core]\n\texcludesFile = {quoted(f'{path}/{EXCLUDES}')}\n")
        return cls(path)

    def reading(self, *directories: str) -> PrivateRepository:
        """Return one that reads objects of other directories, too."""
        joined = os.pathsep.join(map(_listed, directories))
        return self._with(GIT_ALTERNATE_OBJECT_DIRECTORIES=joined)

    def writing(self, objects: str) -> PrivateRepository:
        """Return one that writes its objects to another directory, where they are kept."""
        return self._with(GIT_OBJECT_DIRECTORY=objects).reading(f"{self.path}/objects")

    def _with(self, **variables: str) -> PrivateRepository:
        return replace(self, variables={**self.variables, **variables})

    def git(
        self,
        *arguments: str | bytes,
        worktree: str | None = None,
        index: str | None = None,
        stdin: bytes = b"",
        allowed: Collection[int] = (0,),
        most_bytes: int | None = None,
    ) -> bytes:
        """Run git here, about the files of `worktree`; `index` is the file with their index.

        Raises:
            GitError: it failed.
            TooLargeError: it printed more than `most_bytes`.
        """
        return git(
            *arguments,
            variables=self._variables(worktree, index),
            directory=worktree or self.path,
            stdin=stdin,
            allowed=allowed,
            most_bytes=most_bytes,
        )

    def status(self, *arguments: str, allowed: Collection[int]) -> tuple[int, bytes]:
        """Run git here, without files; returns its exit code, one of the allowed ones, and output.

        Raises:
            GitError: it failed.
        """
        return git_status(
            *arguments,
            variables=self._variables(None, None),
            directory=self.path,
            allowed=allowed,
        )

    def _variables(self, worktree: str | None, index: str | None) -> dict[str, str | None]:
        return {
            **self.variables,
            "GIT_DIR": self.path,
            "GIT_WORK_TREE": worktree,
            "GIT_INDEX_FILE": index or f"{self.path}/no-index",
        }

    def tree_of(self, name: str) -> str:
        """Return the id of a commit's tree.

        Raises:
            GitError: there is none.
        """
        answer = self.git("rev-parse", "--verify", "--end-of-options", f"{name}^{{tree}}")
        return answer.decode().strip()

    def write_tree(self, index: str) -> str:
        """Return the id of the tree that an index describes.

        Raises:
            GitError: it cannot be written.
        """
        return self.git("write-tree", index=index).decode().strip()

    def copy_index(self, repository: Repository, head: str, path: str) -> None:
        """Copy the index of a checkout, which says what has not changed since `head`.

        Raises:
            GitError: it cannot be made.
        """
        try:
            copy_file(repository.index, path)
            self.git("ls-files", "--unmerged", index=path)
        except (OSError, GitError):  # there is none, or a part of it is in another file
            Path(path).unlink(missing_ok=True)
            self.git("read-tree", head, index=path)

    def check_out(self, tree: str, worktree: str, index: str) -> None:
        """Write the files of a tree into an empty directory, and their index.

        Raises:
            GitError: they cannot be written.
        """
        self.git("read-tree", "-m", "-u", tree, worktree=worktree, index=index)


def write_git_directory(
    path: str,
    repository: Repository,
    settings: Mapping[str, str],
    more: Sequence[tuple[str, str]] = (),
) -> None:
    """Make a git directory with no commits that borrows a repository's objects.

    Raises:
        GitError: the repository cannot be read.
        OSError: it cannot be written.
    """
    for name in ("objects/info", "objects/pack", "refs/heads", "refs/tags", "info", "hooks"):
        make_directory(Path(path, name), 0o700)
    borrowed = "".join(f"{_listed(place)}\n" for place in [repository.objects])
    _write(f"{path}/objects/info/alternates", borrowed)
    _write(f"{path}/HEAD", "ref: refs/heads/none\n")
    is_sha256 = repository.object_format() == "sha256"
    version, extensions = ("1", {"extensions.objectformat": "sha256"}) if is_sha256 else ("0", {})
    values = {
        "core.repositoryformatversion": version,
        "core.bare": "false",
        **extensions,
        **settings,
    }
    _write(f"{path}/config", "".join(setting(*pair) for pair in (*values.items(), *more)))
    _copy(f"{repository.common_directory}/shallow", f"{path}/shallow")


def setting(name: str, value: str) -> str:
    """Write a setting as it stands in a configuration file."""
    section, _, rest = name.partition(".")
    part, _, key = rest.rpartition(".")
    head = f"[{section} {quoted(part)}]" if part else f"[{section}]"
    return f"{head}\n\t{key} = {quoted(value)}\n"


def quoted(text: str) -> str:
    """Return a text as a value of git's configuration."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _listed(path: str) -> str:
    """Return a directory as it stands in a list of directories with objects."""
    needs_quotes = path.startswith(('"', "#")) or any(sign in path for sign in ":\n")
    return quoted(path) if needs_quotes else path


def _user_excludes(setting: str | None) -> str:
    """Return the file with what a user never wants git to see."""
    if setting:
        return os.path.expanduser(setting)  # noqa: PTH111
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")  # noqa: PTH111
    return f"{base}/git/ignore"


def _copy(source: str, target: str) -> None:
    if os.path.isfile(source):  # noqa: PTH113
        shutil.copyfile(source, target)


def copy_file(source: str, target: str) -> None:
    """Copy a file with its time: a file that is as new as its index counts as changed for git.

    Raises:
        OSError: it cannot be copied.
    """
    shutil.copy2(source, target)


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:  # noqa: PTH123
        file.write(text)
