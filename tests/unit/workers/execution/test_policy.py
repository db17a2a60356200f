"""A worker's policy, as somebody would try to get around it."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from clinvk.core.errors import ConfigError
from clinvk.core.spec import TaskSpec
from clinvk.core.worker_config import WorkerConfig
from workers.execution.executor import Executor
from workers.execution.policy import APPROVAL_ORDER, SANDBOX_ORDER, Policy, PolicyError


def spec(**fields: Any) -> TaskSpec:
    return TaskSpec(**{"backend": "claude", "prompt": "x"} | fields)


def refusal(policy: Policy, task: TaskSpec, *, is_configured: bool = False) -> str | None:
    try:
        policy.check(task, is_configured=is_configured)
    except PolicyError as error:
        return str(error)
    return None


def test_without_rules_everything_is_accepted() -> None:
    task = spec(sandbox_mode="full", approval_mode="none", extra=["--anything"], workdir="/x")
    assert refusal(Policy(), task) is None
    assert Policy().directory("/x") == "/x"


@pytest.mark.parametrize(
    ("maximum", "mode"), list(itertools.product(SANDBOX_ORDER, (*SANDBOX_ORDER, None, "default")))
)
def test_sandbox_modes(maximum: str, mode: Any) -> None:
    said = refusal(Policy(max_sandbox_mode=maximum), spec(sandbox_mode=mode))
    if maximum == "full":
        assert said is None
    elif mode in {None, "default"}:
        assert said == f'max_sandbox_mode: the task must give one, at most "{maximum}"'
    elif SANDBOX_ORDER.index(mode) > SANDBOX_ORDER.index(maximum):
        assert said == f'max_sandbox_mode: "{mode}" is over "{maximum}"'
    else:
        assert said is None


@pytest.mark.parametrize(
    ("maximum", "mode"), list(itertools.product(APPROVAL_ORDER, (*APPROVAL_ORDER, None)))
)
def test_approval_modes(maximum: str, mode: Any) -> None:
    said = refusal(Policy(max_approval_mode=maximum), spec(approval_mode=mode))
    is_over = APPROVAL_ORDER.index(mode or "default") > APPROVAL_ORDER.index(maximum)
    assert said == (
        f'max_approval_mode: "{mode or "default"}" is over "{maximum}"' if is_over else None
    )


@pytest.mark.parametrize(
    ("rules", "task", "said"),
    [
        ({"backends": ["claude"]}, {"backend": "codex"}, 'backends: "codex" is not among claude'),
        ({"backends": ["c*"]}, {"backend": "codex"}, None),
        (
            {"max_approval_mode": "auto"},
            {"extra": ["--dangerously-skip-permissions"]},
            "extra: '--dangerously-skip-permissions' is not among (none)",
        ),
        (
            {"extra": ["--effort", "low"]},
            {"extra": ["--effort", "low", "--add-dir"]},
            "extra: '--add-dir' is not among --effort, low",
        ),
        ({"extra": ["--effort=*"]}, {"extra": ["--effort=high"]}, None),
        ({"extra": []}, {"extra": ["-x"]}, "extra: '-x' is not among (none)"),
        (
            {"max_approval_mode": "auto"},
            {"allowed_tools": ["Bash"]},
            "extra: allowed_tools can open what a mode closes, and is not allowed",
        ),
    ],
)
def test_other_rules(rules: dict[str, Any], task: dict[str, Any], said: str | None) -> None:
    assert refusal(Policy(**rules), spec(**task)) == said


def test_a_configured_backend_has_no_modes_and_must_be_named() -> None:
    task = spec(backend="mytool")
    assert refusal(Policy(max_sandbox_mode="read-only"), task, is_configured=True) == (
        'backends: "mytool" has no modes, and is not named there'
    )
    named = Policy(max_sandbox_mode="read-only", backends=["mytool"])
    assert refusal(named, task, is_configured=True) is None


@pytest.fixture
def roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("srv/a/deep", "srv/ab", "outside"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "srv/a/out").symlink_to(tmp_path / "outside")
    (tmp_path / "srv/in").symlink_to(tmp_path / "srv/a/deep")
    monkeypatch.chdir(tmp_path / "outside")
    return tmp_path


@pytest.mark.parametrize(
    ("workdir", "ends_in"),
    [
        ("srv/a", "srv/a"),
        ("srv/a/deep/..", "srv/a"),
        ("srv/in", "srv/a/deep"),  # a link into a root is followed, and then used as resolved
        ("srv/ab", None),  # begins like a root, and is none
        ("srv/a/out", None),  # a link out of a root
        ("srv/a/../../outside", None),
        ("srv/a/none", "srv/a/none"),  # whether it exists is looked at later
    ],
)
def test_directories(roots: Path, workdir: str, ends_in: str | None) -> None:
    policy = Policy(workdir_roots=[str(roots / "srv/a")])
    if ends_in is None:
        with pytest.raises(PolicyError, match=r"workdir_roots: .* is below none of"):
            policy.directory(str(roots / workdir))
    else:
        assert policy.directory(str(roots / workdir)) == str(roots / ends_in)


def test_no_directory_is_the_workers_own(roots: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = Policy(workdir_roots=[str(roots / "srv/a")])
    with pytest.raises(PolicyError):
        policy.directory(None)
    monkeypatch.chdir(roots / "srv/a/deep")
    assert policy.directory(None) == str(roots / "srv/a/deep")


@pytest.mark.parametrize(
    ("content", "problems"),
    [
        ("- a", ["must be a mapping of rules"]),
        ("max_sandbox: full", ['max_sandbox: unknown rule, did you mean "max_sandbox_mode"?']),
        (
            "max_sandbox_mode: default\nextra: --x",
            [
                "max_sandbox_mode: must be one of read-only, workspace, full (got 'default')",
                "extra: must be a list of strings (got '--x')",
            ],
        ),
        (
            "backends: [claude]\nmax_sandbox_mode: read-only\nbackends: ['*']",
            ['is not valid YAML: duplicate key "backends" at line 3, column 1'],
        ),
        ("backends: [claude", ["is not valid YAML: did not find expected ',' or ']' at line 2"]),
        (b"\xff", ["is not UTF-8 text (byte 0)"]),
    ],
)
def test_bad_policy_files(tmp_path: Path, content: str | bytes, problems: list[str]) -> None:
    path = tmp_path / "policy.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ConfigError) as caught:
        Policy.load(str(path))
    assert len(caught.value.problems) == len(problems)
    for found, problem in zip(caught.value.problems, problems, strict=True):
        assert found.startswith(f"{path}: {problem}")


def test_a_policy_file_that_is_not_there_stops_the_worker(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        Executor(WorkerConfig(policy_file=str(tmp_path / "none.yaml")), "w@h", "w@h/1")
