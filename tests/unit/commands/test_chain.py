"""`clinvk chain` from outside: stdout, stderr and exit code, to the letter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clinvk.core.spec import RunOptions, TaskStatus
from tests.unit.commands.known import KNOWN
from tests.unit.fake_fleet import Clinvk, FakeFleet, bad, ok

STEPS = {
    "steps": [
        {"name": "analyze", "backend": "claude", "prompt": "Analyze the auth module"},
        {"backend": "codex", "prompt": "fix: {{previous}}"},
    ]
}


@pytest.fixture
def pipeline(tmp_path: Path) -> str:
    (tmp_path / "pipeline.json").write_text(json.dumps(STEPS))
    return "pipeline.json"


@pytest.fixture
def both(fake: FakeFleet) -> FakeFleet:
    fake.results = [
        ok(0, "Two findings:\n\n1. …\x1b[2J\n2. …\n", 2.5, model="opus"),
        ok(1, "Fixed both.", 0.7),
    ]
    return fake


def test_text(clinvk: Clinvk, both: FakeFleet, pipeline: str) -> None:
    ended = clinvk("chain", "--file", pipeline)
    assert (ended.stderr, ended.status) == ("", 0)
    assert ended.stdout == (
        """\
Running 2 steps...

Step 1: analyze (claude)
------------------------------------------------------------
Two findings:

1. …
2. …

Step 2: codex
------------------------------------------------------------
Fixed both.

Results
============================================================
#    BACKEND      STATUS   DURATION   STEP
------------------------------------------------------------
1    claude       OK       2.50s      analyze
2    codex        OK       0.70s      fix: {{previous}}
------------------------------------------------------------
Total: 2/2 steps completed (3.20s)
"""
    )
    assert both.options == RunOptions(kind="chain", max_parallel=1, fail_fast=True)
    assert [spec.inputs for spec in both.submitted] == [{}, {"{{previous}}": 0}]


@pytest.mark.usefixtures("both")
def test_json(clinvk: Clinvk) -> None:
    ended = clinvk("chain", "--json", stdin=json.dumps(STEPS))
    assert ended.status == 0
    assert json.loads(ended.stdout) == {
        "run_id": "20260102-030405-abcdef01",
        "total_steps": 2,
        "completed_steps": 2,
        "failed_step": 0,
        "canceled_steps": 0,
        "total_duration_seconds": 3.2,
        "start_time": "2026-01-02T03:04:05.000Z",
        "end_time": "2026-01-02T03:04:08.200Z",
        "results": [
            {
                "step": 1,
                "name": "analyze",
                "backend": "claude",
                "status": "ok",
                "output": "Two findings:\n\n1. …\x1b[2J\n2. …\n",
                "exit_code": 0,
                "duration_seconds": 2.5,
                "attempts": 1,
                "model": "opus",
            },
            {
                "step": 2,
                "name": "",
                "backend": "codex",
                "status": "ok",
                "output": "Fixed both.",
                "exit_code": 0,
                "duration_seconds": 0.7,
                "attempts": 1,
            },
        ],
    }
    assert ended.stderr == "[1/2] claude OK 2.50s analyze\n[2/2] codex OK 0.70s fix: {{previous}}\n"


@pytest.mark.usefixtures("both")
def test_quiet_is_the_total_alone(clinvk: Clinvk, pipeline: str) -> None:
    ended = clinvk("chain", "-f", pipeline, "-q")
    assert (ended.stdout, ended.stderr) == ("Total: 2/2 steps completed (3.20s)\n", "")


STOPPED = [
    bad(0, "API Error: 429 rate_limit_error"),
    bad(1, "canceled before it started", TaskStatus.CANCELED, attempts=0, duration_seconds=0.0),
]


def test_a_step_that_was_not_reached_stands_in_the_table_only(
    clinvk: Clinvk, fake: FakeFleet, pipeline: str
) -> None:
    fake.results = STOPPED
    ended = clinvk("chain", "-f", pipeline)
    assert ended.status == 1
    assert ended.stdout == (
        """\
Running 2 steps...

Step 1: analyze (claude)
------------------------------------------------------------
FAILED: API Error: 429 rate_limit_error

Results
============================================================
#    BACKEND      STATUS   DURATION   STEP
------------------------------------------------------------
1    claude       FAILED   3.20s      analyze
     Error: API Error: 429 rate_limit_error
