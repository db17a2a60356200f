"""A bare repository of clinvk's own: it follows one elsewhere, or has what somebody sent.

What it is given is kept: nothing in it is ever pruned, because worktrees borrow its objects.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from clinvk.core.user_paths import make_directory, matching
from clinvk.git.private_repository import setting
from clinvk.git.repository import Repository
from clinvk.git.runner import FOR_EVER, GitError, Until, git, git_until

FETCH_SECONDS = 3600.0
"""How long a fetch may take: the first one of a large repository does."""
MOST_PACKS = 20
NOTES = "clinvk"
"""A file in it for notes of its user; it is there once the repository is whole."""
FETCHED = "refs/remotes/origin"
EXTRA = "refs/clinvk"
"""Where what was fetched by name is kept, beside branches and tags."""
COMMIT = r"[0-9a-f]{40}(?:[0-9a-f]{24})?"
_FETCHABLE = re.compile(rf"{COMMIT}|refs/[A-Za-z0-9._/+-]+")
_INHERITED = (
    *("HOME", "XDG_CONFIG_HOME", "USER", "LOGNAME", "SSH_AUTH_SOCK", "GIT_SSH", "GIT_SSH_COMMAND"),
    *("GIT_ASKPASS", "GIT_SSL_CAINFO", "GIT_SSL_NO_VERIFY", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    *("http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"),
)
"""What of this process's environment a fetch gets: how to get out, and with which rights."""
_OF_FETCHES = {
    "GIT_CONFIG_NOSYSTEM": None,  # where whoever runs this machine says how to fetch
    "GIT_CONFIG_GLOBAL": None,
    "GIT_ALLOW_PROTOCOL": "https:ssh:git:file",
    "SSH_ASKPASS": "/bin/false",  # nobody is there to be asked
    "SSH_ASKPASS_REQUIRE": "force",
}
_OLD_FLAWS = (
    *("zeroPaddedFilemode", "badTimezone", "missingSpaceBeforeDate", "missingSpaceBeforeEmail"),
    *("missingEmail", "missingTaggerEntry", "badDateOverflow", "missingNameBeforeEmail"),
)
"""What old versions of git have left in many a history; it does no harm."""
LENIENT = ",".join(f"{flaw}=ignore" for flaw in _OLD_FLAWS)


