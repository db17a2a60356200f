"""One task from its stored spec to its result; every way to fail is a result."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis

from clinvk.broker.dispatcher import Dispatcher
from clinvk.core.spec import ErrorKind, TaskResult, TaskSpec, TaskStatus
from clinvk.core.worker_config import WorkerConfig
from clinvk.store.types import Claim, Lease
from tests.unit.git.checkouts import git, repository
from workers.execution.executor import Executor
from workers.execution.stop_signal import StopSignal
from workers.observers import Observers, TaskStep, WorkerEvent


@pytest.fixture
def execute(tmp_path: Path):  # type: ignore[no-untyped-def]
    def run(
        spec: TaskSpec | bytes | None,
        code: str = "",
        stop: StopSignal | None = None,
        earlier: Sequence[TaskResult | None] = (),
        **config: Any,
    ) -> TaskResult | None:
        backends = {"py": {"command": [sys.executable, "-c", code]}, "gone": {"command": ["/gone"]}}
        worker = WorkerConfig(backends=backends, spill_dir=str(tmp_path / "spill"), **config)
        # A run of this test's own: what a task leaves behind is found by the name of its lease.
        lease = Lease(f"{tmp_path.name}-{os.getpid()}", 3, 2)
        wire = spec.to_wire() if isinstance(spec, TaskSpec) else spec
        with stop or StopSignal() as signal:
            ended = Executor(worker, "w@h", "w@h/1").execute(
                lease,
                Claim("go", wire, attempts=2),
                signal,
                lambda indexes: map(earlier.__getitem__, indexes),
            )
        return ended.result if ended else None

    return run


def py(**fields: Any) -> TaskSpec:
    return TaskSpec(backend="py", prompt="x", **fields)


def test_what_a_result_tells(execute: Any) -> None:
    result = execute(py(), "print('fine')")
    assert (result.index, result.attempts, result.worker) == (3, 2, "w@h")
    assert (result.status, result.exit_code, result.output) == (TaskStatus.OK, 0, "fine")
    assert result.start_time <= result.end_time
    assert result.start_time.endswith("Z")


@pytest.mark.parametrize(
    ("spec", "kind", "error"),
    [
        (b"no json", ErrorKind.INVALID, "cannot decode a TaskSpec: "),
        (
            b'{"v":99,"backend":"py"}',
            ErrorKind.INVALID,
            "cannot decode a TaskSpec: it is of wire version 99, ",
        ),
        (b'{"v":1,"prompt":"x"}', ErrorKind.INVALID, "cannot decode a TaskSpec: "),
        (
            b'{"v":1,"backend":"py","prompt":"x","timeout_seconds":"x"}',
            ErrorKind.INVALID,
            "cannot decode a TaskSpec: timeout_seconds must be a number",
        ),
        (
            b'{"v":1,"backend":"py","prompt":"x","timeout_seconds":NaN}',
            ErrorKind.INVALID,
            "cannot decode a TaskSpec: timeout_seconds must be a finite number",
        ),
        (
            b'{"v":1,"backend":"py","prompt":"x","extra":["\\ud800"]}',
            ErrorKind.INVALID,
            "cannot start py: ",
        ),
        (b" " * ((1 << 27) + 1), ErrorKind.TOO_LARGE, "the task has 134217729 bytes"),
        (None, ErrorKind.INVALID, "the task's spec is no longer there"),
        (
            TaskSpec(backend="nope", prompt="x"),
            ErrorKind.INVALID,
            'worker w@h has no backend "nope" (it has claude, codex, copilot, echo, ',
        ),
        (
            TaskSpec(backend="gone", prompt="x"),
            ErrorKind.NOT_INSTALLED,
            "/gone is not installed on worker w@h: ",
        ),
        (py(workdir="/no/where"), ErrorKind.INVALID, "workdir /no/where does not exist on worker"),
        (
            py(workdir="/etc/hostname"),
            ErrorKind.INVALID,
            "workdir /etc/hostname is not a directory",
        ),
        (py(workdir="~nosuchuser/x"), ErrorKind.INVALID, "workdir ~nosuchuser/x cannot be found"),
        (py(workdir="a\0b"), ErrorKind.INVALID, "workdir a\0b is not a path (embedded null byte)"),
        (py(extra=["a\0b"]), ErrorKind.INVALID, "cannot start py: embedded null byte"),
        (py(extra=["x" * 3_000_000]), ErrorKind.TOO_LARGE, "cannot start "),
    ],
)
def test_what_cannot_be_started(
    execute: Any, spec: TaskSpec | bytes | None, kind: ErrorKind, error: str
) -> None:
    result = execute(spec)
    assert (result.status, result.error_kind, result.exit_code) == (TaskStatus.FAILED, kind, -1)
    assert result.error.startswith(error)


def test_a_timeout_counts_more_than_what_the_command_says(execute: Any) -> None:
    code = "import signal, sys, time\nsignal.signal(15, lambda *_: sys.exit(0))\n"
    code += "print('an answer', flush=True)\ntime.sleep(600)"
    result = execute(py(timeout_seconds=1), code)
    assert (result.status, result.error_kind) == (TaskStatus.TIMEOUT, ErrorKind.TIMEOUT)
    assert (result.exit_code, result.output) == (-1, None)
    assert result.error == "stopped after 1 s"


def test_a_task_canceled_before_its_start_is_not_started(execute: Any, tmp_path: Path) -> None:
    stop = StopSignal()
    stop.set("canceled")
    result = execute(py(), f"open({str(tmp_path / 'ran')!r}, 'w')", stop=stop)
    assert (result.status, result.exit_code) == (TaskStatus.CANCELED, -1)
    assert not (tmp_path / "ran").exists()


def test_a_worker_that_was_cut_off_has_no_result(execute: Any) -> None:
    stop = StopSignal()
    stop.set("disconnected")
    assert execute(py(), stop=stop) is None


def test_output_over_the_limit_is_cut_and_kept_whole_in_a_file(execute: Any) -> None:
    result = execute(py(), "print('é' * 3000)", output_bytes=1024)
    assert len(result.output.encode()) <= 1024
    assert set(result.output) <= {"é", "\ufffd"}
    assert Path(result.output_file).read_text() == "é" * 3000 + "\n"
    (warning,) = result.warnings
    assert warning == (
        "the output of 6001 bytes is over the limit of 1024: "
        f"all of it is in {result.output_file} on w@h"
    )


def test_what_a_command_leaves_running_is_a_warning(execute: Any) -> None:
    result = execute(py(), "import subprocess; subprocess.Popen(['sleep', '600'])")
    assert result.status is TaskStatus.OK
    assert result.warnings == ["py left processes running; they were stopped"]


def test_death_by_signal(execute: Any) -> None:
    result = execute(py(), "import os; os.kill(os.getpid(), 11)")
    assert (result.exit_code, result.error) == (-11, "ended by signal 11 without an answer")


SAY_STDIN = "import sys; sys.stdout.write(sys.stdin.read())"


def said(index: int, output: str | None, status: TaskStatus = TaskStatus.OK) -> TaskResult:
    return TaskResult(index=index, status=status, exit_code=0, duration_seconds=0, output=output)


def step(prompt: str, **inputs: int) -> TaskSpec:
    return TaskSpec(
        backend="py", prompt=prompt, inputs={f"{{{{{k}}}}}": v for k, v in inputs.items()}
    )


def test_outputs_of_earlier_steps_are_put_into_the_prompt(execute: Any) -> None:
    earlier = [said(0, "first {{b}}"), None, said(2, "third")]
    result = execute(step("{{a}}+{{b}}+{{a}}", a=0, b=2), SAY_STDIN, earlier=earlier)
    assert result.output == "first {{b}}+third+first {{b}}"
    assert result.warnings == []


@pytest.mark.parametrize(
    ("before", "output", "warning"),
    [
        (said(0, None, TaskStatus.FAILED), "x", "step 1 ended as failed, its output is empty"),
        (
            said(0, "some", TaskStatus.TIMEOUT),
            "xsome",
            "step 1 ended as timeout, its output is not complete",
        ),
        (None, "x", "step 1 has no result, its output is empty"),
    ],
)
def test_the_output_of_a_step_that_is_not_ok_is_a_warning(
    execute: Any, before: TaskResult | None, output: str, warning: str
) -> None:
    result = execute(step("x{{a}}", a=0), SAY_STDIN, earlier=[before])
    assert (result.output, result.warnings) == (output, [f"{{{{a}}}}: {warning}"])


def test_a_prompt_of_which_nothing_is_left_is_not_sent(execute: Any) -> None:
    result = execute(step(" {{a}}", a=0), SAY_STDIN, earlier=[said(0, None, TaskStatus.FAILED)])
    assert (result.error_kind, result.error) == (
        ErrorKind.INVALID,
        "the prompt is blank without {{a}}",
    )


def test_a_few_placeholders_cannot_fill_the_memory(execute: Any) -> None:
    earlier = [said(0, "x" * (1 << 20))]
    result = execute(step("{{a}}" * 100, a=0), SAY_STDIN, earlier=earlier)
    assert (result.error_kind, result.exit_code) == (ErrorKind.TOO_LARGE, -1)
    assert result.error == "the outputs of earlier steps are 104857600 characters in the prompt"


def test_redis_is_waited_for_when_outputs_are_read() -> None:
    class Flaky:
        answers: Iterator[Any] = iter(
            [redis.ConnectionError("gone"), redis.TimeoutError("slow"), [said(0, "a")]]
        )

        def results(self, run: str, indexes: Sequence[int]) -> Iterator[TaskResult]:
            answer = next(self.answers)
            if isinstance(answer, Exception):
                raise answer
            yield from answer

    patient = Dispatcher(str, Flaky(), patience_seconds=60)  # type: ignore[arg-type]
    assert patient.results("r", [0]) == [said(0, "a")]


def test_what_is_refused_is_a_result_that_names_the_rule(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(
        f"max_sandbox_mode: workspace\nbackends: [py, claude]\nworkdir_roots: [{tmp_path}]"
    )
    config = WorkerConfig(
        policy_file=str(path), backends={"py": {"command": [sys.executable, "-c", "print(1)"]}}
    )
    executor = Executor(config, "w@h", "w@h/1")

    def run(task: TaskSpec) -> tuple[Any, Any, Any]:
        with StopSignal() as stop:
            lease = Lease(tmp_path.name, 0, 1)
            ended = executor.execute(lease, Claim("go", task.to_wire()), stop, lambda _: [])
        assert ended is not None
        return ended.result.error_kind, ended.result.exit_code, ended.result.error

    assert run(TaskSpec(backend="py", prompt="x", workdir=str(tmp_path))) == (None, 0, None)
    assert run(
        TaskSpec(backend="claude", prompt="x", sandbox_mode="full", workdir=str(tmp_path))
    ) == (
        ErrorKind.REFUSED,
        -1,
        'refused by the policy of worker w@h: max_sandbox_mode: "full" is over "workspace"',
    )
    kind, _, error = run(TaskSpec(backend="py", prompt="x", workdir="/"))
    assert kind is ErrorKind.REFUSED
    assert "workdir_roots: / is below none of" in error


def test_a_task_without_a_time_limit_has_that_of_the_policy(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("max_timeout_seconds: 0.2")
    config = WorkerConfig(policy_file=str(path), backends={"py": {"command": ["sleep", "600"]}})
    with StopSignal() as stop:
        claim = Claim("go", TaskSpec(backend="py", prompt="x").to_wire())
        executor = Executor(config, "w@h", "w@h/1")
        ended = executor.execute(Lease(tmp_path.name, 0, 1), claim, stop, lambda _: [])
    assert ended is not None
    assert (ended.result.status, ended.result.error) == (TaskStatus.TIMEOUT, "stopped after 0.2 s")


MISSES_ITS_KEY = """
import os, sys
sys.exit("key " + os.environ["MYTOOL_API_KEY"] if "MYTOOL_API_KEY" in os.environ else
         "MYTOOL_API_KEY is not set")
