"""`clinvk compare` from outside: stdout, stderr and exit code, to the letter."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clinvk.core.changes import Changes
from clinvk.core.spec import ErrorKind, RunOptions, TaskSpec, Usage, Verification
from clinvk.local import reach
from clinvk.output import presenter
from tests.unit.commands.known import KNOWN, REAL
from tests.unit.fake_fleet import Clinvk, FakeFleet, bad, ok

NAMED = ("--backends", "claude:opus,codex")


@pytest.fixture(autouse=True)
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH on which claude and codex are installed, and nothing else."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("claude", "codex"):
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    return folder


@pytest.fixture
def answers(fake: FakeFleet) -> FakeFleet:
    usage = Usage(input_tokens=1000, output_tokens=234, total_tokens=1234)
    fake.results = [
        bad(1, "API Error: 429 rate_limit_error"),
        ok(0, "Use a\nqueue.\n", 2.5, model="claude-opus-4-8", usage=usage, cost_usd=0.0125),
    ]
    return fake


TABLE = """\
Results
===============================================================
BACKEND      STATUS  DURATION  MODEL            TOKENS  COST
---------------------------------------------------------------
claude:opus  OK      2.50s     claude-opus-4-8  1234    $0.0125
codex        FAILED  3.20s     -                -       -
     Error: API Error: 429 rate_limit_error
---------------------------------------------------------------
Total: 2 backends, 1 completed, 1 failed (3.20s)
"""


def asked(backend: str, **more: Any) -> TaskSpec:
    """Return the task of a backend, which has the defaults of all tasks."""
    return TaskSpec(
        backend=backend, prompt="How would you do it?", max_wait_seconds=900, retries=2, **more
    )


def test_text(clinvk: Clinvk, answers: FakeFleet) -> None:
    ended = clinvk("compare", "How would you do it?", *NAMED)
    assert (ended.stderr, ended.status) == ("", 1)
    assert ended.stdout == (
        """\
Comparing 2 backends (claude:opus, codex)...

codex
------------------------------------------------------------
FAILED: API Error: 429 rate_limit_error

claude:opus
------------------------------------------------------------
Use a
queue.

"""
        + TABLE
    )
    assert answers.options == RunOptions(kind="compare", max_parallel=2, fail_fast=False)
    assert answers.submitted == [
        asked("claude", model="opus", name="claude:opus"),
        asked("codex"),
    ]


def test_one_after_the_other(clinvk: Clinvk, answers: FakeFleet) -> None:
    ended = clinvk("compare", "x", *NAMED, "--sequential")
    assert ended.stdout.startswith(
        "Comparing 2 backends (claude:opus, codex; one after another)...\n"
    )
    assert answers.options == RunOptions(kind="compare", max_parallel=1, fail_fast=False)


@pytest.mark.usefixtures("answers")
def test_a_failure_stops_nothing_whatever_the_configuration_says_of_parallel(
    clinvk: Clinvk, fake: FakeFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLINVK_PARALLEL_FAIL_FAST", "true")
    clinvk("compare", "x", *NAMED)
    assert fake.options is not None
    assert not fake.options.fail_fast


@pytest.mark.usefixtures("answers")
def test_json(clinvk: Clinvk) -> None:
    ended = clinvk("compare", "größer?", *NAMED, "--json", "-q")
    assert (ended.stderr, ended.status) == ("", 1)
    assert '"prompt": "größer?"' in ended.stdout
    assert json.loads(ended.stdout) == {
        "run_id": "20260102-030405-abcdef01",
        "prompt": "größer?",
        "backends": ["claude:opus", "codex"],
        "completed": 1,
        "failed": 1,
        "canceled": 0,
        "total_duration_seconds": 3.2,
        "start_time": "2026-01-02T03:04:05.000Z",
        "end_time": "2026-01-02T03:04:08.200Z",
        "results": [
            {
                "index": 0,
                "backend": "claude",
                "status": "ok",
                "output": "Use a\nqueue.\n",
                "exit_code": 0,
                "duration_seconds": 2.5,
                "attempts": 1,
                "model": "claude-opus-4-8",
                "usage": {"input_tokens": 1000, "output_tokens": 234, "total_tokens": 1234},
                "cost_usd": 0.0125,
                "task_name": "claude:opus",
            },
            {
                "index": 1,
                "backend": "codex",
                "status": "failed",
                "exit_code": 1,
                "duration_seconds": 3.2,
                "error": "API Error: 429 rate_limit_error",
                "error_kind": "failed",
                "attempts": 1,
            },
        ],
    }


RANKED = """\
Results, ranked by verify
=============================================================================
BACKEND      STATUS  VERIFY      CHANGES        DURATION  MODEL  TOKENS  COST
-----------------------------------------------------------------------------
codex        OK      passed      1 file +3 -1   2.00s     -      -       -
claude:opus  FAILED  failed (1)  2 files +9 -0  3.20s     opus   -       -
     Error: verify failed (1): 1 failed
