"""`clinvk parallel` from outside: stdout, stderr and exit code, to the letter."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from clinvk.core.requirements import Requirements
from clinvk.core.spec import ErrorKind, RunOptions, TaskStatus, Usage
from clinvk.local import reach
from tests.unit.fake_fleet import Clinvk, FakeFleet, bad, ok
from workers import health

SEED = {
    "tasks": [
        {"backend": "claude", "prompt": "review the auth module"},
        {"backend": "codex", "prompt": "add logging to the API"},
        {"backend": "gemini", "prompt": "generate tests for utils"},
    ]
}
TABLE_OF_FAILURE = """\
Running 3 tasks (max 3 parallel)...

[1] The auth module looks good...
[3] Generated 5 test cases...
[2] FAILED: API Error: 429 rate_limit_error

Results
============================================================
#    BACKEND      STATUS   DURATION   TASK
------------------------------------------------------------
1    claude       OK       2.50s      review the auth module
2    codex        FAILED   3.20s      add logging to the API
     Error: API Error: 429 rate_limit_error
3    gemini       OK       2.80s      generate tests for utils
------------------------------------------------------------
Total: 3 tasks, 2 completed, 1 failed (3.20s)
"""


@pytest.fixture
def seed(tmp_path: Path) -> str:
    (tmp_path / "tasks.json").write_text(json.dumps(SEED))
    return "tasks.json"


@pytest.fixture
def partly(fake: FakeFleet) -> FakeFleet:
    fake.results = [
        ok(0, "The auth module looks good\n\nIn detail: …", 2.5, model="opus", cost_usd=0.0125),
        ok(2, "Generated 5 test cases...", 2.8, usage=Usage(input_tokens=10, total_tokens=10)),
        bad(1, "API Error: 429 rate_limit_error", error_kind=ErrorKind.RATE_LIMITED),
    ]
    return fake


def test_text(clinvk: Clinvk, partly: FakeFleet, seed: str) -> None:
    ended = clinvk("parallel", "--file", seed)
    assert (ended.stdout, ended.stderr, ended.status) == (TABLE_OF_FAILURE, "", 1)
    assert partly.options == RunOptions(max_parallel=3, fail_fast=False)
    assert partly.connected_to is None


def test_stdin_is_the_task_file_where_none_is_named(clinvk: Clinvk, partly: FakeFleet) -> None:
    ended = clinvk("parallel", stdin=json.dumps(SEED))
    assert (ended.stdout, ended.status) == (TABLE_OF_FAILURE, 1)


def test_all_ok_is_exit_0(clinvk: Clinvk, fake: FakeFleet, seed: str) -> None:
    ended = clinvk("parallel", "-f", seed, "--max-parallel", "2", "--fail-fast")
    assert ended.status == 0
    assert ended.stdout.startswith("Running 3 tasks (max 2 parallel, fail-fast)...\n\n[1] answer 0")
    assert ended.stdout.endswith("Total: 3 tasks, 3 completed, 0 failed (3.20s)\n")
    assert fake.options == RunOptions(max_parallel=2, fail_fast=True)


def test_the_parts_of_the_total_add_up(clinvk: Clinvk, fake: FakeFleet) -> None:
    fake.results = [
        ok(0, "fine"),
        bad(1, "boom"),
        bad(2, "too slow", TaskStatus.TIMEOUT),
        bad(3, "gone", TaskStatus.LOST),
        bad(4, "canceled", TaskStatus.CANCELED),
    ]
    tasks = "".join('{"backend": "echo", "prompt": "x"}\n' for _ in range(5))
    ended = clinvk("parallel", stdin=tasks)
    assert ended.status == 1
    assert ended.stdout.splitlines()[-10:] == [
        "1    echo         OK       2.50s      x",
        "2    echo         FAILED   3.20s      x",
        "     Error: boom",
        "3    echo         TIMEOUT  3.20s      x",
        "     Error: too slow",
        "4    echo         LOST     3.20s      x",
        "     Error: gone",
        "5    echo         CANCELED 3.20s      x",
        "------------------------------------------------------------",
        "Total: 5 tasks, 1 completed, 3 failed, 1 canceled (3.20s)",
    ]


@pytest.mark.usefixtures("partly")
def test_json_is_one_document_with_nothing_beside_it(clinvk: Clinvk, seed: str) -> None:
    ended = clinvk("parallel", "--file", seed, "--json")
    assert ended.status == 1
    assert json.loads(ended.stdout) == {
        "run_id": "20260102-030405-abcdef01",
        "total_tasks": 3,
        "completed": 2,
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
                "output": "The auth module looks good\n\nIn detail: …",
                "exit_code": 0,
                "duration_seconds": 2.5,
                "attempts": 1,
                "model": "opus",
                "cost_usd": 0.0125,
            },
            {
                "index": 1,
                "backend": "codex",
                "status": "failed",
                "exit_code": 1,
                "duration_seconds": 3.2,
                "error": "API Error: 429 rate_limit_error",
                "error_kind": "rate_limited",
                "attempts": 1,
            },
            {
                "index": 2,
                "backend": "gemini",
                "status": "ok",
                "output": "Generated 5 test cases...",
                "exit_code": 0,
                "duration_seconds": 2.8,
                "attempts": 1,
                "usage": {"input_tokens": 10, "output_tokens": 0, "total_tokens": 10},
            },
        ],
    }
    assert ended.stderr == (
        "[1/3] claude OK 2.50s review the auth module\n"
        "[2/3] gemini OK 2.80s generate tests for utils\n"
        "[3/3] codex FAILED 3.20s add logging to the API\n"
    )


@pytest.mark.usefixtures("partly")
def test_quiet_is_the_total_alone(clinvk: Clinvk, seed: str) -> None:
    ended = clinvk("parallel", "--file", seed, "--quiet")
    assert ended.stdout == "Total: 3 tasks, 2 completed, 1 failed (3.20s)\n"
    assert ended.stderr == ""


@pytest.mark.usefixtures("partly")
def test_json_wins_over_quiet_and_is_quiet(clinvk: Clinvk, seed: str) -> None:
    ended = clinvk("parallel", "--file", seed, "--json", "-q")
    assert json.loads(ended.stdout)["failed"] == 1
    assert ended.stderr == ""


@pytest.mark.usefixtures("partly")
def test_without_aggregate_output_there_is_no_table(
    clinvk: Clinvk, seed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLINVK_PARALLEL_AGGREGATE_OUTPUT", "false")
    assert clinvk("parallel", "--file", seed).stdout == (
        "Running 3 tasks (max 3 parallel)...\n"
        "\n"
        "[1] The auth module looks good...\n"
        "[3] Generated 5 test cases...\n"
        "[2] FAILED: API Error: 429 rate_limit_error\n"
        "\n"
        "Total: 3 tasks, 2 completed, 1 failed (3.20s)\n"
    )


def test_a_task_keeps_what_it_is_called_and_tagged(clinvk: Clinvk, fake: FakeFleet) -> None:
    task = {
        "backend": "echo",
        "prompt": "x",
        "id": "t-1",
        "name": "First",
        "tags": ["nightly"],
        "meta": {"team": "core"},
        "output_format": "json",
    }
    ended = clinvk("parallel", "--json", stdin=json.dumps({"tasks": [task]}))
    (entry,) = json.loads(ended.stdout)["results"]
    assert (entry["task_id"], entry["task_name"]) == ("t-1", "First")
    assert (entry["tags"], entry["meta"]) == (["nightly"], {"team": "core"})
    assert fake.submitted[0].output_format == "json"


def test_what_a_model_says_cannot_drive_the_terminal(clinvk: Clinvk, fake: FakeFleet) -> None:
    fake.results = [ok(0, "\x1b[2J\x1b[31mred\x07 \u202etxt"), bad(1, "\x1b]0;title\x07 a\nb")]
    task = '{"backend": "echo", "prompt": "\\u001b[31m evil"}\n'
    printed = clinvk("parallel", stdin=task * 2).stdout
    assert not any(ord(char) < 32 and char != "\n" for char in printed)
    assert "\u202e" not in printed
    assert "[1] red   txt\n[2] FAILED: a b\n" in printed


def test_long_and_wide_text_is_cut_to_fit(clinvk: Clinvk, fake: FakeFleet) -> None:
    fake.results = [ok(0, "漢" * 100)]
    task = {"backend": "echo", "prompt": "word " * 100}
    lines = clinvk("parallel", stdin=json.dumps(task)).stdout.splitlines()
    assert lines[2] == "[1] " + "漢" * 36 + "..."
    assert lines[8].startswith("1    echo         OK       2.50s      word word")
    assert len(lines[8]) <= 80
    assert lines[8].endswith("...")


def test_warnings_are_said_once_a_run(clinvk: Clinvk, fake: FakeFleet) -> None:
    fake.results = [ok(index, "x", warnings=["echo: no such thing"]) for index in range(3)]
    task = '{"backend": "echo", "prompt": "x"}\n'
    assert clinvk("parallel", "-q", stdin=task * 3).stderr == "warning: echo: no such thing\n"


def test_output_dir_has_a_file_for_each_task_and_a_summary(
    clinvk: Clinvk, fake: FakeFleet, tmp_path: Path
) -> None:
    fake.results = [ok(0, "fine"), bad(1, "boom")]
    tasks = [
        {"backend": "echo", "prompt": "one", "id": "../../etc/passwd"},
        {"backend": "echo", "prompt": "two", "name": "Zwei Wörter"},
    ]
    ended = clinvk("parallel", "--json", stdin=json.dumps({"tasks": tasks, "output_dir": "out/x"}))
    out = tmp_path / "out" / "x"
    assert sorted(path.name for path in out.iterdir()) == [
        "001_.._.._etc_passwd.json",
        "002_Zwei_Wörter.json",
        "summary.json",
    ]
    assert json.loads((out / "summary.json").read_text()) == json.loads(ended.stdout)
    assert json.loads((out / "002_Zwei_Wörter.json").read_text()) == {
        "task": {"backend": "echo", "prompt": "two", "name": "Zwei Wörter"},
        "result": json.loads(ended.stdout)["results"][1],
    }
    assert {path.stat().st_mode & 0o777 for path in out.iterdir()} == {0o600}


def test_an_output_dir_that_cannot_be_is_found_before_anything_runs(
    clinvk: Clinvk, fake: FakeFleet, seed: str, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    ended = clinvk("parallel", "-f", seed, "--output-dir", "file/out")
    assert ended.status == 2
    assert ended.stderr == "clinvk: output_dir: cannot write to file/out: Not a directory\n"
    assert fake.connected_to == "not connected"


def test_an_output_dir_that_goes_away_costs_the_files_not_the_results(
    clinvk: Clinvk, fake: FakeFleet, seed: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    fake.on_event = lambda event: _remove(out) if event.index == 0 else None
    ended = clinvk("parallel", "-q", "-f", seed, "--output-dir", "out")
    assert ended.status == 1
    assert ended.stdout == "Total: 3 tasks, 3 completed, 0 failed (3.20s)\n"
    assert ended.stderr == "clinvk: output_dir: cannot write to out: No such file or directory\n"


def _remove(directory: Path) -> None:
    for path in directory.iterdir():
        path.unlink()
    directory.rmdir()


def test_a_broker_lost_in_mid_run_loses_no_result_that_came(
    clinvk: Clinvk, fake: FakeFleet, seed: str
) -> None:
    fake.breaks_after = 1
    fake.results = [ok(1, "came"), ok(0, "did not"), ok(2, "did not")]
    ended = clinvk("parallel", "-f", seed, "--json", "-q")
    assert ended.status == 4
    assert ended.stderr == "clinvk: the broker is gone\n"
    assert [(r["status"], r["exit_code"]) for r in json.loads(ended.stdout)["results"]] == [
        ("lost", -1),
        ("ok", 0),
        ("lost", -1),
    ]


def test_a_broker_that_cannot_be_reached_is_exit_4(
    clinvk: Clinvk, fake: FakeFleet, seed: str
) -> None:
    fake.unreachable = "cannot use the broker redis://:***@host: refused"
    ended = clinvk("parallel", "-f", seed, "--broker", "redis://:pw@host")
    assert (ended.status, ended.stdout) == (4, "")
    assert ended.stderr == "clinvk: cannot use the broker redis://:***@host: refused\n"
    assert fake.connected_to == "redis://:pw@host"


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_cancels_the_run_and_all_is_printed_in_order(
    clinvk: Clinvk, fake: FakeFleet, seed: str, number: signal.Signals, status: int
) -> None:
    fake.results = [ok(2, "c"), ok(0, "a"), bad(1, "canceled", TaskStatus.CANCELED, exit_code=-1)]
    fake.on_event = lambda event: os.kill(os.getpid(), number) if event.index == 2 else None
    ended = clinvk("parallel", "-f", seed, "--json", "-q")
    assert ended.status == status
    assert fake.canceled == "interrupted"
    assert [r["index"] for r in json.loads(ended.stdout)["results"]] == [0, 1, 2]
    assert ended.stderr == (
        "Canceling: stopping running tasks, starting no others (interrupt again to exit now)\n"
    )


def test_the_second_signal_leaves_at_once(clinvk: Clinvk, fake: FakeFleet, seed: str) -> None:
    fake.on_event = lambda event: os.kill(os.getpid(), signal.SIGINT)
    ended = clinvk("parallel", "-f", seed, "-q")
    assert (ended.status, ended.stdout) == (130, "")


def test_handlers_are_put_back(clinvk: Clinvk, fake: FakeFleet, seed: str) -> None:
    before = signal.getsignal(signal.SIGINT)
    clinvk("parallel", "-f", seed)
    assert signal.getsignal(signal.SIGINT) is before


def not_installed(program: str, hint: str) -> str:
    """Return what is said of a CLI, unless it is installed on this machine."""
    is_there = shutil.which(program)
    return "" if is_there else f"warning: {program} is not installed here: {hint}\n"


def test_dry_run_prints_what_would_run_and_starts_nothing(
    clinvk: Clinvk, fake: FakeFleet, tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text(
        "backends: {mytool: {command: [my tool, --stdin], env: {TOKEN: secret}}}"
    )
    tasks = [
        {"backend": "claude", "prompt": "-x é", "workdir": "/src dir", "model": "opus"},
        {"backend": "mytool", "prompt": "p", "extra": ["--fast"], "max_turns": 3},
    ]
    (tmp_path / "t.json").write_text(json.dumps({"tasks": tasks}))
    ended = clinvk("parallel", "-f", "t.json", "--config", "config.yaml", "--dry-run")
    assert ended.status == 0
    assert ended.stdout == (
        "[1] claude: cd '/src dir' && claude -p --output-format stream-json --verbose"
        " --model opus < t.json: tasks[0].prompt (5 bytes)\n"
        "[2] mytool: TOKEN='***' 'my tool' --stdin --fast < t.json: tasks[1].prompt (1 bytes)\n"
    )
    assert ended.stderr == (
        "warning: mytool: max_turns is not supported, ignored "
        "(its command line is fixed in the configuration)\n"
    ) + not_installed("claude", "npm install -g @anthropic-ai/claude-code") + (
        "warning: mytool is not installed here: see backends.mytool.command in the configuration\n"
    )
    assert fake.connected_to == "not connected"
    as_json = json.loads(
        clinvk("parallel", "-f", "t.json", "--config", "config.yaml", "--dry-run", "--json").stdout
    )
    assert as_json["tasks"][1]["env"] == {"TOKEN": "***"}
    assert as_json["tasks"][0]["stdin"] == {"source": "t.json: tasks[0].prompt", "bytes": 5}
    assert "secret" not in ended.stdout + json.dumps(as_json)


def test_dry_run_shows_what_the_worker_adds_so_that_a_cli_tries_once_and_keeps_its_session(
    clinvk: Clinvk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.toml").write_text("[model_providers.own]\nname = 'own'\n")
    monkeypatch.setenv("CODEX_HOME", str(tmp_path))
    monkeypatch.setenv("CLINVK_BROKER_URL", "")
    task = json.dumps({"tasks": [{"backend": "codex", "prompt": "x"}]})
    here = clinvk("parallel", "--dry-run", stdin=task).stdout
    assert "-c model_providers.own.request_max_retries=0" in here
    assert "--ephemeral" not in here
    fleet = clinvk("parallel", "--dry-run", "--broker", "redis://h", stdin=task).stdout
    assert "model_providers" not in fleet  # whose settings are not known here
    never = json.dumps({"tasks": [{"backend": "codex", "prompt": "x", "retries": 0}]})
    assert "--ephemeral" in clinvk("parallel", "--dry-run", "--max-wait", "0", stdin=never).stdout


@pytest.mark.parametrize(
    ("arguments", "setting", "expected"),
    [
        ([], None, "summary"),
        ([], "full", "full"),
        (["--output-dir", "out"], None, "full"),
        (["--output-dir", "out"], "off", "off"),
    ],
)
def test_the_tasks_of_a_run_say_what_is_kept_of_their_steps(
    clinvk: Clinvk,
    fake: FakeFleet,
    seed: str,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    setting: str | None,
    expected: str,
) -> None:
    if setting:
        monkeypatch.setenv("CLINVK_STEPS", setting)
    assert clinvk("parallel", "-q", "-f", seed, *arguments).status == 0
    assert [spec.steps for spec in fake.submitted] == [expected] * 3


def test_no_task_file_says_what_is_kept_of_steps(clinvk: Clinvk, fake: FakeFleet) -> None:
    ended = clinvk("parallel", stdin='{"tasks": [{"backend": "a", "prompt": "x", "steps": "off"}]}')
    assert ended.status == 2
    assert "tasks[0].steps: unknown field" in ended.stderr


def test_a_prompt_for_each_line(clinvk: Clinvk, fake: FakeFleet, tmp_path: Path) -> None:
    (tmp_path / "towns.csv").write_text("town\nRome\nParis\n")
    fake.results = [ok(0, "R"), ok(1, "P")]
    ended = clinvk(
        "parallel", "-p", "Go to {town}", "--each-line", "towns.csv", "--backend", "claude:m"
    )
    assert ended.status == 0
    assert "1    claude       OK       2.50s      Rome" in ended.stdout
    assert [(spec.prompt, spec.model) for spec in fake.submitted] == [
        ("Go to Rome", "m"),
        ("Go to Paris", "m"),
    ]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--each", "x"], "--each, --each-line and --backend need --prompt"),
        (["-p", "x"], "--prompt needs either --each GLOB or --each-line FILE"),
        (["-p", "x", "--each", "a", "--each-line", "b"], "--prompt needs either --each GLOB or "),
        (["-p", "x", "--each", "a", "-f", "b"], "--prompt is instead of --file: give one of them"),
        (["-p", "-", "--each-line", "-"], "--prompt and --each-line cannot both read standard in"),
        (["-p", "x", "--each", "a"], "name the backend with --backend (no CLI installed here)"),
        (["-p", "x", "--each", "a", "--backend", "echo"], "--each: no file matches a"),
        (["-p", "x", "--each-line", "a", "--backend", "echo"], "a: no such file"),
    ],
)
def test_a_prompt_that_is_not_for_each(
    clinvk: Clinvk, arguments: list[str], problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    ended = clinvk("parallel", *arguments)
    assert (ended.stdout, ended.status) == ("", 2)
    assert problem in ended.stderr


REQUIRED = json.dumps({**SEED, "requires": {"claude": ">=2.1.150, <3", "tags": ["gpu"]}})


@pytest.fixture
def versions(monkeypatch: pytest.MonkeyPatch) -> dict[str, str | None]:
    """What the CLIs of this machine say of their versions."""
    said: dict[str, str | None] = {"claude": "2.1.140 (Claude Code)"}
    monkeypatch.setattr(health, "versions", lambda *_: said)
    return said


def test_what_a_run_requires_is_checked_here_where_it_would_run_here(
    clinvk: Clinvk,
    fake: FakeFleet,
    versions: dict[str, str | None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refused = clinvk("parallel", stdin=REQUIRED)
    lines = (
        (
            "this machine does not have what the run requires of claude (claude >=2.1.150,<3, tags "
            "gpu): it has claude 2.1.140 and no tags"
        ),
        "this machine does not have what the run requires of codex (tags gpu): it has no tags",
        "this machine does not have what the run requires of gemini (tags gpu): it has no tags",
    )
    assert (refused.status, refused.stdout) == (4, "")
    assert refused.stderr == f"clinvk: {'; '.join(lines)}\n"
    assert not fake.submitted
    planned = clinvk("parallel", "--dry-run", stdin=REQUIRED)
    assert planned.stdout.splitlines()[0] == "requires claude >=2.1.150,<3, tags gpu"
    assert f"warning: {lines[0]}\n" in planned.stderr
    versions["claude"] = "2.1.197 (Claude Code)"
    monkeypatch.setenv("CLINVK_WORKER_TAGS", "eu,gpu")
    fake.results = [ok(index, "done") for index in range(3)]
    assert clinvk("parallel", "-q", stdin=REQUIRED).status == 0
    required = Requirements.of({"claude": ">=2.1.150,<3", "tags": ["gpu"]})
    assert fake.options == RunOptions(requires=required)
    document = json.loads(clinvk("parallel", "--dry-run", "--json", stdin=REQUIRED).stdout)
    assert document["requires"] == required.to_dict()


def test_of_several_backends_one_has_to_meet_what_a_run_requires(
    clinvk: Clinvk, fake: FakeFleet, versions: dict[str, str | None]
) -> None:
    versions["codex"] = "codex-cli 0.98.0"
    task = {"backend": ["claude", "codex"], "prompt": "x"}
    file = {"tasks": [task], "requires": {"claude": ">=2.1.150", "codex": ">=0.98"}}
    fake.results = [ok(0, "done")]
    assert clinvk("parallel", "-q", stdin=json.dumps(file)).status == 0
    file = {**file, "tasks": [{"backend": "codex", "prompt": "x", "fallback": ["claude"]}]}
    assert clinvk("parallel", "-q", stdin=json.dumps(file)).status == 4


def test_dry_run_prints_all_routes_of_a_task(
    clinvk: Clinvk, fake: FakeFleet, tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text(
        "backends: {one: {command: [cat]}, two: {command: [cat, '-']}, three: {like: one}}"
    )
    task = {"backend": ["one", "two"], "prompt": "p", "fallback": ["three"]}
    file = json.dumps({"tasks": [task]})
    ended = clinvk("parallel", "--config", "config.yaml", "--dry-run", stdin=file)
    assert ended.status == 0
    assert ended.stdout == (
        "[1] one: cat < <stdin>: tasks[0].prompt (1 bytes)\n"
        "    or two: cat - < <stdin>: tasks[0].prompt (1 bytes)\n"
        "    else three: cat < <stdin>: tasks[0].prompt (1 bytes)\n"
    )
    document = clinvk("parallel", "--config", "config.yaml", "--dry-run", "--json", stdin=file)
    (entry,) = json.loads(document.stdout)["tasks"]
    assert entry["alternatives"] == [{"backend": "two", "argv": ["cat", "-"], "env": {}}]
    assert entry["fallback"] == [{"backend": "three", "argv": ["cat"], "env": {}}]


def test_output_dir_has_the_fields_of_a_task_file(
    clinvk: Clinvk, fake: FakeFleet, tmp_path: Path
) -> None:
    task = {
        "backend": ["echo", "claude:opus"],
        "prompt": "p",
        "fallback": ["codex"],
        "max_wait": "none",
        "retries": 0,
        "retry_on": ["failed"],
        "retry_after_changes": True,
    }
    ended = clinvk("parallel", "-q", "--output-dir", "out", stdin=json.dumps({"tasks": [task]}))
    assert ended.status == 0
    (written,) = (tmp_path / "out").glob("001_*.json")
    assert json.loads(written.read_text())["task"] == task


WAITED: dict[str, Any] = {"waited_seconds": 60.5, "rejections": 2, "backend": "codex"}


@pytest.mark.parametrize(
    ("command", "file"),
    [
        ("parallel", {"tasks": [{"backend": "echo", "prompt": "x"}] * 2}),
        ("chain", {"steps": [{"backend": "echo", "prompt": "x"}] * 2}),
    ],
)
def test_a_run_says_how_long_limits_held_it_up(
    clinvk: Clinvk, fake: FakeFleet, command: str, file: dict[str, Any]
) -> None:
    fake.results = [ok(0, "a", **WAITED), ok(1, "b", waited_seconds=1.5)]
    document = json.loads(clinvk(command, "--json", stdin=json.dumps(file)).stdout)
    assert document["waited_seconds"] == 62
    assert document["results"][0] | WAITED == document["results"][0]
    fake.results = [ok(0, "a"), ok(1, "b")]
    document = json.loads(clinvk(command, "--json", stdin=json.dumps(file)).stdout)
    assert "waited_seconds" not in document
    fake.results = [ok(0, "a", **WAITED), ok(1, "b")]
    ended = clinvk(command, stdin=json.dumps(file))
    assert ended.status == 0
    assert "1    codex        OK       2.50s      x\n     Waited 1m for limits, ref" in ended.stdout
    assert " completed" in ended.stdout.splitlines()[-1]


def test_tasks_begin_with_a_fallback_where_nobody_has_what_their_own_backend_requires(
    clinvk: Clinvk, fake: FakeFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[Requirements]()

    def served(_: str, requires: Requirements) -> set[str]:
        asked.append(requires)
        return {"clinvk.codex"}

    monkeypatch.setattr(reach, "served", served)
    task = {"backend": "claude", "prompt": "x", "fallback": ["codex"]}
    file = {"tasks": [task], "requires": {"claude": ">=2.1.150"}}
    fake.results = [ok(0, "done")]
    ended = clinvk("parallel", "-q", "--broker", "redis://h", stdin=json.dumps(file))
    assert asked == [Requirements.of({"claude": ">=2.1.150"})]
    assert [spec.backend for spec in fake.submitted] == ["codex"]
    assert ended.stderr == (
        "warning: no live worker serves claude with what the run requires (claude >=2.1.150): "
        "tasks begin with a fallback\n"
    )


def test_tasks_begin_with_a_fallback_where_nobody_serves_their_own_backend(
    clinvk: Clinvk, fake: FakeFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reach, "served", lambda *_: {"clinvk.codex", "clinvk.gemini"})
    tasks = [
        {"backend": "claude", "prompt": "x"},
        {"backend": ["claude", "gemini"], "prompt": "y"},
        {"backend": "claude", "prompt": "z", "fallback": []},
    ]
    file = json.dumps({"tasks": tasks, "fallback": ["echo", "codex:m"]})
    ended = clinvk("parallel", "-q", "--broker", "redis://h", stdin=file)
    assert ended.stderr == (
        "warning: no live worker serves echo: a task that falls back on it waits\n"
    )
    assert [spec.choices for spec in fake.submitted] == [
        ("codex",),
        ("claude", "gemini"),
        ("claude",),
    ]
    assert (fake.submitted[0].model, fake.submitted[0].fallback) == ("m", ["echo"])
    fake.results = []
    file = json.dumps({"tasks": tasks[:1], "fallback": ["codex"]})
    ended = clinvk("parallel", "-q", "--broker", "redis://h", stdin=file)
    assert ended.stderr == ("warning: no live worker serves claude: tasks begin with a fallback\n")
    clinvk("parallel", "-q", "--broker", "redis://h", "--run-key", "k", stdin=file)
    run_key, given = fake.key
    assert (run_key, fake.submitted[0].backend, given[0].backend) == ("k", "codex", "claude")
    clinvk("parallel", "-q", "--broker", "redis://h", "--wait-for-workers", stdin=file)
    assert fake.submitted[0].backend == "claude"