2    codex        CANCELED 0.00s      fix: {{previous}}
------------------------------------------------------------
Total: 0/2 steps completed, 1 failed, 1 canceled (3.20s)
"""
    )


@pytest.mark.parametrize(
    ("results", "failed_step"),
    [
        (STOPPED, 1),
        ([ok(0, "a"), bad(1, "slow", TaskStatus.TIMEOUT)], 2),
        ([ok(0, "a"), bad(1, "gone", TaskStatus.LOST)], 2),
        ([bad(0, "a"), bad(1, "b")], 1),
        ([ok(0, "a"), bad(1, "canceled", TaskStatus.CANCELED)], 0),
    ],
)
def test_the_step_that_failed_first(
    clinvk: Clinvk, fake: FakeFleet, pipeline: str, results: list[Any], failed_step: int
) -> None:
    fake.results = list(results)
    ended = clinvk("chain", "-f", pipeline, "--json", "-q")
    assert (ended.status, json.loads(ended.stdout)["failed_step"]) == (1, failed_step)


def test_a_chain_that_goes_on_says_so(clinvk: Clinvk, both: FakeFleet) -> None:
    ended = clinvk("chain", stdin=json.dumps(STEPS | {"stop_on_failure": False}))
    assert ended.stdout.startswith("Running 2 steps (continuing after failures)...\n\nStep 1")
    assert both.options == RunOptions(kind="chain", max_parallel=1, fail_fast=False)


@pytest.mark.usefixtures("both")
def test_output_dir_has_the_same_document(clinvk: Clinvk, tmp_path: Path, pipeline: str) -> None:
    ended = clinvk("chain", "-f", pipeline, "--json", "--output-dir", "out")
    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir()) == [
        "001_analyze.json",
        "002_codex.json",
        "summary.json",
    ]
    assert json.loads((out / "summary.json").read_text()) == json.loads(ended.stdout)
    assert json.loads((out / "002_codex.json").read_text()) == {
        "task": {"backend": "codex", "prompt": "fix: {{previous}}"},
        "result": json.loads(ended.stdout)["results"][1],
    }


def test_dry_run_shows_placeholders_as_they_are_and_starts_nothing(
    clinvk: Clinvk, fake: FakeFleet
) -> None:
    steps = [
        {"name": "a", "backend": "codex", "prompt": "look", "workdir": "/src"},
        {"backend": "claude", "prompt": "{{previous}}/{{steps.a.output}}"},
    ]
    file = json.dumps({"steps": steps, "pass_working_dir": True})
    ended = clinvk("chain", "--dry-run", stdin=file)
    first, second = ended.stdout.splitlines()
    assert first.startswith("[1] codex: cd /src && codex exec --json ")
    assert first.endswith(" < <stdin>: steps[0].prompt (4 bytes)")
    assert second == (
        "[2] claude: cd /src && claude -p --output-format stream-json --verbose"
        " < <stdin>: steps[1].prompt (31 bytes, with {{previous}}, {{steps.a.output}})"
    )
    document = json.loads(clinvk("chain", "--dry-run", "--json", stdin=file).stdout)
    assert [task["stdin"] for task in document["tasks"]] == [
        {"source": "<stdin>: steps[0].prompt", "bytes": 4},
        {
            "source": "<stdin>: steps[1].prompt",
            "bytes": 31,
            "placeholders": ["{{previous}}", "{{steps.a.output}}"],
        },
    ]
    assert fake.connected_to == "not connected"


def test_what_is_wrong_is_said_before_anything_runs(clinvk: Clinvk, fake: FakeFleet) -> None:
    steps = [{"backend": "echo", "prompt": "{{previous}}"}, {"backend": "ecko", "prompt": "x"}]
    ended = clinvk("chain", stdin=json.dumps({"steps": steps}))
    assert (ended.stdout, ended.status) == ("", 2)
    assert ended.stderr == (
        '<stdin>: steps[1].backend: unknown backend "ecko", did you mean "echo"? '
        f"({KNOWN})\n"
        "<stdin>: steps[0].prompt: {{previous}} cannot be used in the first step: no step comes "
        "before it\n"
    )
    assert fake.connected_to == "not connected"


def test_a_terminal_is_no_file_of_steps(clinvk: Clinvk) -> None:
    ended = clinvk("chain", stdin=None)
    assert (ended.status, ended.stdout) == (2, "")
    assert ended.stderr == (
        "no file of steps: give one with --file, or pipe one to standard input\n"
    )


def test_a_chain_without_a_table(
    clinvk: Clinvk, both: FakeFleet, pipeline: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLINVK_PARALLEL_AGGREGATE_OUTPUT", "false")
    ended = clinvk("chain", "-f", pipeline)
    assert ended.stdout.endswith("\nFixed both.\n\nTotal: 2/2 steps completed (3.20s)\n")