-----------------------------------------------------------------------------
Total: 2 backends, 1 completed, 1 failed (3.20s)
"""


def test_they_are_ranked_by_verify(clinvk: Clinvk, fake: FakeFleet) -> None:
    changes = Changes(base="b", start="s", tree="t", files=2, insertions=9)
    failed = bad(0, "verify failed (1): 1 failed", error_kind=ErrorKind.VERIFY_FAILED)
    passed = Verification(exit_code=0)
    fake.results = [
        replace(failed, output="A", verify=Verification(exit_code=1), changes=changes),
        ok(
            1,
            "B",
            2.0,
            verify=passed,
            changes=replace(changes, files=1, insertions=3, deletions=1),
        ),
    ]
    given = ("compare", "x", *NAMED, "--workspace", "worktree", "--verify", "make test")
    ended = clinvk(*given)
    assert ended.stdout.endswith(RANKED)
    assert [spec.verify for spec in fake.submitted] == [["/bin/sh", "-c", "make test"]] * 2
    assert [spec.workspace for spec in fake.submitted] == ["worktree"] * 2
    document = json.loads(clinvk(*given, "--json").stdout)
    assert document["ranking"] == ["codex", "claude:opus"]
    assert [entry["verify"]["exit_code"] for entry in document["results"]] == [1, 0]


def test_a_schema_that_is_wrong_is_told_once(clinvk: Clinvk, tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text('{"type": 3}')
    ended = clinvk("compare", "x", *NAMED, "--schema", str(tmp_path / "s.json"))
    assert ended.status == 2
    assert ended.stderr.startswith(f"--schema: {tmp_path}/s.json: type: must be array, ")
    assert ended.stderr.count("\n") == 1


@pytest.mark.usefixtures("answers")
def test_quiet_is_the_total_alone(clinvk: Clinvk) -> None:
    ended = clinvk("compare", "x", *NAMED, "--quiet")
    assert ended.stdout == "Total: 2 backends, 1 completed, 1 failed (3.20s)\n"
    assert ended.stderr == ""


def test_side_by_side_with_what_each_changed(
    clinvk: Clinvk, fake: FakeFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presenter, "width", lambda: 70)
    changes = Changes(base="b", start="s", tree="t", files=2, insertions=9, deletions=1)
    fake.results = [
        ok(0, "done", changes=replace(changes, changed_files=["src/a.py", "b\x1b[1m"])),
        ok(1, "nothing to do"),
    ]
    said = clinvk("compare", "x", *NAMED, "--side-by-side").stdout
    assert " done                              │ nothing to do\n" in said
    assert " 2 files +9 -1                     │\n   src/a.py" in said
    assert "\x1b" not in said


def test_side_by_side(clinvk: Clinvk, fake: FakeFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presenter, "width", lambda: 70)
    fake.results = [
        ok(1, "short"),
        ok(0, "An answer that is longer than its column, 漢字漢字漢字, and goes on\n[bold]x[/]"),
    ]
    ended = clinvk("compare", "x", *NAMED, "--side-by-side")
    assert (ended.stderr, ended.status) == ("", 0)
    head, _, table = ended.stdout.partition("\nResults\n")
    assert head.splitlines() == [
        "Comparing 2 backends (claude:opus, codex)...",
        "",
        " claude:opus                       │ codex",
        "───────────────────────────────────┼──────────────────────────────────",
        " An answer that is longer than its │ short",
        " column, 漢字漢字漢字, and goes on │",
        " [bold]x[/]                        │",
    ]
    assert table.endswith("Total: 2 backends, 2 completed, 0 failed (3.20s)\n")


@pytest.mark.usefixtures("answers")
def test_side_by_side_where_there_is_no_room(
    clinvk: Clinvk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presenter, "width", lambda: 59)
    ended = clinvk("compare", "x", *NAMED, "--side-by-side")
    assert ended.stderr == "warning: a terminal of 59 columns is too narrow for --side-by-side\n"
    assert ended.stdout == clinvk("compare", "x", *NAMED).stdout


@pytest.mark.parametrize("arguments", [("-",), ("--file", "-"), ("--file", "p.md")])
def test_where_a_prompt_can_come_from(
    clinvk: Clinvk, fake: FakeFleet, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    (tmp_path / "p.md").write_text("--from elsewhere\n")
    ended = clinvk("compare", *arguments, *NAMED, "-q", stdin="--from elsewhere\n")
    assert ended.status == 0
    assert [spec.prompt for spec in fake.submitted] == ["--from elsewhere\n"] * 2


def test_all_backends_are_those_that_are_installed(
    clinvk: Clinvk, fake: FakeFleet, tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text(
        "backends: {codex: {enabled: false}, mine: {command: [claude]}, gone: {command: [gone]}}"
    )
    ended = clinvk("compare", "x", "--all-backends", "-q", "--config", "config.yaml")
    assert ended.status == 0
    assert [spec.backend for spec in fake.submitted] == ["claude", "mine"]
    skipped = [name for name in REAL if name not in {"claude", "codex"}] + ["gone"]
    assert "gemini" in skipped
    assert ended.stderr == "".join(
        f"warning: skipped {name}: it is not installed here\n" for name in skipped
    )


def test_all_backends_of_a_fleet_are_those_that_live_workers_serve(
    clinvk: Clinvk, fake: FakeFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reach, "served", lambda url: {"clinvk.gemini", "clinvk.echo"})
    arguments = ("compare", "x", "--all-backends", "-q", "--broker", "redis://host")
    ended = clinvk(*arguments)
    assert [spec.backend for spec in fake.submitted] == ["gemini"]
    assert ended.stderr == "".join(
        f"warning: skipped {name}: it is not served by a live worker\n"
        for name in REAL
        if name != "gemini"
    )
    fake.results = []
    clinvk(*arguments, "--wait-for-workers")
    assert [spec.backend for spec in fake.submitted] == REAL


@pytest.mark.parametrize(
    ("arguments", "status", "stderr"),
    [
        (
            ("x",),
            2,
            "clinvk: name the backends: --backends claude,codex or --all-backends\n",
        ),
        (
            ("x", "--all-backends", "--backends", "codex"),
            2,
            "clinvk: name the backends: --backends claude,codex or --all-backends\n",
        ),
        (
            NAMED,
            2,
            "clinvk: give one prompt: as an argument, as - for standard input, or with --file\n",
        ),
        (
            ("x", "--file", "p", *NAMED),
            2,
            "clinvk: give one prompt: as an argument, as - for standard input, or with --file\n",
        ),
        (
            ("x", "--all-backends", "--broker", "http://host"),
            2,
            (
                "clinvk: --broker: must be a URL like redis://host:6379/0, rediss://… or "
                "redis+socket:///path\n"
            ),
        ),
        (("\udcff", *NAMED), 2, "PROMPT: has an unpaired surrogate\n"),
        (("--file", "none.md", *NAMED), 2, "none.md: no such file\n"),
        ((" ", *NAMED), 2, 'PROMPT: must not be blank (got " ")\n'),
        (("-", *NAMED), 2, '<stdin>: must not be blank (got "")\n'),
        (("x", "--backends", " ,"), 2, "--backends: must name at least one backend\n"),
        (
            ("", "--backends", "clade,nope,codex:"),
            2,
            (
                'PROMPT: must not be blank (got "")\n'
                f'--backends: unknown backend "clade", did you mean "claude"? ({KNOWN})\n'
                f'--backends: unknown backend "nope" ({KNOWN})\n'
                '--backends: codex:: must not be blank (got "")\n'
            ),
        ),
        (
            ("x", "--backends", "claude,gemini"),
            4,
            "clinvk: gemini is not installed here: npm install -g @google/gemini-cli\n",
        ),
    ],
)
def test_what_is_refused(
    clinvk: Clinvk, fake: FakeFleet, arguments: tuple[str, ...], status: int, stderr: str
) -> None:
    ended = clinvk("compare", *arguments)
    assert (ended.stderr, ended.stdout, ended.status) == (stderr, "", status)
    assert fake.connected_to == "not connected"


def test_a_prompt_cannot_be_typed_in(clinvk: Clinvk) -> None:
    ended = clinvk("compare", "-", *NAMED, stdin=None)
    assert (ended.stdout, ended.status) == ("", 2)
    assert ended.stderr == "no prompt: give one with --file, or pipe one to standard input\n"


def test_nothing_installed_is_nothing_to_compare(clinvk: Clinvk, programs: Path) -> None:
    for program in programs.iterdir():
        program.unlink()
    ended = clinvk("compare", "x", "--all-backends")
    assert (ended.stdout, ended.status) == ("", 4)
    assert ended.stderr == "clinvk: no backend to compare: no enabled one is installed here\n"


def test_dry_run_starts_nothing(clinvk: Clinvk, fake: FakeFleet) -> None:
    ended = clinvk("compare", "x", "--backends", "claude:opus,gemini:flash", "--dry-run")
    first, second = ended.stdout.splitlines()
    assert first == (
        "[1] claude: claude -p --output-format stream-json --verbose"
        " --model opus"
        " < PROMPT: prompt (1 bytes)"
    )
    assert second.startswith("[2] gemini: ")
    assert (ended.status, fake.connected_to) == (0, "not connected")


def test_an_answer_is_that_of_its_own_backend(
    clinvk: Clinvk, answers: FakeFleet, tmp_path: Path
) -> None:
    """No fallback of the configuration: another backend's answer would be compared as its own."""
    (tmp_path / "c.yaml").write_text("backends: {claude: {fallback: [gemini]}}")
    clinvk("compare", "x", *NAMED, "--config", "c.yaml", "--max-wait", "1h")
    assert [(spec.fallback, spec.max_wait_seconds) for spec in answers.submitted] == [
        (None, 3600)
    ] * 2