@dataclass(frozen=True, slots=True)
class Mirror:
    """The bare repository in the directory `path`."""

    path: str

    @classmethod
    def create(
        cls, path: str, url: str | None = None, borrowed: str | None = None, digits: int = 40
    ) -> Mirror:
        """Make one, or take the one that is there; it is locked meanwhile.

        It may borrow another one's objects. `digits` are those of the name of an object.

        Raises:
            GitError: it cannot be made.
            OSError: it cannot be written.
        """
        if not os.path.isfile(f"{path}/{NOTES}"):  # noqa: PTH113
            make_directory(Path(path), 0o700)
            named = "sha256" if digits == 64 else "sha1"
            git("init", "--bare", "--quiet", "--template=", f"--object-format={named}", path)
            with open(f"{path}/config", "a", encoding="utf-8") as config:  # noqa: PTH123
                config.write(setting("remote.origin.url", url) if url else "")
                config.write(setting("remote.origin.fetch", "+refs/heads/*:" + FETCHED + "/*"))
            if borrowed is not None:
                Path(path, "objects", "info").mkdir(exist_ok=True)
                Path(path, "objects", "info", "alternates").write_text(f"{borrowed}/objects\n")
            Path(path, NOTES).touch()
        return cls(path)

    @property
    def repository(self) -> Repository:
        """The same as a repository from which worktrees are made."""
        return Repository(top=self.path, git_directory=self.path, common_directory=self.path)

    def has(self, *objects: str) -> bool:
        """Whether all these objects are here."""
        asked = "".join(f"{each}\n" for each in objects).encode()
        answer = self._git("cat-file", "--batch-check=%(objecttype)", stdin=asked)
        return b" missing" not in answer

    def fetch(self, url: str, until: Until = FOR_EVER) -> None:
        """Bring all branches and tags up to date; it is locked meanwhile.

        Raises:
            GitError: it cannot be fetched, or not in time.
        """
        self._sweep()
        wanted = (f"+refs/heads/*:{FETCHED}/*", "+refs/tags/*:refs/tags/*")
        try:
            self._fetch(until, url, "--prune", f"+HEAD:{FETCHED}/HEAD", *wanted)
        except GitError as error:
            if "find remote ref HEAD" not in str(error):
                raise
            self._fetch(until, url, "--prune", *wanted)  # its HEAD is a branch without commits
        if len(matching(self.path, "objects/pack/*.pack")) > MOST_PACKS:
            self._git("repack", "--geometric=2", "-d", "-l", "-q")

    def fetch_named(self, url: str, names: Iterable[str], until: Until = FOR_EVER) -> None:
        """Fetch commits by their ids, or refs that are neither branches nor tags.

        Raises:
            GitError: one of them is not there.
        """
        wanted = [name for name in names if _FETCHABLE.fullmatch(name) and ".." not in name]
        if wanted:
            places = (f"+{name}:{EXTRA}/{name.removeprefix('refs/')}" for name in wanted)
            self._fetch(until, url, *places)

    def _fetch(self, until: Until, url: str, *arguments: str) -> None:
        how = ("--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--quiet")
        options = ("-c", "fetch.unpackLimit=1")
        ignored = [part for flaw in _OLD_FLAWS for part in ("-c", f"fetch.fsck.{flaw}=ignore")]
        first = [each for each in arguments if each.startswith("--")]
        rest = [each for each in arguments if not each.startswith("--")]
        inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        git_until(
            until.within(FETCH_SECONDS),
            *(*options, *ignored, "fetch", *how, *first, "--", url, *rest),
            variables={**_OF_FETCHES, **inherited, "GIT_DIR": self.path},
            directory=self.path,
        )

    def _sweep(self) -> None:
        """Remove what a fetch left that was killed: of a pack that has come, that it is kept."""
        names = ("objects/pack/tmp_*", "objects/pack/*.keep", "objects/pack/*.lock")
        for path in [
            found
            for name in (*names, "*.lock", "refs/**/*.lock")
            for found in matching(self.path, name)
        ]:
            with contextlib.suppress(OSError):
                path.unlink()

    def commit(self, ref: str) -> str | None:
        """Return the commit that a ref of the repository elsewhere names, if it is here."""
        branch = ref.removeprefix("refs/heads/").removeprefix("origin/")
        names = [f"{FETCHED}/{branch}", f"refs/tags/{ref.removeprefix('refs/tags/')}"]
        if re.fullmatch(r"[0-9a-f]{7,64}", ref):
            names.append(ref)
        names.append(f"{EXTRA}/{ref.removeprefix('refs/')}")
        for name in names:
            with contextlib.suppress(GitError):
                wanted = ("--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
                return self._git("rev-parse", *wanted).decode().strip()
        return None

    def set_shallow(self, commits: Sequence[str]) -> None:
        """Say of which commits the parents are not here.

        Raises:
            OSError: it cannot be written.
        """
        path = Path(self.path, "shallow")
        known = set(path.read_text().split()) if path.exists() else set()
        if not known.issuperset(commits):
            path.write_text("".join(f"{each}\n" for each in sorted({*known, *commits})))

    def take(self, pack: bytes) -> None:
        """Take in a pack that somebody sent; it is locked meanwhile.

        Raises:
            GitError: it is damaged, or not complete with what is here.
        """
        self._sweep()
        self._git("index-pack", "--stdin", "--fix-thin", f"--strict={LENIENT}", stdin=pack)

    def _git(self, *arguments: str, stdin: bytes = b"") -> bytes:
        variables = {"GIT_DIR": self.path}
        return git(*arguments, variables=variables, directory=self.path, stdin=stdin)