"""


def test_a_cli_that_misses_its_key_is_told_how_it_gets_it(
    execute: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MYTOOL_API_KEY", "abc")
    result = execute(py(), MISSES_ITS_KEY)
    assert result.error == "MYTOOL_API_KEY is not set"
    assert result.warnings == [
        (
            "MYTOOL_API_KEY is set on worker w@h but not passed to py: "
            "if it needs the variable, name it in backends.py.pass_env there"
        )
    ]
    result = execute(py(), MISSES_ITS_KEY, environments={"py": {"pass_env": ["MYTOOL_*"]}})
    assert (result.error, result.warnings) == ("key abc", [])


def test_a_task_that_says_nothing_for_too_long_is_stopped(execute: Any) -> None:
    result = execute(py(stall_timeout_seconds=0.5), "import time; time.sleep(600)")
    assert (result.status, result.error_kind) == (TaskStatus.TIMEOUT, ErrorKind.TIMEOUT)
    assert (result.exit_code, result.error) == (-1, "no output for 0.5 s")


KEY = "sk-ant-0123456789"
HANGS_IN_A_TOOL = """#!/bin/sh
say() { echo '{"type":"assistant","message":{"content":['"$1"']}}'; }
echo '{"type":"system","subtype":"init"}'
say '{"type":"text","text":"the key is '"$ANTHROPIC_API_KEY"'"}'
say '{"type":"tool_use","name":"Bash","input":{"command":"pytest -q '"$ANTHROPIC_API_KEY"'"}}'
trap 'say '"'"'{"type":"text","text":"and one thing more"}'"'"'; exit' TERM
sleep 600 &
wait
"""


@pytest.fixture
def claude(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in the place of a CLI whose backend knows steps; it says its key."""
    program = tmp_path / "bin" / "claude"
    program.parent.mkdir()
    program.write_text(HANGS_IN_A_TOOL)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    return program


