"""Which of two values of a setting wins, tried both ways for each, and where each came from."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from clinvk.config import settings
from clinvk.config.environment import variable as environment_variable
from clinvk.config.settings import Settings
from clinvk.core.spec import TaskSpec
from tests.unit.fake_fleet import Clinvk, FakeFleet


def load(tmp_path: Path, config: Mapping[str, Any], **environment: str) -> Settings:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(dict(config)))
    return settings.load(str(path), environment)


def nested(place: str, value: Any) -> dict[str, Any]:
    head, _, rest = place.partition(".")
    return {head: nested(rest, value) if rest else value}


def spec(**fields: Any) -> TaskSpec:
    return TaskSpec(backend="claude", prompt="x", **fields)


# Each setting of a task: its field, its place in the configuration, two values as the
# environment would write them, and those values.
TASK_SETTINGS = [
    ("model", "backends.claude.model", "opus", "haiku"),
    ("system_prompt", "backends.claude.system_prompt", "be brief", "be kind"),
    ("approval_mode", "backends.claude.approval_mode", "auto", "always"),
    ("sandbox_mode", "backends.claude.sandbox_mode", "full", "read-only"),
    ("approval_mode", "unified_flags.approval_mode", "auto", "none"),
    ("sandbox_mode", "unified_flags.sandbox_mode", "full", "workspace"),
    ("max_turns", "unified_flags.max_turns", 3, 4),
    ("max_tokens", "unified_flags.max_tokens", 300, 400),
    ("timeout_seconds", "unified_flags.command_timeout_secs", 1.5, 2.5),
    ("stall_timeout_seconds", "unified_flags.stall_timeout_seconds", 1.5, 2.5),
    ("stall_timeout_seconds", "backends.claude.stall_timeout_seconds", 1.5, 2.5),
    ("allowed_tools", "backends.claude.allowed_tools", ["Read"], ["Grep", "Glob"]),
    ("fallback", "backends.claude.fallback", ["codex"], ["gemini", "codex:x"]),
    ("retries", "unified_flags.retries", 0, 5),
    ("retry_on", "unified_flags.retry_on", ["failed"], ["timeout", "auth"]),
]
ids = [place for _, place, _, _ in TASK_SETTINGS]
each_task_setting = pytest.mark.parametrize(
    ("field", "place", "one", "two"), TASK_SETTINGS, ids=ids
)


def variable(place: str) -> str:
    return environment_variable(tuple(place.split(".")))


def as_text(value: Any) -> str:
    return ",".join(value) if isinstance(value, list) else str(value)


@each_task_setting
def test_configuration_beats_default(
    tmp_path: Path, field: str, place: str, one: Any, two: Any
) -> None:
    assert getattr(load(tmp_path, {}).resolve(spec()), field) == (2 if field == "retries" else None)
    for value in (one, two):
        found = load(tmp_path, nested(place, value)).resolve(spec())
        assert getattr(found, field) == value


@each_task_setting
def test_the_tasks_own_field_beats_the_configuration(
    tmp_path: Path, field: str, place: str, one: Any, two: Any
) -> None:
    for own, configured in ((one, two), (two, one)):
        found = load(tmp_path, nested(place, configured)).resolve(spec(**{field: own}))
        assert getattr(found, field) == own


@each_task_setting
def test_the_environment_beats_the_task_and_the_configuration(
    tmp_path: Path, field: str, place: str, one: Any, two: Any
) -> None:
    for own, environment in ((one, two), (two, one)):
        loaded = load(tmp_path, nested(place, own), **{variable(place): as_text(environment)})
        assert getattr(loaded.resolve(spec(**{field: own})), field) == environment


@pytest.mark.parametrize(
    ("field", "place", "own", "nothing"),
    [
        ("max_turns", "unified_flags.max_turns", 3, "0"),
        ("max_tokens", "unified_flags.max_tokens", 3, "0"),
        ("timeout_seconds", "unified_flags.command_timeout_secs", 3.0, "0"),
        ("stall_timeout_seconds", "backends.claude.stall_timeout_seconds", 3.0, "0"),
        ("approval_mode", "unified_flags.approval_mode", "none", "default"),
        ("sandbox_mode", "backends.claude.sandbox_mode", "full", "default"),
        ("workspace", "backends.claude.workspace", "worktree", "shared"),
        ("model", "backends.claude.model", "opus", ""),
        ("allowed_tools", "backends.claude.allowed_tools", ["Read"], "all"),
    ],
)
def test_nothing_is_a_value_too(
    tmp_path: Path, field: str, place: str, own: Any, nothing: str
) -> None:
    loaded = load(tmp_path, {}, **{variable(place): nothing})
    assert getattr(loaded.resolve(spec(**{field: own})), field) is None


def test_the_configuration_gives_tasks_worktrees(tmp_path: Path) -> None:
    for place in ("unified_flags.workspace", "backends.claude.workspace"):
        assert load(tmp_path, nested(place, "worktree")).resolve(spec()).workspace == "worktree"


@pytest.mark.parametrize("field", ["approval_mode", "sandbox_mode"])
def test_a_backends_mode_beats_the_mode_for_all(tmp_path: Path, field: str) -> None:
    for own, all_ in (("default", "none" if field == "approval_mode" else "full"),):
        config = {"backends": {"claude": {field: own}}, "unified_flags": {field: all_}}
        assert getattr(load(tmp_path, config).resolve(spec()), field) is None
        other = TaskSpec(backend="codex", prompt="x")
        assert getattr(load(tmp_path, config).resolve(other), field) == all_
    environment = {
        f"CLINVK_BACKENDS_CLAUDE_{field.upper()}": "default",
        f"CLINVK_UNIFIED_FLAGS_{field.upper()}": all_,
    }
    assert getattr(load(tmp_path, {}, **environment).resolve(spec()), field) is None


def test_extra_arguments_of_the_configuration_come_first(tmp_path: Path) -> None:
    config = {"backends": {"claude": {"extra_flags": ["--a"]}}}
    assert load(tmp_path, config).resolve(spec(extra=["--b"])).extra == ["--a", "--b"]
    loaded = load(tmp_path, config, CLINVK_BACKENDS_CLAUDE_EXTRA_FLAGS='["--c d", "--e"]')
    assert loaded.resolve(spec()).extra == ["--c d", "--e"]


def test_how_long_a_task_may_wait(tmp_path: Path) -> None:
    """Seconds before a unit, none as well as nothing, and 0 is a value as any other."""
    assert load(tmp_path, {}).resolve(spec()).max_wait_seconds == 900
    for written, seconds in (("6h", 21600), (0, 0), ("none", None)):
        loaded = load(tmp_path, {"limits": {"max_wait": written}})
        assert loaded.resolve(spec()).max_wait_seconds == seconds
        assert loaded.resolve(spec(max_wait_seconds=5.0)).max_wait_seconds == 5
        assert loaded.resolve(spec(max_wait_seconds=math.inf)).max_wait_seconds is None
        in_environment = load(tmp_path, {}, CLINVK_LIMITS_MAX_WAIT=str(written))
        assert in_environment.resolve(spec(max_wait_seconds=5.0)).max_wait_seconds == seconds
        found = in_environment.resolve(spec(), max_wait_seconds=7.0)
        assert found.max_wait_seconds == 7


def test_the_command_line_says_how_long_tasks_may_wait(clinvk: Clinvk, fake: FakeFleet) -> None:
    file = '{"tasks": [{"backend": "echo", "prompt": "x", "max_wait": 1}], "max_wait": "1h"}'
    for written, seconds in (("0", 0), ("6h", 21600), ("none", None)):
        fake.results = []
        assert clinvk("parallel", "-q", "--max-wait", written, stdin=file).status == 0
        assert [each.max_wait_seconds for each in fake.submitted] == [seconds]
    ended = clinvk("parallel", "-q", "--max-wait", "soon", stdin=file)
    assert (ended.status, ended.stderr) == (
        2,
        (
            'clinvk: --max-wait: must be a number of seconds, or like "30s", "15m", "6h", "7d", '
            'or "none" (got "soon")\n'
        ),
    )


def test_other_backends_have_their_own_defaults(tmp_path: Path) -> None:
    config = {
        "unified_flags": {"approval_mode": "auto", "stall_timeout_seconds": 9},
        "backends": {
            "claude": {"model": "opus", "extra_flags": ["--a"], "system_prompt": "be brief"},
            "codex": {"approval_mode": "none", "extra_flags": ["--b"], "stall_timeout_seconds": 0},
            "gemini": {"model": "flash"},
        },
    }
    found = load(tmp_path, config).resolve(
        spec(
            alternatives=["codex", "gemini"],
            variants={"gemini": {"model": "pro"}},
            fallback=["claude:haiku", "codex:gpt"],
            extra=["--own"],
        )
    )
    assert (found.model, found.approval_mode, found.extra) == ("opus", "auto", ["--a", "--own"])
    codex = {
        "approval_mode": "none",
        "system_prompt": None,
        "stall_timeout_seconds": None,
        "extra": ["--b", "--own"],
    }
    assert found.variants == {
        "codex": codex,
        "gemini": {"model": "pro", "system_prompt": None, "extra": ["--own"]},
        "codex:gpt": codex,
    }
    assert found.variant("gemini").model == "pro"
    assert found.variant("claude:haiku").system_prompt == "be brief"
    assert TaskSpec.from_wire(found.to_wire()) == found


def test_the_environment_has_the_model_of_other_backends_too(tmp_path: Path) -> None:
    loaded = load(tmp_path, {}, CLINVK_BACKENDS_CODEX_MODEL="gpt")
    assert loaded.resolve(spec(fallback=["codex:other"])).variants == {
        "codex:other": {"model": "gpt"}
    }


def test_a_task_does_not_fall_back_on_what_it_is(tmp_path: Path) -> None:
    config = {"backends": {"claude": {"model": "opus", "fallback": ["claude:haiku", "codex"]}}}
    loaded = load(tmp_path, config)
    assert loaded.resolve(spec(model="haiku")).fallback == ["codex"]
    assert loaded.resolve(spec(fallback=["claude:opus"])).fallback is None
    assert loaded.resolve(spec(fallback=[])).fallback is None
    assert loaded.resolve(spec(alternatives=["codex"])).fallback == ["claude:haiku"]


def test_the_configurations_fallback_leaves_out_what_is_disabled(tmp_path: Path) -> None:
    config = {"backends": {"claude": {"fallback": ["codex:x", "gemini"]}}}
    loaded = load(tmp_path, config, CLINVK_BACKENDS_CODEX_ENABLED="false")
    assert loaded.resolve(spec()).fallback == ["gemini"]


RUN_SETTINGS = [
    ("parallel.max_workers", "max_parallel", 5, 7, ["--max-parallel", "{}"]),
    ("parallel.fail_fast", "fail_fast", True, False, None),
    ("output_dir", "output_dir", "one", "two", ["--output-dir", "{}"]),
]


@pytest.mark.parametrize(("place", "field", "one", "two", "flag"), RUN_SETTINGS)
@pytest.mark.parametrize("layers", ["c", "fc", "efc", "e", "lefc", "lf", "le"])
@pytest.mark.parametrize("swapped", [False, True])
def test_settings_of_a_run(
    clinvk: Clinvk,
    fake: FakeFleet,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    place: str,
    field: str,
    one: Any,
    two: Any,
    flag: list[str] | None,
    layers: str,
    swapped: bool,
) -> None:
    """The first of flag (l), environment (e), task file (f), configuration (c) wins."""
    winner, loser = (two, one) if swapped else (one, two)
    value = dict.fromkeys(layers, loser) | {layers[0]: winner}
    if "c" in layers:
        (tmp_path / "config.yaml").write_text(json.dumps(nested(place, value["c"])))
        monkeypatch.setenv("CLINVK_CONFIG", "config.yaml")
    if "e" in layers:
        monkeypatch.setenv(variable(place), str(value["e"]))
    arguments = []
    if "l" in layers:
        arguments = (
            ["--fail-fast" if value["l"] else "--no-fail-fast"]
            if flag is None
            else [part.format(value["l"]) for part in flag]
        )
    options = {field: value["f"]} if "f" in layers else {}
    task = {"backend": "echo", "prompt": "x"}
    ended = clinvk("parallel", *arguments, stdin=json.dumps({"tasks": [task], **options}))
    assert ended.status == 0, ended.stderr
    if field == "output_dir":
        assert (tmp_path / winner / "summary.json").exists()
        assert not (tmp_path / loser).exists()
    else:
        assert getattr(fake.options, field) == winner


@pytest.mark.parametrize(
    ("flag", "environment", "configured", "wins"),
    [
        (None, None, None, None),
        (None, None, "redis://c", "redis://c"),
        (None, "redis://e", "redis://c", "redis://e"),
        (None, "", "redis://c", None),
        ("redis://l", "redis://e", "redis://c", "redis://l"),
    ],
)
def test_the_broker(
    clinvk: Clinvk,
    fake: FakeFleet,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    flag: str | None,
    environment: str | None,
    configured: str | None,
    wins: str | None,
) -> None:
    if configured is not None:
        home = tmp_path / "home"
        (home / ".clinvk").mkdir(parents=True)
        (home / ".clinvk" / "config.yaml").write_text(f"broker_url: {configured}")
        monkeypatch.setenv("HOME", str(home))
    if environment is not None:
        monkeypatch.setenv("CLINVK_BROKER_URL", environment)
    arguments = ["--broker", flag] if flag else []
    assert clinvk("parallel", *arguments, stdin='{"backend": "echo", "prompt": "x"}').status == 0
    assert fake.connected_to == wins


def test_config_show_names_the_origin_and_masks_secrets(
    clinvk: Clinvk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "c.yaml").write_text(
        "broker_url: redis://user:pa@ss@host:6379/0\n"
        "parallel: {max_workers: 5}\n"
        "backends: {mytool: {command: [mytool], env: {TOKEN: secret}}}\n"
    )
    monkeypatch.setenv("CLINVK_UNIFIED_FLAGS_MAX_TURNS", "9")
    ended = clinvk("config", "show", "--config", "c.yaml")
    lines = dict(line.split(": ", 1) for line in ended.stdout.splitlines())
    rows = {place: [part.strip() for part in line.split("  # ")] for place, line in lines.items()}
    assert rows["broker_url"] == ['"redis://user:***@host:6379/0"', "c.yaml"]
    assert rows["parallel.max_workers"] == ["5", "c.yaml"]
    assert rows["unified_flags.max_turns"] == ["9", "CLINVK_UNIFIED_FLAGS_MAX_TURNS"]
    assert rows["parallel.fail_fast"] == ["false", "default"]
    assert rows["backends.mytool.env"] == ['{"TOKEN": "***"}', "c.yaml"]
    assert rows["backends.claude.enabled"] == ["true", "default"]
    as_json = json.loads(clinvk("config", "show", "--json", "--config", "c.yaml").stdout)
    assert as_json["parallel.max_workers"] == {"value": 5, "origin": "c.yaml"}
    assert "secret" not in ended.stdout


def test_config_path(clinvk: Clinvk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert clinvk("config", "path").stdout == f"{tmp_path}/.clinvk/config.yaml\n"


def test_empty_sections_are_no_settings(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("parallel:\nbackends:\nbroker_url:\n")
    loaded = settings.load(str(path), {})
    assert loaded.config.parallel.max_workers == 3
    assert loaded.config.broker_url is None
