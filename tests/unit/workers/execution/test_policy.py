"""A worker's policy, as somebody would try to get around it."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from clinvk.backends import packaged_names
from clinvk.core.spec import TaskSpec
from tests.unit.backends.commands import REGISTRY, command
from workers.execution.policy import APPROVAL_ORDER, SANDBOX_ORDER, Policy, PolicyError


def spec(**fields: Any) -> TaskSpec:
    return TaskSpec(**{"backend": "claude", "prompt": "x"} | fields)


def refusal(
    policy: Policy, task: TaskSpec, *, is_configured: bool = False, can_enforce: bool = False
) -> str | None:
    """What the policy of a worker says to a task, which it completes first."""
    completed = policy.completed(task, can_enforce=can_enforce)
    is_enforced = can_enforce and completed.sandbox_mode in {"read-only", "workspace"}
    backend = REGISTRY.get(task.backend)
    try:
        policy.check(completed, backend, is_configured=is_configured, is_enforced=is_enforced)
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
            'extra: "--dangerously-skip-permissions" is not among (none)',
        ),
        (
            {"extra": ["--effort", "low"]},
            {"extra": ["--effort", "low", "--add-dir"]},
            'extra: "--add-dir" is not among --effort, low',
        ),
        ({"extra": ["--effort=*"]}, {"extra": ["--effort=high"]}, None),
        ({"extra": []}, {"extra": ["-x"]}, 'extra: "-x" is not among (none)'),
        # What is kept by the command line of a CLI, `extra` could undo.
        ({"models": ["*"]}, {"model": "a", "extra": ["-x"]}, 'extra: "-x" is not among (none)'),
        ({"max_turns": 9}, {"extra": ["-x"]}, 'extra: "-x" is not among (none)'),
        ({"project_settings": False}, {"extra": ["-x"]}, 'extra: "-x" is not among (none)'),
        ({"max_timeout_seconds": 9, "project_settings": True}, {"extra": ["-x"]}, None),
        ({"models": ["opus*"]}, {"model": "opus-4"}, None),
        ({"models": ["opus*"]}, {"model": "sonnet"}, 'models: "sonnet" is not among opus*'),
        ({"models": ["opus*"]}, {}, "models: the task must name one of opus*"),
        ({"max_timeout_seconds": 60}, {"timeout_seconds": 60}, None),
        (
            {"max_timeout_seconds": 60},
            {"timeout_seconds": 60.5},
            "max_timeout_seconds: 60.5 is over 60",
        ),
        ({"max_turns": 5}, {"max_turns": 5}, None),
        ({"max_turns": 5}, {"max_turns": 6}, "max_turns: 6 is over 5"),
        (
            {"max_turns": 5},
            {"backend": "codex"},
            'max_turns: "codex" cannot limit turns; max_timeout_seconds limits every backend',
        ),
    ],
)
def test_other_rules(rules: dict[str, Any], task: dict[str, Any], said: str | None) -> None:
    assert refusal(Policy(**rules), spec(**task)) == said


@pytest.mark.parametrize(
    ("rules", "tools", "said"),
    [
        ({}, ["Bash"], None),
        ({"max_sandbox_mode": "full"}, ["Bash"], '"Bash" is not among (none)'),
        ({"max_approval_mode": "auto"}, ["Bash"], '"Bash" is not among (none)'),
        ({"max_approval_mode": "auto"}, [], None),
        # Arguments that are allowed allow no tools.
        ({"max_approval_mode": "auto", "extra": ["*"]}, ["Bash"], '"Bash" is not among (none)'),
        ({"allowed_tools": ["Read", "Bash(git *)"]}, ["Bash(git log)", "Read"], None),
        ({"allowed_tools": ["Bash(git *)"]}, ["Bash(rm x)"], '"Bash(rm x)" is not among'),
        ({"allowed_tools": ["Read*"]}, ["Read,Bash"], '"Read,Bash" is not the name of one tool'),
        ({"allowed_tools": ["Read*"]}, ["Read Bash"], '"Read Bash" is not the name of one tool'),
        ({"allowed_tools": ["*"]}, ["a(b,Bash,c)"], "is not the name of one tool"),
        ({"allowed_tools": ["Bash(git *)"]}, ["Bash(git x)Bash(rm *)"], "is not the name"),
        ({"allowed_tools": ["*"]}, ["Bash(git (x))"], "is not the name of one tool"),
        ({"allowed_tools": ["*"]}, ["Read\nBash"], "is not the name of one tool"),
    ],
)
def test_allowed_tools(rules: dict[str, Any], tools: list[str], said: str | None) -> None:
    refused = refusal(Policy(**rules), spec(approval_mode="auto", allowed_tools=tools))
    if said is None:
        assert refused is None
    else:
        assert refused is not None
        assert refused.startswith("allowed_tools: ")
        assert said in refused


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ({}, None),
        ({"workdir_roots": ["/"]}, None),
        ({"setup": ["npm ci"]}, None),
        ({"max_approval_mode": "auto", "setup": ["npm *"]}, None),
        ({"max_approval_mode": "auto"}, 'setup: "npm ci" is not among (none)'),
        ({"backends": ["*"]}, 'setup: "npm ci" is not among (none)'),
        ({"setup": ["make"]}, 'setup: "npm ci" is not among make'),
        ({"max_timeout_seconds": 60}, "max_timeout_seconds: 90 is over 60"),
    ],
)
def test_setup_of_worktrees(rules: dict[str, Any], said: str | None) -> None:
    """It is run by a shell, whatever the task's CLI may do."""
    task = spec(setup="npm ci", setup_timeout_seconds=90)
    assert refusal(Policy(**rules), task) == said
    assert refusal(Policy(**{**rules, "max_timeout_seconds": None}), spec()) is None