class Steps:
    """An observer of steps."""

    def __init__(self) -> None:
        self.events: list[TaskStep] = []

    def saw(self, event: WorkerEvent) -> None:
        if isinstance(event, TaskStep):
            self.events.append(event)


def run_claude(spec: TaskSpec, tmp_path: Path, *observers: Any, **config: Any) -> TaskResult:
    worker = WorkerConfig(spill_dir=str(tmp_path / "spill"), **config)
    lease = Lease(f"{tmp_path.name}-{os.getpid()}", 0, 1)
    with StopSignal() as stop:
        executor = Executor(worker, "w@h", "w@h/1", Observers(observers))
        ended = executor.execute(lease, Claim("go", spec.to_wire(), attempts=2), stop, lambda _: [])
    assert ended is not None
    return ended.result


def test_a_stall_names_the_last_step_and_no_key(claude: Path, tmp_path: Path) -> None:
    spec = TaskSpec(backend="claude", prompt="x", stall_timeout_seconds=3, steps="full")
    result = run_claude(spec, tmp_path, steps := Steps())
    assert result.error == "no output for 3 s (last: Bash pytest -q ***)"
    assert (result.status, result.acted) == (TaskStatus.TIMEOUT, True)
    assert [(e.attempt, e.step.kind, e.step.text) for e in steps.events] == [
        (2, "event", ""),
        (2, "message", "the key is ***"),
        (2, "tool_call", "Bash pytest -q ***"),
        (2, "message", "and one thing more"),  # as it was stopped
    ]
    assert [json.loads(event.raw or "")["type"] for event in steps.events] == [
        "system",
        "assistant",
        "assistant",
        "assistant",
    ]
    assert KEY not in repr(steps.events)


