"""What is printed of texts that others wrote, and of commands that would run."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinvk.backends.base import Command
from clinvk.core import sanitize
from clinvk.core.spec import TaskResult, TaskSpec, TaskStatus
from clinvk.output import documents, plan, text_lines, text_width
from clinvk.runs.report import Report


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("plain", "plain"),
        ("  a\tb\r\n c ", "a b  c"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x9b31mred", "red"),
        ("\x1b[?25l\x1b[2J\x1b[10;20Hx", "x"),
        ("\x1b]0;title\x07x", "x"),
        ("\x1b]8;;http://a\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bPdevice\x1b\\x", "x"),
        ("\x1b(Bx\x1b=y\x1bcz", "xyz"),
        ("a\x1b", "a"),
        ("a\x1b]no end", "a ]no end"),
        ("a\x00\x07\x08b\x7f", "a b"),
        ("a\u202eb\u2066c\u200bd\ufeffe\U000e0041f", "a b c d e f"),
        ("a\ud800b", "a b"),
        ("naïve 漢字 🎉", "naïve 漢字 🎉"),
    ],
)
def test_one_line(written: str, shown: str) -> None:
    assert sanitize.one_line(written) == shown


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


def test_columns_stay_in_line_whatever_stands_in_them() -> None:
    specs = [
        TaskSpec(backend="claude", prompt="p", name="n"),
        TaskSpec(backend="a-very-long-backend", prompt="p\nq", id="i"),
        TaskSpec(backend="漢字", prompt="\nfirst\nsecond"),
    ]
    results = [
        TaskResult(index=0, status=TaskStatus.CANCELED, exit_code=-1, duration_seconds=0),
        TaskResult(index=1, status=TaskStatus.TIMEOUT, exit_code=-1, duration_seconds=3600.5),
        TaskResult(index=2, status=TaskStatus.LOST, exit_code=-1, duration_seconds=1, error="e\nf"),
    ]
    report = Report(run_id="r", specs=specs, results=results, started_ms=0, ended_ms=4200)
    assert list(text_lines.table(report, 80, "TASK"))[3:] == [
        "-" * 60,
        "1    claude       CANCELED 0.00s      n",
        "2    a-very-lo... TIMEOUT  3600.50s   i",
        "3    漢字         LOST     1.00s      first",
        "     Error: e f",
        "-" * 60,
    ]
    assert (
        text_lines.total(report, "tasks")
        == "Total: 3 tasks, 0 completed, 2 failed, 1 canceled (4.20s)"
    )


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


def test_the_place_of_a_prompt() -> None:
    spec = TaskSpec(backend="echo", prompt="x")
    command = Command(argv=("a",), stdin=b"")
    sources = ["t.json: tasks[3]", "t.jsonl: line 5"]
    planned = plan.plan([spec] * 2, sources, lambda _: _Backend(command))
    assert [source for _, source, _ in planned] == [
        "t.json: tasks[3].prompt",
        "t.jsonl: line 5: prompt",
    ]


class _Backend:
    def __init__(self, command: Command) -> None:
        self._command = command

    def command(self, spec: TaskSpec) -> Command:
        return self._command
