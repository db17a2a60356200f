"""A sandboxed command ends, fails and is stopped as one without a sandbox."""

from __future__ import annotations

import pytest

from tests.system.sandbox.arena import MECHANISMS, arena

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_ends_are_told_as_without_a_sandbox(mechanism: str) -> None:
    prompts = {
        "code": "echo why >&2; exit 3",
        "high": "exit 173",
        "killed": "kill -9 $$",
        "terminated": "kill -15 $$",
        "none": "exec /nonexistent/program",
    }
    commands = {
        "gone": {"command": ["no-such-program"]},
        "sh": {"command": ["sh"]},
    }
    with arena(0, mechanism) as here:
        tasks = [{"prompt": text, "sandbox_mode": "read-only"} for text in prompts.values()]
        *results, gone = here.run(
            *tasks,
            {"backend": "gone", "prompt": "x", "sandbox_mode": "read-only"},
            backends=commands,
        )
    found = dict(zip(prompts, results, strict=True))
    codes = {name: result["exit_code"] for name, result in found.items()}
    assert codes == {"code": 3, "high": 173, "killed": -9, "terminated": -15, "none": 127}
    assert found["code"]["error"] == "why"
    assert "Killed" not in found["killed"]["error"]
    assert gone["error_kind"] == "not_installed"
    assert not [result for result in found.values() if result.get("warnings")]


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_command_that_is_stopped_may_clean_up_first(mechanism: str) -> None:
    clean = "trap 'echo cleaned > cleaned; exit 0' TERM; while :; do sleep 0.1; done"
    with arena(0, mechanism) as here:
        (result,) = here.run({"prompt": clean, "sandbox_mode": "workspace", "timeout_seconds": 2})
        assert result["status"] == "timeout"
        assert (here.work / "cleaned").read_text() == "cleaned\n"


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_command_that_ignores_its_end_is_killed_with_all_it_started(mechanism: str) -> None:
    with arena(0, mechanism) as here:
        stubborn = f"trap '' TERM; : {here.marker}; sh -c 'sleep 600; : {here.marker}' & sleep 600"
        (result,) = here.run(
            {"prompt": stubborn, "sandbox_mode": "workspace", "timeout_seconds": 1}
        )
        assert result["status"] == "timeout"
        assert here.left() == []


def test_eight_at_once_and_nothing_is_left() -> None:
    with arena(0, "bwrap+landlock") as here:
        tasks = [{"prompt": f"echo {n}", "sandbox_mode": "read-only"} for n in range(8)]
        assert [result["output"] for result in here.run(*tasks)] == [str(n) for n in range(8)]
        assert list((here.base / "tmp").iterdir()) == []


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_closed_network_is_closed(mechanism: str) -> None:
    command = (
        'python3 -c "import socket\nfor kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):\n'
        " try: socket.socket(socket.AF_INET, kind).connect(('127.0.0.1', 9)); print('open')\n"
        ' except OSError as error: print(error.errno)"'
    )
    with arena(0, mechanism) as here:
        (result,) = here.run({"prompt": command, "sandbox_mode": "workspace", "network": "off"})
        refused = {"landlock": "1"}.get(mechanism)  # EPERM from socket(2)
        first, second = result["output"].split()
        assert "open" not in first
        assert (first, second) == (refused, refused) if refused else second in {"101", "open"}


def test_a_directory_of_another_user_is_refused_with_the_reason() -> None:
    with arena(1000, "bwrap+landlock") as theirs, arena(0, "bwrap+landlock") as here:
        theirs.base.chmod(0o755)
        (result,) = here.run(
            {"prompt": "x", "workdir": str(theirs.work), "sandbox_mode": "workspace"}
        )
        assert result["error_kind"] == "invalid"
        assert "belongs to user 1000: in a sandbox, user 0 cannot write there" in result["error"]


@pytest.mark.parametrize("workdir", ["/", "/tmp", "/etc"])
def test_directories_that_hold_more_than_a_task(workdir: str) -> None:
    with arena(0, "bwrap+landlock") as here:
        (result,) = here.run({"prompt": "x", "workdir": workdir, "sandbox_mode": "read-only"})
        assert f"workdir {workdir} cannot be sandboxed" in result["error"]