def test_steps_are_told_while_the_command_runs(claude: Path, tmp_path: Path) -> None:
    waits = 'echo \'{"type":"result","is_error":false,"num_turns":1,"result":"done"}\''
    program = HANGS_IN_A_TOOL.replace("sleep 600 &\nwait", f"read -r _ <{tmp_path}/fifo\n{waits}")
    claude.write_text(program)
    os.mkfifo(tmp_path / "fifo")

    class Answer:
        def saw(self, event: WorkerEvent) -> None:
            if isinstance(event, TaskStep) and event.step.tool == "Bash":
                (tmp_path / "fifo").write_text("go on\n")

    result = run_claude(
        TaskSpec(backend="claude", prompt="x", timeout_seconds=60), tmp_path, Answer()
    )
    assert (result.error, result.output) == (None, "done")


TELLS_ALL = "import os, sys; s = os.environ['SECRET']; print(s, {'a': s}); "


def test_secrets_are_in_no_part_of_a_result(execute: Any) -> None:
    env = {"environments": {"py": {"env": {"SECRET": "not to be seen", "MODE": "fast"}}}}
    result = execute(py(), TELLS_ALL, **env)
    assert result.output == "*** {'a': '***'}"
    result = execute(py(), f"{TELLS_ALL} sys.exit('bad ' + s)", **env)
    assert (result.error, result.output) == ("bad ***", None)
    result = execute(py(), "print('x' * 1020 + 'not to be seen fast')", output_bytes=1034, **env)
    assert result.output == "x" * 1020 + "***"
    (warning,) = result.warnings
    assert "over the limit" in warning
    result = execute(py(), f"{TELLS_ALL} print('x' * 1014, end='')", output_bytes=1024, **env)
    assert "not to be seen" not in result.output
    result = execute(py(extra=["not to be seen\0"]), **env)
    assert "not to be seen" not in str(result.error)


def test_a_secret_of_the_output_is_masked_before_it_is_cut(execute: Any) -> None:
    env = {"environments": {"py": {"env": {"SECRET": "0123456789abcdef"}}}}
    code = "import os; print('x' * 1014 + os.environ['SECRET'])"
    result = execute(py(), code, output_bytes=1024, **env)
    assert result.output == "x" * 1014 + "***"


