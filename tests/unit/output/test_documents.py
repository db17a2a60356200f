"""JSON documents, whole and in pieces."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinvk.output import documents


@pytest.mark.parametrize("answer", ["\ud800", "a\udc00b 漢", "\x00\x1b", "漢字"])
def test_a_document_is_json_whatever_the_answer(answer: str) -> None:
    written = documents.dump({"output": answer})
    assert json.loads(written.encode()) == {"output": answer}
    assert written.endswith("}\n")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab漢\n"), inner),
)


@given(st.dictionaries(st.sampled_from("abc"), VALUES), st.lists(VALUES, max_size=4))
def test_a_document_in_pieces_is_the_document(
    head: dict[str, object], entries: list[object]
) -> None:
    pieces = list(documents.listing(head, "entries", iter(entries)))
    assert "".join(pieces) == documents.dump({**head, "entries": entries})
    assert len(pieces) == len(entries) + 2


def test_half_of_a_surrogate_pair_in_one_entry_is_escaped_there() -> None:
    written = "".join(documents.listing({}, "x", ["漢", "\ud800"]))
    assert json.loads(written.encode()) == {"x": ["漢", "\ud800"]}
