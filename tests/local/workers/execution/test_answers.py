"""Answers that hold: a CLI that is asked again in its session, and work that is verified."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from clinvk.core.spec import ErrorKind, TaskResult, TaskSpec, TaskStatus
from clinvk.core.worker_config import WorkerConfig
from clinvk.store.types import Claim, Lease
from tests.unit.git.checkouts import repository
from workers.execution import answer_check
from workers.execution.executor import Executor
from workers.execution.sessions import SessionStore
from workers.execution.stop_signal import StopSignal

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
SESSION = "0d9f2c1e-5a6b-4c7d-8e9f-0123456789ab"
CLAUDE = f"""#!{sys.executable}
import json, os, sys
said = sys.stdin.read()
argv = sys.argv[1:]
with open(os.environ["ANTHROPIC_LOG"], "a") as log:
    log.write(json.dumps([argv, said]) + "\\n")
with open(os.environ["ANTHROPIC_LOG"]) as log:
    number = len(log.readlines())
exec(os.environ.get("ANTHROPIC_CODE", ""))
answers = json.loads(os.environ["ANTHROPIC_ANSWERS"])
answer = answers[min(number, len(answers)) - 1]
print(json.dumps({{"type": "system", "subtype": "init", "session_id": "{SESSION}"}}))
print(json.dumps({{"type": "result", "is_error": False, "num_turns": 1, "session_id": "{SESSION}",
    "total_cost_usd": 0.25, "usage": {{"input_tokens": 10, "output_tokens": 5}}, **answer}}))
"""


@pytest.fixture
def claude(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Run a task with a CLI that gives these answers, one in each round."""
    program = tmp_path / "bin" / "claude"
    program.parent.mkdir()
    program.write_text(CLAUDE)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    log = tmp_path / "work" / "log"
    log.parent.mkdir()
    monkeypatch.setenv("ANTHROPIC_LOG", str(log))
    worker = WorkerConfig(
        spill_dir=str(tmp_path / "spill"), worktrees_dir=str(tmp_path / "worktrees")
    )

    def run(*answers: Any, **fields: Any) -> tuple[TaskResult, list[tuple[list[str], str]]]:
        monkeypatch.setenv("ANTHROPIC_ANSWERS", json.dumps(answers))
        log.unlink(missing_ok=True)
        lease = Lease(f"{tmp_path.name}-{os.getpid()}", 0, 1)
        spec = TaskSpec(backend="claude", prompt="count", **fields)
        with StopSignal() as stop:
            sessions = SessionStore(tmp_path / "sessions", "w@h/1")
            executor = Executor(worker, "w@h", "w@h/1", sessions=sessions)
            ended = executor.execute(lease, Claim("go", spec.to_wire()), stop, lambda _: [])
            sessions.close()
        assert ended is not None
        asked = [json.loads(line) for line in log.read_text().splitlines()]
        assert TaskResult.from_wire(ended.result.to_wire()) == ended.result
        return ended.result, asked

    return run


def test_an_answer_that_is_not_valid_is_asked_again_in_the_session(claude: Any) -> None:
    wrong, right = (
        {"result": 'I say {"n": "x"}'},
        {"result": "words", "structured_output": {"n": 3}},
    )
    result, asked = claude(wrong, right, schema=SCHEMA)
    assert (result.status, result.data, result.output) == (TaskStatus.OK, {"n": 3}, "words")
    assert (result.repairs, result.cost_usd, result.usage.total_tokens) == (1, 0.5, 30)
    (first, prompt), (second, complaint) = asked
    assert prompt == "count"
    assert json.loads(first[first.index("--json-schema") + 1]) == SCHEMA
    assert second[second.index("--resume") + 1] == SESSION
    assert '- n: "x" is not of type "integer"' in complaint


def test_an_answer_that_stays_wrong_fails_and_is_kept(claude: Any) -> None:
    result, asked = claude({"result": "no idea"}, schema=SCHEMA, schema_repairs=2)
    assert (result.status, result.error_kind) == (TaskStatus.FAILED, ErrorKind.INVALID_ANSWER)
    assert result.error == "the answer is not valid by its schema: has no JSON in it"
    assert (result.output, result.data, result.exit_code) == ("no idea", None, 1)
    assert (len(asked), result.repairs, result.cost_usd) == (3, 2, 0.75)


def test_work_that_fails_its_verification_is_mended_and_verified_again(
    claude: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `verify` leaves is in no patch, whatever the rounds."""
    top = repository(tmp_path / "repo", {"a.txt": "a\n"})
    monkeypatch.setenv("ANTHROPIC_CODE", "open('a.txt', 'a').write(f'{number}\\n')")
    verify = "echo trace >> cache; grep -q 2 a.txt || { echo there is no 2; exit 3; }"
    result, asked = claude(
        {"result": "done"},
        workspace="worktree",
        workdir=str(top),
        verify=["/bin/sh", "-c", verify],
        verify_retries=1,
    )
    assert (result.status, result.error) == (TaskStatus.OK, None)
    assert result.verify.to_dict() == {"exit_code": 0, "output": ""}
    assert result.changes.changed_files == ["a.txt"]
    assert "+1\n+2\n" in result.changes.patch
    assert "there is no 2" in asked[1][1]
    assert f"verify it: {verify}\nIt exited with 3" in asked[1][1]


def test_work_that_does_not_pass_has_failed_with_its_last_lines(claude: Any) -> None:
    verify = [sys.executable, "-c", "import sys; print('1 failed'); sys.exit(1)"]
    result, asked = claude({"result": '{"n": 1}'}, schema=SCHEMA, verify=verify)
    assert (result.status, result.error_kind) == (TaskStatus.FAILED, ErrorKind.VERIFY_FAILED)
    assert result.error == "verify failed (1): 1 failed"
    assert (result.output, result.data, result.exit_code) == ('{"n": 1}', {"n": 1}, 1)
    assert (result.verify.exit_code, result.verify.output, len(asked)) == (1, "1 failed", 1)


def test_verification_is_in_the_sandbox_of_the_task(claude: Any, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    line = f"echo x > inside && ! test -e {tmp_path}/secret && echo kept"
    verify = ["/bin/sh", "-c", line]
    fields = {"verify": verify, "workdir": str(tmp_path / "work"), "sandbox_mode": "workspace"}
    result, _ = claude({"result": "done"}, **fields)
    assert (result.status, result.verify.exit_code) == (TaskStatus.OK, 0), result
    assert result.verify.output == "kept"
    assert (tmp_path / "work" / "inside").exists()


def test_a_schema_that_keeps_a_validator_busy_costs_its_task_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(answer_check, "CPU_SECONDS", 1)
    twice = {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(40)}
    schema = {"$defs": {**twice, "a40": {"type": "string"}}, "$ref": "#/$defs/a0"}
    data, problems = answer_check.check('"x"', schema)
    assert (data, len(problems)) == (None, 1)
    assert problems[0].startswith("cannot be validated in ")
