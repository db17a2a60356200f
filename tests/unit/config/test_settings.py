"""The configuration file and its variables: what is refused, where, and in which words.

(`tests/unit/config/test_precedence.py` has the precedence of each setting.)
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from clinvk.config import settings
from clinvk.core.errors import ConfigError
from clinvk.core.spec import TaskSpec
from clinvk.output import config as render
from clinvk.output.documents import dump
from tests.unit.commands.known import KNOWN

URL = "must be a URL like redis://host:6379/0, rediss://… or redis+socket:///path"
PORT = "must have a number as its port (percent-encode / : @ in a password)"
TOOLS = 'must be "all" or a list of strings'
FILE_ONLY = "cannot be set by a variable: set backends.claude.env in the configuration file"
WAIT = 'must be a number of seconds, or like "30s", "15m", "6h", "7d", or "none"'
NAME = "must consist of letters and digits, with . _ - between them"


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)

    def load(text: str, **environment: str) -> settings.Settings:
        Path("c.yaml").write_text(text)
        return settings.load("c.yaml", environment)

    return load


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("[1]", ["must be a mapping of settings"]),
        ("3: 4", ["3: unknown setting"]),
        ("parallel: 3", ["parallel: must be a mapping (got 3)"]),
        ("paralel: {}", ['paralel: unknown setting, did you mean "parallel"?']),
        ("parallel: {max_workers: 0}", ["parallel.max_workers: must be >= 1 (got 0)"]),
        ("parallel: {max_workers: '3'}", ['parallel.max_workers: must be an integer (got "3")']),
        ("parallel: {fail_fast: 1}", ["parallel.fail_fast: must be true or false (got 1)"]),
        (
            "unified_flags: {max_turns: -1, sandbox_mod: full, command_timeout_secs: .inf}",
            [
                "unified_flags.max_turns: must be >= 0 (got -1)",
                "unified_flags.command_timeout_secs: must be a finite number (got Infinity)",
                'unified_flags.sandbox_mod: unknown setting, did you mean "sandbox_mode"?',
            ],
        ),
        ("backends: {claude: {allowed_tools: 5}}", [f"backends.claude.allowed_tools: {TOOLS}"]),
        ("backends: {claude: {allowed_tools: [5]}}", [f"backends.claude.allowed_tools: {TOOLS}"]),
        (
            "backends: {claude: {extra_flags: [a, 1, 2]}}",
            [
                "backends.claude.extra_flags[1]: must be a string (got 1)",
                "backends.claude.extra_flags[2]: must be a string (got 2)",
            ],
        ),
        (
            "backends: {claud: {model: x}}",
            [
                (
                    'backends.claud: unknown backend, did you mean "claude"?'
                    " (a new backend needs a command, or like)"
                )
            ],
        ),
        (
            "backends: {x: {like: clade}}",
            ['backends.x.like: unknown backend "clade", did you mean "claude"?'],
        ),
        (
            "backends: {x: {like: claude, command: [x]}}",
            ["backends.x.like: a backend has a command, or is like another one, not both"],
        ),
        (
            "backends: {claude: {like: claude}}",
            ["backends.claude.like: a backend cannot be like itself"],
        ),
        (
            "backends: {x: {like: claude}, y: {like: x}}",
            ['backends.y.like: "x" is itself like "claude": name that one'],
        ),
        (
            "backends: {claude: {fallback: [codex, codex, gemni, claude, 'codex:']}}",
            [
                'backends.claude.fallback[1]: "codex" is named twice',
                (
                    'backends.claude.fallback[2]: unknown backend "gemni", did you mean "gemini"? '
                    f"({KNOWN})"
                ),
                'backends.claude.fallback[3]: "claude" is the task\'s own backend and model',
                'backends.claude.fallback[4]: "codex:" has no model after the colon',
            ],
        ),
        ("limits: {max_wait: soon}", [f'limits.max_wait: {WAIT} (got "soon")']),
        ("limits: {max_wait: true}", [f"limits.max_wait: {WAIT} (got true)"]),
        ("unified_flags: {retries: -1}", ["unified_flags.retries: must be >= 0 (got -1)"]),
        ("backends: {x: {command: []}}", ["backends.x.command: must not be empty (got [])"]),
        ("backends: {x: {command: cat}}", ['backends.x.command: must be a list (got "cat")']),
        ("backends: {'a,b': {command: [x]}}", [f"backends.a,b: {NAME}"]),
        # No value of an environment or a broker's URL is shown: it may be a secret.
        ("backends: {x: {command: [x], env: {A: 1}}}", ["backends.x.env.A: must be a string"]),
        ("broker_url: s3cret", [f"broker_url: {URL}"]),
        ("broker_url: http://:s3cret@h", [f"broker_url: {URL}"]),
        ("broker_url: redis://:s3/cret@h:1", [f"broker_url: {PORT}"]),
        ("broker_url: 3", ["broker_url: must be a string"]),
        ("broker_url: unix://x", ["broker_url: must have an absolute path to a socket"]),
        (
            "queues: {claude: {max_concurrency: 0}}",
            ["queues.claude.max_concurrency: must be >= 1 (got 0)"],
        ),
        (
            "queues: {claude: {rate: 5/day}}",
            ['queues.claude.rate: must be like "50/min" (a number per s, min or h) (got "5/day")'],
        ),
        ("queues: {claud: {}}", ['queues.claud: unknown backend, did you mean "claude"?']),
        (
            "prices: {claud: {input: 1, output: 2}}",
            ['prices.claud: unknown backend, did you mean "claude"?'],
        ),
        ("prices: {'claude:': {input: 1, output: 2}}", [f"prices.claude:: {NAME}"]),
        (
            "prices: {claude: {input: -1, put: 1}}",
            [
                "prices.claude.input: must be >= 0.0 (got -1)",
                "prices.claude.output: is required",
                'prices.claude.put: unknown setting, did you mean "input"?',
            ],
        ),
        ("a: 1\na: 2", ['is not valid YAML: duplicate key "a" at line 2, column 1']),
        ("parallel: &a {max_workers: *a}", ["is not valid YAML: an alias contains itself"]),
    ],
)
def test_problems_of_the_file(load, text: str, problems: list[str]) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ConfigError) as caught:
        load(text)
    assert list(caught.value.problems) == [f"c.yaml: {problem}" for problem in problems]


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("PARALLEL_MAX_WORKERS", "x", 'must be an integer (got "x")'),
        ("PARALLEL_MAX_WORKERS", "0", "must be >= 1 (got 0)"),
        ("PARALLEL_MAX_WORKERS", "9" * 5000, None),
        ("PARALLEL_FAIL_FAST", "maybe", 'must be true or false (got "maybe")'),
        ("UNIFIED_FLAGS_APPROVAL_MODE", "yolo", None),
        ("UNIFIED_FLAGS_COMMAND_TIMEOUT_SECS", "1e400", "must be a finite number (got Infinity)"),
        ("BACKENDS_CLAUDE_ALLOWED_TOOLS", '["a"', TOOLS),
        ("BACKENDS_CLAUDE_ENV", "A=b", FILE_ONLY),
        ("BROKER_URL", "redis:s3cret", URL),
        ("BROKER", "x", 'unknown setting, did you mean "CLINVK_BROKER_URL"?'),
        ("OUTPUT", "x", 'unknown setting, did you mean "CLINVK_OUTPUT_DIR"?'),
        (
            "PARALEL_MAX_WORKERS",
            "1",
            'unknown setting, did you mean "CLINVK_PARALLEL_MAX_WORKERS"?',
        ),
        (
            "PARALLEL_MAX_WORKER",
            "1",
            'unknown setting, did you mean "CLINVK_PARALLEL_MAX_WORKERS"?',
        ),
    ],
)
def test_problems_of_a_variable(load, name: str, value: str, problem: str | None) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ConfigError) as caught:
        load("", **{f"CLINVK_{name}": value})
    (line,) = caught.value.problems
    assert line.startswith(f"CLINVK_{name}: ")
    assert problem is None or line == f"CLINVK_{name}: {problem}"


def test_variables_that_are_no_settings_are_left_alone(load) -> None:  # type: ignore[no-untyped-def]
    names = ("CLI_CACHE", "CONFIG_X", "DEBUG", "TASK", "WORKER_CONFIG", "WORKER_NAME", "FOO")
    assert load("", **{f"CLINVK_{name}": "x" for name in names}).origins == {}


def test_all_problems_at_once(load) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ConfigError) as caught:
        load("parallel: {max_workers: 0}", CLINVK_PARALLEL_FAIL_FAST="x", CLINVK_BROKER="y")
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "CLINVK_BROKER",
        "c.yaml",
        "CLINVK_PARALLEL_FAIL_FAST",
    ]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a,b", ["a", "b"]),
        (" --x , y ", ["--x", "y"]),
        ('["a,b", "c"]', ["a,b", "c"]),
        ("all", ["all"]),
        ("", []),
    ],
)
def test_lists_in_variables(load, text: str, value: list[str]) -> None:  # type: ignore[no-untyped-def]
    loaded = load("", CLINVK_BACKENDS_CLAUDE_EXTRA_FLAGS=text)
    assert loaded.config.backends["claude"].extra_flags == value


@pytest.mark.parametrize(
    "url",
    ["", "redis://", "redis://h:1/0", "rediss://u:p%2F@h", "redis+socket:///s", "unix:///s"],
)
def test_urls_of_brokers(load, url: str) -> None:  # type: ignore[no-untyped-def]
    assert load(f"broker_url: '{url}'").config.broker_url == url


def test_sections_may_be_empty(load) -> None:  # type: ignore[no-untyped-def]
    loaded = load("parallel:\nbackends:\n  claude:\nqueues:\n  claude:\nbroker_url:\n")
    assert loaded.config.parallel.max_workers == 3
    assert loaded.config.broker_url is None


def test_a_file_named_like_a_variable_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("CLINVK_x.yaml").write_text("parallel: {max_workers: 7}")
    loaded = settings.load("CLINVK_x.yaml", {})
    assert loaded.pick(None, 2, "parallel", "max_workers") == 2


def test_nothing_secret_is_shown(load) -> None:  # type: ignore[no-untyped-def]
    loaded = load(
        "broker_url: redis://u:s3cret@h\nbackends: {x: {command: [cat], env: {KEY: s3cret}}}"
    )
    lines = list(render.lines(loaded.rows()))
    assert not [line for line in lines if "s3cret" in line]
    assert any('"redis://u:***@h"' in line for line in lines)


def test_what_a_lost_worker_means_is_settled_like_all_else(load) -> None:  # type: ignore[no-untyped-def]
    task = TaskSpec(backend="claude", prompt="x")
    settled = load("unified_flags: {on_worker_lost: fail, max_attempts: 5}")
    assert settled.resolve(task).effective_max_attempts == 1
    assert settled.resolve(replace(task, on_worker_lost="retry")).effective_max_attempts == 5
    assert load("{}").resolve(task).effective_max_attempts is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", "summary"), ("steps: off", "off"), ('steps: "off"', "off"), ("steps: full", "full")],
)
def test_steps_may_be_off_as_yaml_reads_it(load, text: str, expected: str) -> None:  # type: ignore[no-untyped-def]
    assert load(text).config.steps == expected


@pytest.mark.parametrize(
    ("text", "sandbox", "require", "network"),
    [
        ("", "auto", False, "on"),
        ("worker: {sandbox: off}", "off", False, "on"),
        ("worker: {sandbox: require}", "auto", True, "on"),
        ("worker: {sandbox: bwrap}\nsandbox: {require: true}", "bwrap", True, "on"),
        ("sandbox: {network: off}", "auto", False, "off"),
        ("sandbox: {network: on}", "auto", False, "on"),
        ("sandbox: {network: {ports: [443, 80]}}", "auto", False, {"ports": [443, 80]}),
    ],
)
def test_what_a_worker_is_told_about_sandboxes(  # type: ignore[no-untyped-def]
    load, text: str, sandbox: str, require: bool, network: object
) -> None:
    worker = load(text).worker
    assert (worker.sandbox, worker.sandbox_require, worker.network) == (sandbox, require, network)


def test_a_sandbox_that_is_off_cannot_be_required(load) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ConfigError, match=r"sandbox\.require: cannot be met while worker\.sandbox"):
        load("worker: {sandbox: off}\nsandbox: {require: true}")


@pytest.mark.parametrize("network", ["{ports: []}", "{ports: [0]}", "{hosts: [a]}", "maybe", "443"])
def test_a_network_that_means_nothing_is_told_in_one_line(load, network: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ConfigError) as caught:
        load(f"sandbox: {{network: {network}}}")
    assert len(caught.value.problems) == 1
    assert "sandbox.network: must be on, off, or ports with a list" in caught.value.problems[0]


def test_paths_of_any_backend(load) -> None:  # type: ignore[no-untyped-def]
    settings = load("backends: {claude: {paths: [~/x]}, t: {command: [t], paths: [/y]}}")
    assert settings.worker.paths == {"claude": ["~/x"], "t": ["/y"]}


def test_where_a_worker_keeps_its_state(load) -> None:  # type: ignore[no-untyped-def]
    assert load("worker: {state_dir: /srv/state}").worker.state_dir == "/srv/state"


def test_prices_by_backend_and_model(load) -> None:  # type: ignore[no-untyped-def]
    text = "prices: {codex: {input: 1, output: 2}, 'codex:o': {input: 0, output: 0}}"
    settings = load(text, CLINVK_PRICES_CODEX_O_CACHED_INPUT="0.5")
    assert settings.worker.prices == {
        "codex": {"input": 1.0, "output": 2.0},
        "codex:o": {"input": 0.0, "output": 0.0, "cached_input": 0.5},
    }
    assert ("prices.codex.output", 2.0, str(settings.path)) in list(settings.rows())


def test_budgets_of_queues_and_keys_are_shown_one_by_one(load) -> None:  # type: ignore[no-untyped-def]
    text = "budgets: {queues: {claude: {day: 30}}, keys: {'*': {day_tokens: 2M}, ann: {}}}"
    settings = load(text, CLINVK_BUDGETS_KEYS_ANN_DAY="5")
    document = json.loads(dump(render.document(settings.rows())))
    shown = {place: row["value"] for place, row in document.items() if row["value"] is not None}
    assert shown["budgets.queues.claude.day"] == 30
    assert shown["budgets.keys.*.day_tokens"] == "2M"
    assert shown["budgets.keys.ann.day"] == 5


def test_transcripts_need_full_steps_unless_the_user_decides(load) -> None:  # type: ignore[no-untyped-def]
    assert load("").step_detail(with_transcripts=True) == "full"
    assert load("").step_detail(with_transcripts=False) == "summary"
    assert load("steps: summary").step_detail(with_transcripts=True) == "summary"
    assert load("", CLINVK_STEPS="off").step_detail(with_transcripts=True) == "off"


LIKES = """
backends:
  claude-b: {like: claude, env: {CLAUDE_CONFIG_DIR: /b}, model: opus}
  loud: {command: [tr, a-z, A-Z], env: {KEY: base}, model: m}
  loud-b: {like: loud, env: {KEY: other}}
