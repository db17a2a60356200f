"""What a run requires: what may be written, and who has it."""

from __future__ import annotations

from typing import Any

import pytest

from clinvk.core.requirements import Requirements


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ({}, {}),
        ({"tags": []}, {}),
        ({"tags": ["gpu", "gpu", "eu/west:1"]}, {"tags": ["gpu", "eu/west:1"]}),
        ({"claude": " >= 2.1.150 , <3"}, {"claude": ">=2.1.150,<3"}),
        ({"claude": "==2.1.*", "codex": "~=0.98"}, {"claude": "==2.1.*", "codex": "~=0.98"}),
    ],
)
def test_what_may_be_written(written: dict[str, Any], read: dict[str, Any]) -> None:
    found = Requirements.of(written)
    assert found.to_dict() == read
    assert bool(found) == bool(read)


@pytest.mark.parametrize(
    "text",
    [
        *("", "2.1", "=2.1", "=>2.1", ">=2.*", "~=2", "===2.1", ">=2.1rc1", ">=1!2", ">=2.1,", "x"),
        *(">=" + "1." * 99 + "1", 2.1, None, [">=2"]),
    ],
)
def test_what_is_no_range(text: object) -> None:
    with pytest.raises(ValueError, match="must be a range of versions such as"):
        Requirements.of({"claude": text})


@pytest.mark.parametrize("tags", ["gpu", None, ["", "a"], ["two words"], [1], ["x" * 65], ["-x"]])
def test_what_are_no_tags(tags: object) -> None:
    with pytest.raises(ValueError, match="tag"):
        Requirements.of({"tags": tags})


@pytest.mark.parametrize(
    ("text", "said", "is_met"),
    [
        (">=2.1.150", "2.1.197 (Claude Code)", True),
        (">=2.1.150", "2.1.149 (Claude Code)", False),
        (">=2.1.150", "codex-cli 2.2", True),
        (">=0.26", "0.26.0-preview.1", False),  # comes before 0.26.0
        (">=0.25.9", "0.26.0-nightly.20260101.abc", True),
        ("<0.26", "0.26.0-preview.1", False),
        ("==2.1.*,!=2.1.7", "2.1.7", False),
        (">=2.1", None, False),
        (">=2.1", "no number", False),
    ],
)
def test_versions(text: str, said: str | None, is_met: bool) -> None:
    assert Requirements.of({"a": text}).are_met("a", {"clis": {"a": said}}) is is_met


def test_a_version_concerns_its_own_backend_and_tags_all() -> None:
    requires = Requirements.of({"a": ">=2", "tags": ["gpu", "big"]})
    worker = {"clis": {"a": "1.0"}, "tags": ["big", "gpu", "eu"]}
    assert not requires.are_met("a", worker)
    assert requires.are_met("b", worker)
    assert not requires.are_met("b", {"tags": ["gpu"]})
    for damaged in ({}, {"clis": 1, "tags": "gpubig"}, {"clis": {"a": 2}, "tags": None}):
        assert not requires.are_met("a", damaged)


def test_words() -> None:
    requires = Requirements.of({"a": ">=2", "b": "<3", "tags": ["gpu"]})
    assert str(requires) == "a >=2, b <3, tags gpu"
    assert str(requires.of_backend("b")) == "b <3, tags gpu"
    assert requires.found("a", {"clis": {"a": "v1.0"}, "tags": ["x"]}) == "a 1.0 and tags x"
    assert requires.found("a", {}) == "a of unknown version and no tags"