@pytest.mark.parametrize(
    ("verify", "rules", "said"),
    [
        (["/bin/sh", "-c", "make test"], {}, None),
        (["/bin/sh", "-c", "make test"], {"verify": ["make *"]}, None),
        (
            ["pytest", "-k", "a b"],
            {"max_sandbox_mode": "full", "verify": ["pytest -k 'a b'"]},
            None,
        ),
        (["make"], {"setup": ["make"], "backends": ["*"]}, 'verify: "make" is not among (none)'),
        (["/bin/sh", "-c", "make", "x"], {"verify": ["make"]}, 'verify: "/bin/sh -c make x" is'),
        (["make"], {"max_timeout_seconds": 60}, "max_timeout_seconds: 90 is over 60"),
    ],
)
def test_verify(verify: list[str], rules: dict[str, Any], said: str | None) -> None:
    """It is a command of the message's, so a policy that restricts anything must name it."""
    found = refusal(Policy(**rules), spec(verify=verify, verify_timeout_seconds=90))
    assert found is None if said is None else str(found).startswith(said)


def test_what_a_task_leaves_open_is_the_maximum() -> None:
    policy = Policy(max_sandbox_mode="workspace", max_timeout_seconds=60, max_turns=5)
    given = policy.completed(spec(), can_enforce=True)
    assert (given.sandbox_mode, given.timeout_seconds, given.max_turns) == ("workspace", 60, 5)
    given = policy.completed(spec(setup="make", verify=["make"]), can_enforce=True)
    assert (given.setup_timeout_seconds, given.verify_timeout_seconds) == (60, 60)
    own = spec(sandbox_mode="read-only", timeout_seconds=1, max_turns=1)
    assert policy.completed(own, can_enforce=True) == own
    assert Policy().completed(spec(), can_enforce=True) == spec()


@pytest.mark.parametrize("mode", [None, "default"])
def test_a_mode_is_filled_in_only_where_it_is_enforced(mode: Any) -> None:
    """Elsewhere the CLIs' own modes would decide, which differ."""
    policy, task = Policy(max_sandbox_mode="read-only"), spec(sandbox_mode=mode)
    assert refusal(policy, task, can_enforce=True) is None
    assert refusal(policy, task) == 'max_sandbox_mode: the task must give one, at most "read-only"'
    full = Policy(max_sandbox_mode="full")
    assert full.completed(task, can_enforce=True) == task


def test_enforced_modes_are_those_of_configured_backends_too() -> None:
    policy = Policy(max_sandbox_mode="workspace", max_approval_mode="default")

    def said(mode: str | None) -> str | None:
        task = spec(backend="mytool", sandbox_mode=mode)
        return refusal(policy, task, is_configured=True, can_enforce=True)

    assert said(None) is None
    assert said("read-only") is None
    assert said("full") == 'max_sandbox_mode: "full" is over "workspace"'


@pytest.mark.parametrize("can_enforce", [False, True])
def test_a_configured_backend_that_is_named_gets_no_more_than_the_maximum(
    can_enforce: bool,
) -> None:
    """Else a task would leave the sandbox by asking for none."""
    policy = Policy(max_sandbox_mode="workspace", backends=["mytool"])

    def said(mode: str | None) -> str | None:
        task = spec(backend="mytool", sandbox_mode=mode)
        return refusal(policy, task, is_configured=True, can_enforce=can_enforce)

    assert said("full") == 'max_sandbox_mode: "full" is over "workspace"'
    assert said("workspace") is None
    assert said(None) is None


def test_an_enforced_mode_does_not_name_tools_or_arguments() -> None:
    """They could not open the sandbox, but what a task may do without asking."""
    policy = Policy(max_sandbox_mode="workspace")
    asked = spec(sandbox_mode="workspace", allowed_tools=["Bash"])
    assert refusal(policy, asked, can_enforce=True) == 'allowed_tools: "Bash" is not among (none)'
    allowing = Policy(max_sandbox_mode="workspace", allowed_tools=["*"], extra=["*"])
    asked = spec(sandbox_mode="workspace", allowed_tools=["Bash"], extra=["--x"])
    assert refusal(allowing, asked, can_enforce=True) is None


@pytest.mark.parametrize(
    ("rules", "mode", "allows"),
    [
        ({}, None, True),
        ({}, "full", True),
        ({}, "read-only", False),
        ({}, "workspace", False),
        ({"workdir_roots": ["/"]}, "full", True),
        ({"max_approval_mode": "none"}, "full", False),
        ({"max_sandbox_mode": "full"}, "full", False),
        ({"project_settings": True, "max_sandbox_mode": "read-only"}, "read-only", True),
        ({"project_settings": False}, None, False),
    ],
)
def test_project_settings(rules: dict[str, Any], mode: Any, allows: bool) -> None:
    assert Policy(**rules).allows_project_settings(spec(sandbox_mode=mode)) is allows


@pytest.mark.parametrize("backend", packaged_names())
def test_who_limits_turns_does_not_warn_that_it_cannot(backend: str) -> None:
    warnings = " ".join(command(backend, max_turns=3).warnings)
    assert ("max_turns is not supported" in warnings) is not REGISTRY.get(backend).limits_turns


def test_a_configured_backend_has_no_model_and_no_turns() -> None:
    policy = Policy(models=["a"], max_turns=1)
    assert refusal(policy, spec(backend="mytool"), is_configured=True) is None


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
