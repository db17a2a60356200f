"""Objects on their way from one machine to another: a pack, which what is known there completes."""

from __future__ import annotations

from collections.abc import Iterable

from clinvk.git.private_repository import PrivateRepository


def make(
    private: PrivateRepository, wanted: Iterable[str], known: Iterable[str], most_bytes: int
) -> bytes:
    """Return a thin pack of all that commits and trees lead to, without what others lead to.

    Raises:
        GitError: an object cannot be read.
        TooLargeError: it has more than `most_bytes`.
    """
    names = [*wanted, *(f"^{each}" for each in known)]
    return private.git(
        *("pack-objects", "--revs", "--thin", "--stdout", "--quiet", "--delta-base-offset"),
        stdin="".join(f"{name}\n" for name in names).encode(),
        most_bytes=most_bytes,
    )


def take(private: PrivateRepository, pack: bytes) -> None:
    """Take in the objects of a pack, which anybody may have made.

    Raises:
        GitError: it is damaged, or has what git must not check out, such as a file in `.git`.
    """
    private.git("index-pack", "--stdin", "--fix-thin", "--strict", stdin=pack)