def test_a_backend_with_a_bug_costs_its_steps_only(
    claude: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = '{"type":"result","is_error":false,"num_turns":1,"result":"done"}'
    claude.write_text(f"#!/bin/sh\necho '{{\"type\":\"assistant\"}}'\necho '{answer}'\n")
    from clinvk.backends import claude as module

    def broken(self: Any, event: Any) -> Any:
        raise KeyError("a bug")

    monkeypatch.setattr(module._Reader, "_assistant", broken)
    result = run_claude(TaskSpec(backend="claude", prompt="x"), tmp_path)
    assert (result.output, result.error_kind) == ("done", None)
    assert result.warnings == ["clinvk could not read 1 line of the output of claude"]


@pytest.fixture
def in_worktree(execute: Any, tmp_path: Path):  # type: ignore[no-untyped-def]
    """Run code in a worktree of a repository; returns the result and what is left of worktrees."""
    top = repository(tmp_path / "repo", {"README": "read me\n", "src/a.py": "a\n"})
    place = tmp_path / "worktrees"

    def run(code: str, config: dict[str, Any] | None = None, **fields: Any) -> TaskResult:
        spec = py(workspace="worktree", **{"workdir": str(top / "src"), **fields})
        result: TaskResult = execute(spec, code, worktrees_dir=str(place), **(config or {}))
        assert git(top, "status", "--porcelain") == ""
        return result

    return run


APPEND = "open('a.py', 'a').write('b\\n'); import os; print(os.getcwd())"


def test_a_task_in_a_worktree_has_its_changes_in_its_result(
    in_worktree: Any, tmp_path: Path
) -> None:
    result = in_worktree(APPEND, setup="echo 1 > installed")
    assert result.status is TaskStatus.OK, result.error
    assert result.output.startswith(f"{tmp_path}/worktrees/")
    assert result.output.endswith("/work/repo/src")
    assert result.changes.changed_files == ["src/a.py"]
    assert result.changes.base == git(tmp_path / "repo", "rev-parse", "HEAD")
    assert TaskResult.from_wire(result.to_wire()) == result


@pytest.mark.parametrize("mode", ["workspace", "read-only"])
def test_a_worktree_in_a_sandbox(in_worktree: Any, mode: str, tmp_path: Path) -> None:
    code = "import subprocess; print(subprocess.run(['git', 'log', '-1', '--format=%s'], "
    code += "cwd='.', capture_output=True, text=True).stdout or 'none')\n"
    code += "import contextlib\nwith contextlib.suppress(OSError): open('README', 'w').write('x')"
    result = in_worktree(code, sandbox_mode=mode, workdir=str(tmp_path / "repo"))
    assert result.status is TaskStatus.OK, result.error
    assert result.sandbox.mode == mode
    assert result.output == "first"
    assert result.changes.changed_files == (["README"] if mode == "workspace" else [])


def test_a_setup_that_fails_is_the_tasks_failure(in_worktree: Any) -> None:
    result = in_worktree(APPEND, setup="echo no network >&2; exit 3")
    assert (result.status, result.error_kind) == (TaskStatus.FAILED, ErrorKind.FAILED)
    assert result.error == "setup failed (3): no network"
    assert result.exit_code == -1


def test_a_setup_that_takes_too_long_is_stopped(in_worktree: Any) -> None:
    result = in_worktree(APPEND, setup="sleep 60", setup_timeout_seconds=0.2)
    assert (result.status, result.error) == (TaskStatus.TIMEOUT, "setup was stopped after 0.2 s")


def test_a_task_that_fails_has_changes_too(in_worktree: Any) -> None:
    result = in_worktree("open('a.py', 'w').write('x'); raise SystemExit(3)")
    assert result.status is TaskStatus.FAILED
    assert result.changes.changed_files == ["src/a.py"]


def test_changes_that_are_too_large_fail_the_task(in_worktree: Any, tmp_path: Path) -> None:
    code = "import os; open('big', 'wb').write(os.urandom(9000)); print('done')"
    result = in_worktree(code, {"changes_bytes": 1000})
    assert (result.status, result.error_kind) == (TaskStatus.FAILED, ErrorKind.TOO_LARGE)
    assert "its changes cannot be recorded (" in result.error
    kept = result.error.split(" are in ")[1].removesuffix(" on worker w@h")
    assert (Path(kept) / "src" / "big").stat().st_size == 9000


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"workdir": "/", "workspace": "worktree"}, "workdir / is in no git repository"),
        ({"setup": "make"}, "setup needs workspace: worktree"),
        ({"ref": "main"}, "ref needs workspace: worktree"),
    ],
)
def test_what_has_no_worktree_is_refused(
    execute: Any, fields: dict[str, Any], problem: str
) -> None:
    result = execute(py(**fields))
    assert result.error_kind is ErrorKind.INVALID
    assert result.error.startswith(problem)
