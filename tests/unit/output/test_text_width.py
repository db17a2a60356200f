"""Text that is cut to a number of terminal cells."""

from __future__ import annotations

import pytest

from clinvk.output import text_width


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("", ""),
        (" \n\t\n", ""),
        ("one", "one"),
        ("\n one \n\n", "one"),
        ("one\ntwo", "one..."),
        ("one...\ntwo", "one..."),
        ("x" * 5000, "x" * 4000 + "..."),
    ],
)
def test_first_line(written: str, shown: str) -> None:
    assert text_width.first_line(written) == shown


@pytest.mark.parametrize(
    ("cells", "shown"),
    [(8, "漢字漢字"), (7, "漢字..."), (6, "漢..."), (4, "..."), (3, "..."), (2, ".."), (1, ".")],
)
def test_fit_counts_cells(cells: int, shown: str) -> None:
    assert text_width.fit("漢字漢字", cells) == shown
