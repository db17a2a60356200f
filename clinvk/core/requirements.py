"""What a run requires of the workers that run its tasks: versions of CLIs, and tags.

The scripts of the store follow the same rules (`clinvk/store/lua/lib/workers.lua`), because only
they can decide who gets a task; a test holds them to these.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet
    from packaging.version import Version

TAGS = "tags"
"""Stands among the names of backends in a requirement."""
TAG_PATTERN = r"[0-9A-Za-z][0-9A-Za-z_.:/-]{0,63}"
MOST_TAGS = 100
MOST_RANGE_CHARS = 200
VERSION = re.compile(r"(\d+(?:\.\d+)+)(-?)")
"""The first version in what a CLI says of itself, and whether something follows it as in
`0.26.0-preview.1`, which comes before 0.26.0."""
_PART = re.compile(r"(~=|==|!=|<=|>=|<|>)\s*(\d{1,15}(?:\.\d{1,15})*(?:\.\*)?)")


@dataclass(frozen=True, slots=True)
class Requirements:
    """A version range by backend, as PEP 440 writes them, and tags that a worker has all of."""

    versions: Mapping[str, str] = field(default_factory=dict)
    tags: Sequence[str] = ()

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """Take them in the form of a file, `{"claude": ">=2.1.150", "tags": ["gpu"]}`.

        Raises:
            ValueError: a range or a tag is not valid.
        """
        versions = {name: version_range(text) for name, text in given.items() if name != TAGS}
        return cls(versions, tuple(tags_of(given.get(TAGS, []))))

    def to_dict(self) -> dict[str, Any]:
        """Return them in the form of a file."""
        return {**self.versions, **({TAGS: list(self.tags)} if self.tags else {})}

    def __bool__(self) -> bool:
        return bool(self.versions or self.tags)

    def __str__(self) -> str:
        versions = [f"{name} {text}" for name, text in self.versions.items()]
        return ", ".join([*versions, *([_tags(self.tags)] if self.tags else [])])

    def of_backend(self, name: str) -> Requirements:
        """Return what concerns the tasks of one backend."""
        versions = {name: self.versions[name]} if name in self.versions else {}
        return Requirements(versions, self.tags)

    def are_met(self, backend: str, entry: Mapping[str, Any]) -> bool:
        """Whether a worker may run tasks of a backend, by the `clis` and `tags` it announced."""
        if not set(self.tags) <= set(_announced_tags(entry)):
            return False
        text = self.versions.get(backend)
        return text is None or _is_in(text, _announced_version(backend, entry))

    def found(self, backend: str, entry: Mapping[str, Any]) -> str:
        """Say what a worker has of what concerns the tasks of a backend."""
        words = []
        if backend in self.versions:
            said = _announced_version(backend, entry)
            words.append(f"{backend} {said[0]}" if said else f"{backend} of unknown version")
        if self.tags:
            words.append(_tags(_announced_tags(entry)))
        return " and ".join(words)


NOTHING = Requirements()


def tags_of(given: Any) -> list[str]:
    """Return tags of a worker, each once.

    Raises:
        ValueError: they are no list of tags.
    """
    if not isinstance(given, list | tuple) or len(given) > MOST_TAGS:
        raise ValueError("must be a list of tags")
    for tag in given:
        if not isinstance(tag, str) or not re.fullmatch(TAG_PATTERN, tag):
            raise ValueError('a tag is up to 64 letters, digits and _.:/-, such as "gpu"')
    return list(dict.fromkeys(given))


def version_range(text: Any) -> str:
    """Return a range of versions without spaces.

    Raises:
        ValueError: it is none.
    """
    parts = text.split(",") if isinstance(text, str) and len(text) <= MOST_RANGE_CHARS else [""]
    found = [_PART.fullmatch(part.strip()) for part in parts]
    plain = ",".join(match[1] + match[2] for match in found if match)
    if not all(found) or not _is_range(plain):
        raise ValueError('must be a range of versions such as ">=2.1.150,<3"')
    return plain


def _is_range(text: str) -> bool:
    from packaging.specifiers import InvalidSpecifier

    try:
        _specifiers(text)
    except InvalidSpecifier:  # such as >=2.*
        return False
    return True


@cache
def _specifiers(text: str) -> SpecifierSet:
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(text)


def _is_in(text: str, said: tuple[str, bool] | None) -> bool:
    return said is not None and _specifiers(text).contains(_version(*said), prereleases=True)


def _version(release: str, is_early: bool) -> Version:
    from packaging.version import Version

    return Version(f"{release}.dev0" if is_early else release)


def _announced_version(backend: str, entry: Mapping[str, Any]) -> tuple[str, bool] | None:
    """Return the version that a worker has of a CLI, and whether it comes before its release."""
    clis = entry.get("clis")
    said = clis.get(backend) if isinstance(clis, Mapping) else None
    match = VERSION.search(said) if isinstance(said, str) else None
    return (match[1], bool(match[2])) if match else None


def _announced_tags(entry: Mapping[str, Any]) -> list[str]:
    tags = entry.get(TAGS)
    return [str(tag) for tag in tags] if isinstance(tags, list | tuple) else []


def _tags(tags: Sequence[str]) -> str:
    return f"tags {', '.join(tags)}" if tags else "no tags"
