"""Lines out of pieces: however the bytes are cut, they are those of the whole output."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from clinvk.backends import base
from clinvk.backends.base import Captured
from workers.execution.lines import LineSplitter


def split(output: bytes, cuts: list[int], splitter: LineSplitter | None = None) -> list[str]:
    """Return the lines of an output that comes in pieces."""
    splitter = splitter or LineSplitter()
    lines: list[str] = []
    bounds = [0, *sorted(min(cut, len(output)) for cut in cuts), len(output)]
    for start, end in pairwise(bounds):
        lines += splitter.split(output[start:end])
    return [*lines, *splitter.end()]


PIECES = st.sampled_from([b"a", b"{}", b"\n", b"\r", b"\r\n", "é漢".encode(), b"\xff", b"\xe6\xbc"])


@given(st.lists(PIECES).map(b"".join), st.lists(st.integers(0, 40)))
@example(b"a\r\nb", [2])
@example("é".encode(), [1])
@example(b"a\n\xe6", [3])
def test_any_cut_gives_the_lines_of_the_whole(output: bytes, cuts: list[int]) -> None:
    assert split(output, cuts) == list(Captured.of(output).lines())


@given(
    st.lists(st.sampled_from([b"abc", b"\n", "é".encode()])).map(b"".join),
    st.lists(st.integers(0, 40)),
)
def test_a_long_line_comes_in_pieces(output: bytes, cuts: list[int]) -> None:
    lines = split(output, cuts, LineSplitter(line_chars=4))
    assert "".join(lines) == output.decode().replace("\n", "")
    assert max(map(len, lines), default=0) <= 4


def test_the_pieces_of_a_long_line_are_those_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "LINE_CHARS", 4)
    output = b"123456789\n12\n"
    path = tmp_path / "output"
    path.write_bytes(output)
    of_file = list(Captured(size=len(output), path=path).lines())
    assert (
        split(output, [3, 5], LineSplitter(line_chars=4)) == of_file == ["1234", "5678", "9", "12"]
    )


def test_a_line_of_many_megabytes_is_put_together_once() -> None:
    """Each piece is looked at once; to join at each would take minutes."""
    piece, splitter = b"x" * (1 << 16), LineSplitter()
    found = [line for _ in range(1000) for line in splitter.split(piece)]
    assert found == []
    (line,) = splitter.split(b"\n")
    assert len(line) == 1000 << 16