queues:
  claude-b: {max_concurrency: 2}
"""


def test_a_backend_like_another_one(load) -> None:  # type: ignore[no-untyped-def]
    loaded = load(LIKES)
    assert loaded.backends["claude-b"] is True
    assert loaded.worker.backends == {
        "claude-b": {"like": "claude"},
        "loud": {"command": ["tr", "a-z", "A-Z"], "env": {"KEY": "base"}},
        "loud-b": {"command": ["tr", "a-z", "A-Z"], "env": {"KEY": "other"}},
    }
    assert loaded.worker.environments["claude-b"]["env"] == {"CLAUDE_CONFIG_DIR": "/b"}
    assert loaded.resolve(TaskSpec(backend="claude-b", prompt="x")).model == "opus"
    assert loaded.resolve(TaskSpec(backend="claude", prompt="x")).model is None
    rows = dict(line.split(": ", 1) for line in render.lines(loaded.rows()))
    assert rows["backends.claude-b.env"].startswith('{"CLAUDE_CONFIG_DIR": "***"}')


def test_variables_name_the_list_that_is_wrong(load) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ConfigError) as caught:
        load("", CLINVK_BACKENDS_CLAUDE_FALLBACK="codex,gemni")
    (problem,) = caught.value.problems
    assert problem.startswith('CLINVK_BACKENDS_CLAUDE_FALLBACK[1]: unknown backend "gemni"')
