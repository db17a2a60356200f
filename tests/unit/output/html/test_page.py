"""The page of a run: what is in it, and that texts never become markup."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given

from clinvk.core.changes import Changes, Commit
from clinvk.core.spec import ErrorKind, TaskResult, TaskSpec, TaskStatus, Try, Verification
from clinvk.output.html import page as module
from clinvk.output.html.page import page
from clinvk.runs.report import Report
from tests.unit.output.forms import presented


class Tags(HTMLParser):
    """The elements of a page, and the text of its data."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.data = ""
        self._is_data = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        assert not any(name.startswith("on") for name, _ in attrs)
        self._is_data = tag == "script" and ("id", "data") in attrs

    def handle_data(self, data: str) -> None:
        self.data += data if self._is_data else ""

    def handle_endtag(self, _tag: str) -> None:
        self._is_data = False


def rows(text: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(Tags(text).data)
    return found


@given(presented.reports())
def test_texts_are_never_markup(run: Report) -> None:
    tags = Tags(page(run, "Total", {0: [presented.HOSTILE]}))
    assert tags.names.count("script") == 2
    assert not {"img", "iframe", "object", "form", "link", "base"} & set(tags.names)
    found = json.loads(tags.data)
    assert [row["n"] for row in found] == list(range(1, len(run.results) + 1))
    for row in found:
        inside = Tags(row.get("answer", ""))
        assert not {"script", "img", "iframe", "style", "svg", "input"} & set(inside.names)


def test_no_address_is_one_that_a_browser_would_load() -> None:
    text = page(presented.report(TaskStatus.OK), "Total", {})
    assert not re.search(r"""(src|href)=["']?(?!#)""", re.sub(r"<script.*?</script>", "", text))
    assert "default-src 'none'" in text


def test_what_a_row_has() -> None:
    run = Report(
        run_id="r1",
        specs=[TaskSpec(backend="a", prompt="p", tags=["t"], id="i")],
        results=[
            TaskResult(
                index=0,
                status=TaskStatus.OK,
                exit_code=0,
                duration_seconds=2,
                output="**b** <i> [x](javascript:y) ![z](http://q)",
                backend="b",
                cost_usd=0.5,
                waited_seconds=3,
                tried=[Try(backend="a", error="no", error_kind=ErrorKind.QUOTA, cost_usd=0.25)],
                start_time="2023-11-14T22:13:21.000Z",
                end_time="2023-11-14T22:13:23.000Z",
                worker="w@h",
            )
        ],
        started_ms=1_700_000_000_000,
        ended_ms=1_700_000_003_000,
    )
    text = page(run, "Total: 1 task", {0: ["Bash ls: ok"]})
    (row,) = rows(text)
    assert row == {
        "n": 1,
        "title": "i",
        "id": "i",
        "tags": ["t"],
        "backend": "b",
        "status": "ok",
        "seconds": 2,
        "waited": 3,
        "cost": 0.75,
        "worker": "w@h",
        "start": "2023-11-14T22:13:21.000Z",
        "prompt": "p",
        "answer": '<p><strong>b</strong> &lt;i&gt; [x](javascript:y) !<a href="http://q">z</a></p>\n',
        "steps": "Bash ls: ok",
        "tried": ["a: quota: no"],
    }
    assert "<dd>$0.75</dd>" in text
    assert '<rect class="waited"' in text
    assert "waited for limits" in text


@pytest.mark.parametrize(
    ("result", "shown"),
    [
        ({"data": {"a": ["ü"]}}, {"data": '{\n  "a": [\n    "ü"\n  ]\n}'}),
        ({"data": False}, {"data": "false"}),
        ({"repairs": 2}, {"repairs": 2}),
        ({"verify": Verification(exit_code=0)}, {"verified": "passed"}),
        (
            {"verify": Verification(exit_code=3, output="1 failed\x1b[0m")},
            {"verified": "failed, exit code 3", "verify": "1 failed"},
        ),
        ({"verify": Verification(exit_code=-1)}, {"verified": "stopped"}),
        ({"reused": "r0/4", "retry_at": "2026-01-01"}, {"reused": "r0/4", "opens": "2026-01-01"}),
        (
            {
                "changes": Changes(
                    base="b",
                    start="s",
                    tree="t",
                    files=1,
                    insertions=1200,
                    commits=[Commit(sha="c" * 40, author="A", message="Mend\n\nIt was broken")],
                    patch="+<b>\udc80",
                    patch_bytes=5,
                )
            },
            {"changes": "1 file, +1,200 -0", "commits": ["c" * 12 + " Mend..."], "patch": "+<b> "},
        ),
        (
            {"changes": Changes(base="b", start="s", tree="t", files=2, patch_bytes=9_000_000)},
            {"changes": "2 files, +0 -0", "patch": "[9,000,000 bytes: clinvk diff prints them]"},
        ),
        ({"changes": Changes(base="b", start="s", tree="s")}, {}),
    ],
)
def test_what_came_of_a_task_beside_its_answer(
    result: dict[str, Any], shown: dict[str, Any]
) -> None:
    run = presented.report(TaskStatus.OK)
    plain = rows(page(run, "Total", {}))[0]
    changed = replace(run, results=[replace(run.results[0], **result)])
    assert rows(page(changed, "Total", {}))[0] == plain | shown


def test_failures_are_grouped() -> None:
    text = page(presented.report(*[TaskStatus.FAILED] * 12, error="<no>"), "Total", {})
    assert "<strong>failed</strong>: 12 tasks" in text
    assert "<li>&lt;no&gt; " in text
    assert "and 2 more" in text


def test_a_page_is_never_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    run = presented.report(*[TaskStatus.OK] * 20)
    long = [TaskSpec(backend="a", prompt="**x** " * 9000) for _ in run.specs]
    results = [replace(result, data="y " * 9000) for result in run.results]
    run = Report(run_id="r", specs=long, results=results, started_ms=0, ended_ms=1)
    whole = page(run, "Total", {})
    assert "cut to" not in whole
    monkeypatch.setattr(module, "MOST_CHARS", 60_000)
    cut = page(run, "Total", {})
    assert len(cut) <= 60_000
    assert "are cut to" in cut
    for row in rows(cut):
        assert "more characters are in the results]" in row["prompt"]
        assert "more characters are in the results]" in row["data"]
