"""Ship the caller's repository to workers that have no checkout of it.

What a remote has, workers fetch from there. Commits that no remote has, and what is not committed,
go through the store, as packs of git objects. A pack has only what was not shipped before, so the
next run of a repository sends only what is new; the client keeps the objects that it made, so that
git can tell.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from clinvk.core import repo_urls
from clinvk.core.errors import UsageError
from clinvk.core.shipment import LINE_ENDS, MOST_NAMES, PIECE_BYTES, Shipment, lifetime_ms
from clinvk.core.spec import TaskSpec
from clinvk.core.user_paths import expanded_default, make_directory, matching
from clinvk.git import given, merges, packs
from clinvk.git.private_repository import PrivateRepository
from clinvk.git.repository import Repository
from clinvk.git.runner import GitError, TooLargeError
from clinvk.store.store import Store

KEPT = "~/.clinvk/shipped"
"""Where a client keeps the objects that it made of what was not committed."""
KEPT_BYTES = 1 << 30
WARNING_BYTES = 25 << 20
MOST_PACKS = 30
MOST_EXCLUDES = 1 << 15

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pack:
    """A pack that was shipped: its pieces, what it leads to, and what it builds on."""

    pieces: list[str]
    size_bytes: int
    tips: list[str]
    needs: list[str] = field(default_factory=list)
    shallow: list[str] = field(default_factory=list)


class Shipping:
    """Makes tasks of a run carry what workers need of this machine's checkouts.

    Each checkout is shipped once for each `ref`. What is shipped stays for `keep_seconds`; it may
    have `most_bytes`, where 0 is that workers have the checkouts themselves.
    """

    def __init__(self, store: Store, keep_seconds: float, most_bytes: int) -> None:
        self._store = store
        self._lifetime_ms = lifetime_ms(keep_seconds)
        self._most_bytes = most_bytes
        self._found: dict[str, Repository | None] = {}
        self._names: dict[tuple[str, str, bool], str] = {}

    def shipped(self, spec: TaskSpec) -> TaskSpec:
        """Return a task that names what was shipped for it, where it works in a checkout here.

        Raises:
            UsageError: the checkout cannot be shipped.
        """
        if spec.workspace != "worktree" or spec.repo is not None or not self._most_bytes:
            return spec
        directory = os.path.realpath(os.path.expanduser(spec.workdir or os.curdir))  # noqa: PTH111
        try:
            repository = self._around(directory)
            if repository is None:
                return spec  # it may be there on the workers
            with_changes = spec.include_changes
            if with_changes is None:
                with_changes = spec.ref is None
            wanted = (repository.top, spec.ref or "HEAD", with_changes)
            if wanted not in self._names:
                self._names[wanted] = self._ship(repository, spec.ref or "HEAD", with_changes)
        except (GitError, OSError) as error:
            raise UsageError(f"{directory} cannot be sent to the workers: {error}") from error
        return replace(spec, workdir=directory, shipped=self._names[wanted])

    def _around(self, directory: str) -> Repository | None:
        if directory not in self._found:
            is_here = os.path.isdir(directory) and shutil.which("git") is not None  # noqa: PTH112
            self._found[directory] = Repository.around(directory) if is_here else None
        return self._found[directory]

    def _ship(self, repository: Repository, ref: str, with_changes: bool) -> str:
        identity = f"{socket.gethostname()}\0{repository.top}\0{repository.common_directory}"
        name = sha256(identity.encode("utf-8", "surrogateescape")).hexdigest()
        base = repository.commit(ref)
        with _kept(name) as directory:
            private = PrivateRepository.create(directory, repository)
            tree, _ = given.trees(private, repository, base, ref, with_changes=with_changes)
            included = _included(private, repository, base)
            shipment = Shipment(
                repository=name,
                top=repository.top,
                base=base,
                tree=tree,
                included=included,
                excludes=_excludes(private),
                line_ends=_line_ends(repository),
            )
            tips = [merges.commit(private, tree, base)]
            tips += [merges.commit(private, included)] if included is not None else []
            return self._send(_Checkout(repository, private, shipment, [base, *tips]))

    def _send(self, checkout: _Checkout) -> str:
        """Send what was not sent before; returns the name of what tasks are told."""
        url, tracked = checkout.remote()
        needs = checkout.needs(tracked)
        url = url if needs else None
        before = self._before(checkout, url)
        known = [tip for pack in before for tip in pack.tips]
        if not set(checkout.tips) <= set(known):
            made = self._make(checkout, needs, before)
            if made is None:
                before, made = [], self._make(checkout, needs, [])
            assert made is not None
            before = [*before, made]
        shipment = replace(
            checkout.shipment,
            url=url,
            needs=_all(each.needs for each in before),
            shallow=_all(each.shallow for each in before),
            packs=[each.pieces for each in before],
        )
        noted = {"url": url, "packs": [asdict(each) for each in before]}
        text = json.dumps(noted).encode()
        self._store.note_shipped(shipment.repository, text, self._lifetime_ms)
        (name,) = self._store.put_pieces([shipment.to_wire()], self._lifetime_ms)
        return name

    def _before(self, checkout: _Checkout, url: str | None) -> list[_Pack]:
        """Return the packs that workers can still have, and that this one can build on."""
        noted = _decoded(self._store.shipped_before(checkout.shipment.repository))
        found = noted["packs"] if noted["url"] == url else []
        names = [piece for pack in found for piece in pack.pieces]
        if len(found) >= MOST_PACKS or self._store.missing_pieces(names, self._lifetime_ms):
            return []
        return found

    def _make(self, checkout: _Checkout, needs: list[str], before: Sequence[_Pack]) -> _Pack | None:
        """Make a pack and send it; None where it is better to begin anew.

        Raises:
            UsageError: it is too large.
        """
        private, room = checkout.private, self._most_bytes - sum(p.size_bytes for p in before)
        shallow = _all(each.shallow for each in before)
        if not needs and not before:
            shallow = checkout.ends(self._most_bytes)
        checkout.set_shallow(shallow)
        known = [*needs, *checkout.there([tip for pack in before for tip in pack.tips])]
        try:
            pack = packs.make(private, checkout.tips, known, max(room, 0))
        except TooLargeError as error:
            if before:
                return None
            raise UsageError(checkout.too_large(self._most_bytes, error)) from error
        if len(pack) > WARNING_BYTES:
            logger.warning(
                "%s: %.1f MiB are sent to the workers, through the broker", checkout.top, _mib(pack)
            )
        pieces = [pack[at : at + PIECE_BYTES] for at in range(0, len(pack), PIECE_BYTES)]
        return _Pack(
            pieces=self._store.put_pieces(pieces, self._lifetime_ms),
            size_bytes=len(pack),
            tips=checkout.tips,
            needs=needs,
            shallow=shallow,
        )


@dataclass(frozen=True, slots=True)
class _Checkout:
    """A checkout, and what is to be shipped of it: the commits `tips`."""

    repository: Repository
    private: PrivateRepository
    shipment: Shipment
    tips: list[str]

    @property
    def top(self) -> str:
        """Where it is."""
        return self.repository.top

    def remote(self) -> tuple[str | None, list[str]]:
        """Return the address that workers can fetch from, and the commits that are there."""
        found = self.repository.upstream()
        url = repo_urls.fetchable(found[1]) if found is not None else None
        if found is None or url is None:
            return None, []
        below = f"refs/remotes/{found[0]}/".encode()
        lines = [line.split(b" ", 1) for line in self.repository.refs().splitlines()]
        return url, [sha.decode() for sha, name in lines if name.startswith(below)]

    def needs(self, tracked: Sequence[str]) -> list[str]:
        """Return the commits of these, or below them, that the base builds on."""
        if not tracked:
            return []
        asked = "".join(f"^{each}\n" for each in tracked) + f"{self.shipment.base}\n"
        wanted = ("rev-list", "--boundary", "--stdin")
        lines = self.private.git(*wanted, stdin=asked.encode()).decode().split()
        if not lines:
            return [self.shipment.base]
        return sorted(line[1:] for line in lines if line.startswith("-"))[:MOST_NAMES]

    def ends(self, most_bytes: int) -> list[str]:
        """Return where the history ends that is sent: as it does here, or at once if it is long."""
        path = Path(self.repository.common_directory, "shallow")
        ends = path.read_text().split() if path.is_file() else []
        wanted = ("rev-list", "--objects", "--disk-usage", self.shipment.base)
        if int(self.private.git(*wanted)) > most_bytes or len(ends) > MOST_NAMES:
            logger.warning(
                "%s: its history is too long to be sent, and has no remote that workers can fetch "
                "from: they get its last commit only",
                self.top,
            )
            return [self.shipment.base]
        return ends

    def set_shallow(self, ends: Sequence[str]) -> None:
        """Let the history end at these commits."""
        path = Path(self.private.path, "shallow")
        own = set(path.read_text().split()) if path.is_file() else set()
        if ends:
            path.write_text("".join(f"{each}\n" for each in sorted({*own, *ends})))

    def there(self, commits: Sequence[str]) -> list[str]:
        """Return those of some commits that are here, and not only where they were sent."""
        asked = "".join(f"{each}\n" for each in commits).encode()
        answer = self.private.git("cat-file", "--batch-check=%(objectname)", stdin=asked)
        return [line for line in answer.decode().splitlines() if not line.endswith(" missing")]

    def too_large(self, most_bytes: int, error: Exception) -> str:
        """Say that it has too much to be shipped."""
        return (
            f"{self.top}: what no remote has of it, or is not committed, is too large to be sent "
            f"through the broker ({error}; worktrees.ship_bytes is {most_bytes}): push its "
            "commits, ignore files that are not needed, or give its address as repo"
        )


@contextlib.contextmanager
def _kept(name: str) -> Iterator[str]:
    """Give the directory in which the objects of a repository are kept, to one client at a time."""
    folder = expanded_default(KEPT)
    try:
        make_directory(folder, 0o700)
        fd = os.open(folder / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:  # nothing is kept, then
        with tempfile.TemporaryDirectory(prefix="clinvk-git-") as scratch:
            yield f"{scratch}/git"
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        path = folder / name
        if _size_bytes(path) > KEPT_BYTES:
            shutil.rmtree(path, ignore_errors=True)
        (path / "shallow").unlink(missing_ok=True)
        yield str(path)
    finally:
        os.close(fd)


def _size_bytes(path: Path) -> int:
    return sum(found.stat().st_size for found in matching(path, "objects/*/*"))


def _included(private: PrivateRepository, repository: Repository, base: str) -> str | None:
    """Return the tree of the ignored files that are to come along."""
    index = given.user_index(private, repository, base)
    names = [name.removeprefix(b"./") for name in given.included(private, repository.top, index)]
    names = [name for name in names if not name.endswith(b"/")]
    if not names:
        return None
    own = Path(private.path, "index-of-included")
    own.unlink(missing_ok=True)
    private.git(
        *("update-index", "--add", "-z", "--stdin"),
        worktree=repository.top,
        index=str(own),
        stdin=b"".join(name + b"\0" for name in names),
    )
    return private.write_tree(str(own))


def _line_ends(repository: Repository) -> dict[str, str]:
    """Return the settings by which its files have their line ends."""
    found = repository.settings()
    known = ((name, found.get(name, "")) for name in LINE_ENDS)
    return {name: value for name, value in known if LINE_ENDS[name].fullmatch(value)}


def _excludes(private: PrivateRepository) -> str:
    """Return the patterns of what the user does not want git to see."""
    texts = []
    for name in ("exclude", "excludes-of-user"):
        with contextlib.suppress(OSError, ValueError):
            texts.append(Path(private.path, "info", name).read_text())
    joined = "\n".join(texts)
    return joined if len(joined) <= MOST_EXCLUDES else ""


def _decoded(noted: bytes | None) -> dict[str, Any]:
    """Decode what was noted of earlier shipments; nothing where it cannot be read."""
    try:
        found = json.loads(noted or b"null")
        return {"url": found["url"], "packs": [_Pack(**each) for each in found["packs"]]}
    except (ValueError, TypeError, KeyError):
        return {"url": None, "packs": []}


def _all(lists: Iterator[list[str]] | Any) -> list[str]:
    return list(dict.fromkeys(name for names in lists for name in names))


def _mib(content: bytes) -> float:
    return len(content) / (1 << 20)
