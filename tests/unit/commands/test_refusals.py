"""What is refused, in one clear line each, with a stable exit code and nothing on stdout."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.unit.commands.known import KNOWN
from tests.unit.fake_fleet import Clinvk, FakeFleet


def task(**fields: object) -> str:
    return json.dumps({"tasks": [{"backend": "echo", "prompt": "x"} | fields]})


@pytest.mark.parametrize(
    ("content", "stderr"),
    [
        ("", "<stdin>: is empty\n"),
        ('{"tasks": []}', "<stdin>: has no tasks\n"),
        ("[]", "<stdin>: has no tasks\n"),
        (
            '{"tasks": [{"backend": "ec',
            (
                "<stdin>: is not valid JSON: Unterminated string starting at line 1, column 24"
                " (is the file truncated?)\n"
            ),
        ),
        (
            '{"tasks": [}]}',
            "<stdin>: is not valid JSON: Expecting value at line 1, column 12\n",
        ),
        (b'{"tasks": "\xff"}', "<stdin>: is not UTF-8 text (byte 11); save it as UTF-8\n"),
        ('{"tasks": 3}', "<stdin>: tasks: must be a list (got 3)\n"),
        ('{"steps": []}', "<stdin>: has steps, not tasks: run it with clinvk chain\n"),
        ("12", '<stdin>: must be an object with a list of "tasks" (got 12)\n'),
        ("[" * 100_000, "<stdin>: is nested too deeply\n"),
        ("[3]", "<stdin>: [0]: must be an object (got 3)\n"),
        (
            '{"backend": "echo", "prompt": "x"}\n{"backend": "echo"\n{"backend": "echo"}\n',
            (
                "<stdin>: line 2: is not valid JSON: Expecting ',' delimiter at column 19\n"
                "<stdin>: line 3: prompt: is required\n"
            ),
        ),
        (
            '{"tasks": [{"backend": "echo", "prompt": "x", "prompt": "y"}]}',
            '<stdin>: duplicate key in object: "prompt"\n',
        ),
        (
            '{"tasks": [{"backend": "echo", "prompt": "x", "timeout_seconds": NaN}]}',
            "<stdin>: NaN is not valid in JSON\n",
        ),
        (
            task(backend="echoo"),
            f'<stdin>: tasks[0].backend: unknown backend "echoo", did you mean "echo"? ({KNOWN})\n',
        ),
        (task(prompt=" \n"), '<stdin>: tasks[0].prompt: must not be blank (got " \\n")\n'),
        (task(max_turns=0), "<stdin>: tasks[0].max_turns: must be >= 1 (got 0)\n"),
        (task(max_turns=True), "<stdin>: tasks[0].max_turns: must be an integer (got true)\n"),
        (task(timeout_seconds=0), "<stdin>: tasks[0].timeout_seconds: must be > 0 (got 0)\n"),
        (
            task(stall_timeout_seconds=-1),
            "<stdin>: tasks[0].stall_timeout_seconds: must be > 0 (got -1)\n",
        ),
        (
            task(approval_mode="always-ask"),
            (
                "<stdin>: tasks[0].approval_mode: must be one of "
                "'default', 'auto', 'none', 'always' (got \"always-ask\")\n"
            ),
        ),
        (
            task(modle="x"),
            '<stdin>: tasks[0].modle: unknown field, did you mean "model"?\n',
        ),
        (task(tags=["a", 1]), "<stdin>: tasks[0].tags[1]: must be a string (got 1)\n"),
        (task(meta={"a": 1}), "<stdin>: tasks[0].meta.a: must be a string (got 1)\n"),
        (task(extra=["a\0b"]), "<stdin>: tasks[0].extra: must not contain a NUL character\n"),
        (task(prompt="\ud800"), "<stdin>: tasks[0].prompt: has an unpaired surrogate\n"),
        (
            (
                '{"tasks": [{"backend": "echo", "prompt": "x", "id": "a"},'
                ' {"backend": "echo", "prompt": "x", "id": "a"}]}'
            ),
            '<stdin>: tasks[1]: id "a" is already used by tasks[0]\n',
        ),
        (
            '{"tasks": [{"backend": "echo", "prompt": "x"}], "max_parallel": 0, "fail_fsat": 1}',
            (
                "<stdin>: max_parallel: must be >= 1 (got 0)\n"
                '<stdin>: fail_fsat: unknown field, did you mean "fail_fast"?\n'
            ),
        ),
        (
            "tasks:\n  - {backend: echo, prompt: x\n",
            "<stdin>: is not valid YAML: did not find expected ',' or '}' at line 3, column 1\n",
        ),
        (
            "tasks:\n  - backend: echo\n    prompt: 2026-01-02\n",
            "<stdin>: tasks[0]: has a value that JSON cannot represent: 2026-01-02\n",
        ),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_bad_task_files(clinvk: Clinvk, fake: FakeFleet, content: str | bytes, stderr: str) -> None:
    ended = clinvk("parallel", stdin=content)
    assert (ended.stderr, ended.stdout, ended.status) == (stderr, "", 2)
    assert fake.connected_to == "not connected"


def test_all_that_is_wrong_is_said_at_once(clinvk: Clinvk, tmp_path: Path) -> None:
    tasks = [{"backend": "echo", "prompt": "x"}] * 4 + [
        {"backend": "nope", "max_turns": 0, "model": 3}
    ]
    (tmp_path / "tasks.json").write_text(json.dumps({"tasks": tasks}))
    ended = clinvk("parallel", "--file", "tasks.json")
    assert sorted(ended.stderr.splitlines()) == [
        f'tasks.json: tasks[4].backend: unknown backend "nope" ({KNOWN})',
        "tasks.json: tasks[4].max_turns: must be >= 1 (got 0)",
        "tasks.json: tasks[4].model: must be a string (got 3)",
        "tasks.json: tasks[4].prompt: is required",
    ]


@pytest.mark.parametrize(
    ("path", "stderr"),
    [
        ("no.json", "no.json: no such file\n"),
        (".", ".: is a directory, not a task file\n"),
    ],
)
def test_files_that_cannot_be_read(clinvk: Clinvk, path: str, stderr: str) -> None:
    ended = clinvk("parallel", "--file", path)
    assert (ended.stderr, ended.stdout, ended.status) == (stderr, "", 2)


def test_a_terminal_is_not_waited_for(clinvk: Clinvk) -> None:
    ended = clinvk("parallel", stdin=None)
    assert ended.status == 2
    assert ended.stderr == ("no task file: give one with --file, or pipe one to standard input\n")


def test_a_disabled_backend_is_refused(clinvk: Clinvk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLINVK_BACKENDS_ECHO_ENABLED", "no")
    ended = clinvk("parallel", stdin=task())
    assert ended.stderr == (
        '<stdin>: tasks[0].backend: backend "echo" is disabled in the configuration '
        "(backends.echo.enabled)\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("parallel", "--max-parallel", "0"), "0 is not in the range x>=1"),
        (("parallel", "--no-such-flag"), "No such option '--no-such-flag'"),
        (("paralel",), "No such command 'paralel'"),
    ],
)
def test_bad_usage(clinvk: Clinvk, arguments: tuple[str, ...], message: str) -> None:
    ended = clinvk(*arguments)
    assert (ended.stdout, ended.status) == ("", 2)
    assert message in ended.stderr


CONFIG = "config.yaml"


@pytest.mark.parametrize(
    ("content", "stderr"),
    [
        (
            "unified_flags: {max_turns: -1}",
            "config.yaml: unified_flags.max_turns: must be >= 0 (got -1)\n",
        ),
        (
            "paralel: {}\nparallel: {max_workers: '3', fail_fast: 1}",
            (
                'config.yaml: parallel.max_workers: must be an integer (got "3")\n'
                "config.yaml: parallel.fail_fast: must be true or false (got 1)\n"
                'config.yaml: paralel: unknown setting, did you mean "parallel"?\n'
            ),
        ),
        (
            "backends: {claude: {modle: x}, gemni: {model: y}}",
            'config.yaml: backends.claude.modle: unknown setting, did you mean "model"?\n',
        ),
        (
            "backends: {gemni: {model: y}}",
            (
                'config.yaml: backends.gemni: unknown backend, did you mean "gemini"? '
                "(a new backend needs a command, or like)\n"
            ),
        ),
        (
            "queues: {claude: {rate: often}}",
            (
                'config.yaml: queues.claude.rate: must be like "50/min" (a number per s, min or h)'
                ' (got "often")\n'
            ),
        ),
        ("[1, 2]", "config.yaml: must be a mapping of settings\n"),
        (
            "a: [1",
            (
                "config.yaml: is not valid YAML: did not find expected ',' or ']'"
                " at line 2, column 1\n"
            ),
        ),
    ],
)
def test_bad_configuration_is_exit_3(
    clinvk: Clinvk, tmp_path: Path, content: str, stderr: str
) -> None:
    (tmp_path / CONFIG).write_text(content)
    for command in (("parallel",), ("config", "show")):
        ended = clinvk(*command, "--config", CONFIG)
        assert (ended.stderr, ended.stdout, ended.status) == (stderr, "", 3)


def test_a_configuration_file_that_was_named_must_be_there(clinvk: Clinvk) -> None:
    ended = clinvk("parallel", "--config", CONFIG)
    assert (ended.stderr, ended.status) == ("config.yaml: no such file\n", 3)


@pytest.mark.parametrize(
    ("name", "value", "stderr"),
    [
        (
            "CLINVK_PARALLEL_MAX_WORKERS",
            "many",
            'CLINVK_PARALLEL_MAX_WORKERS: must be an integer (got "many")\n',
        ),
        (
            "CLINVK_PARALLEL_FAIL_FAST",
            "perhaps",
            'CLINVK_PARALLEL_FAIL_FAST: must be true or false (got "perhaps")\n',
        ),
        (
            "CLINVK_UNIFIED_FLAGS_MAX_TRUNS",
            "3",
            (
                "CLINVK_UNIFIED_FLAGS_MAX_TRUNS: unknown setting, "
                'did you mean "CLINVK_UNIFIED_FLAGS_MAX_TURNS"?\n'
            ),
        ),
    ],
)
def test_bad_variables_are_exit_3(
    clinvk: Clinvk, monkeypatch: pytest.MonkeyPatch, name: str, value: str, stderr: str
) -> None:
    monkeypatch.setenv(name, value)
    ended = clinvk("parallel")
    assert (ended.stderr, ended.status) == (stderr, 3)


def test_what_nobody_thought_of_is_one_line_without_a_traceback(
    clinvk: Clinvk, fake: FakeFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake, "submit", lambda *_: 1 / 0)
    ended = clinvk("parallel", stdin=task())
    assert ended.status == 1
    assert ended.stderr == (
        "clinvk: unexpected ZeroDivisionError: division by zero "
        "(set CLINVK_DEBUG=1 for the traceback)\n"
    )


def test_what_is_quoted_from_a_task_file_cannot_drive_the_terminal(clinvk: Clinvk) -> None:
    task = {"backend": "\x1b[2Jechoo\n", "prompt": "x", "mod\x1b]0;t\x07el\nx": "y"}
    ended = clinvk("parallel", stdin=json.dumps([task]))
    assert ended.status == 2
    assert ended.stderr == (
        "<stdin>: [0].model x: unknown field\n"
        f'<stdin>: [0].backend: unknown backend "echoo " ({KNOWN})\n'
    )


@pytest.mark.parametrize(
    ("arguments", "env", "status", "said"),
    [
        (("--config", "~nobodyhere/c"), {}, 3, "~nobodyhere/c: there is no user nobodyhere"),
        ((), {"CLINVK_CONFIG": "~nobodyhere/c"}, 3, "~nobodyhere/c: there is no user nobodyhere"),
        (("--output-dir", "~nobodyhere/o"), {}, 2, "output_dir: ~nobodyhere/o: there is no user"),
        ((), {"CLINVK_LIMITS_SPILL_DIR": "~nobodyhere/s"}, 3, "CLINVK_LIMITS_SPILL_DIR: "),
        ((), {"CLINVK_LOCAL_SERVER": "~nobodyhere/s"}, 3, "CLINVK_LOCAL_SERVER: "),
        ((), {"CLINVK_WORKER_POLICY": "~nobodyhere/p"}, 3, "CLINVK_WORKER_POLICY: "),
        ((), {"CLINVK_OUTPUT_DIR": "~nobodyhere/p"}, 3, "CLINVK_OUTPUT_DIR: "),
    ],
)
def test_the_home_of_nobody_is_one_clear_line(
    clinvk: Clinvk,
    fake: FakeFleet,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    env: Mapping[str, str],
    status: int,
    said: str,
) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    done = clinvk("parallel", *arguments, stdin=task())
    assert (done.status, done.stdout) == (status, "")
    assert said in done.stderr
    assert "nobodyhere" in done.stderr
    assert done.stderr.count("\n") == 1
