"""The command line of bubblewrap: what is mounted, and in which order."""

from __future__ import annotations

from typing import Any

from clinvk.core.network import Network
from tests.unit.workers.execution.sandbox.plans import PRIVATE, plan
from workers.execution.sandbox.bubblewrap import Bound, arguments
from workers.execution.sandbox.plan import CliFiles


def built(*bound: Bound, is_root: bool = False, **fields: Any) -> str:
    """Return the options as one text, so that a test can look for several in a row."""
    argv = arguments("/bin/bwrap", plan(**fields), bound, status_fd=7, report_fd=9, is_root=is_root)
    return " ".join(argv)


def test_what_comes_later_is_on_top() -> None:
    text = built(
        Bound(5, "/tmp/work", True),
        Bound(6, "/tmp/work/.git/hooks", False),
        cli=CliFiles(
            readable=("/home/u/.nvm",),
            settings=("/home/u/.codex/config.toml",),
            credentials=("/home/u/.codex/auth.json",),
        ),
    )
    order = [
        "--ro-bind /usr /usr --symlink usr/bin /bin",
        f"--bind {PRIVATE.temporary} /tmp",
        f"--bind {PRIVATE.home} /home/u",
        "--ro-bind-try /home/u/.nvm /home/u/.nvm",
        "--ro-bind-try /home/u/.codex/config.toml /home/u/.codex/config.toml",
        "--bind-try /home/u/.codex/auth.json /home/u/.codex/auth.json",
        "--bind-fd 5 /tmp/work --ro-bind-fd 6 /tmp/work/.git/hooks",
        "--remount-ro / --chdir /tmp/work",
        "--json-status-fd 7 --",
    ]
    places = [text.index(option) for option in order]
    assert places == sorted(places)


def test_namespaces_and_what_they_forbid() -> None:
    text = built()
    for option in ("--unshare-user", "--disable-userns", "--unshare-pid", "--cap-drop ALL"):
        assert f" {option} " in text
    assert "--die-with-parent" in text
    assert "--uid" not in text
    assert "--uid 1000 --gid 1000" in built(is_root=True)


def test_only_a_closed_network_is_another_network() -> None:
    assert "--unshare-net" not in built()
    assert "--unshare-net" not in built(network=Network((443,)))
    assert "--unshare-net" in built(network=Network(()))


def test_what_is_readable_already_is_not_mounted_again() -> None:
    text = built(cli=CliFiles(readable=("/opt/x/lib/a", "/usr/local/x", "/opt/x")))
    assert "/usr/local/x" not in text
    assert "/opt/x/lib/a" not in text
    assert "--ro-bind-try /opt/x /opt/x" in text


def test_a_directory_of_the_clis_own_outside_the_home() -> None:
    text = built(cli=CliFiles(directories=(("CODEX_HOME", "/srv/codex"), ("X", "/home/u/.x"))))
    assert f"--bind {PRIVATE.state(0)} /srv/codex" in text
    assert "/home/u/.x" not in text


def test_without_a_working_directory_it_runs_among_its_temporary_files() -> None:
    assert "--chdir /tmp " in built(workdir=None)


def test_the_report_never_takes_the_descriptor_that_it_needs() -> None:
    assert "exec 8>&2" in built()
    argv = arguments("bwrap", plan(), [], status_fd=7, report_fd=12, is_root=False)
    assert "exec 9>&2" in argv[-2]


def test_sessions_that_are_kept_are_in_the_home_and_live_elsewhere() -> None:
    cli = CliFiles(sessions=("/home/u/.claude/projects",))
    assert "/home/u/.claude" not in built(cli=cli)
    text = built(cli=cli, kept="/srv/kept/1")
    home, sessions = (
        text.index(option)
        for option in (
            f"--bind {PRIVATE.home} /home/u",
            "--bind /srv/kept/1/0 /home/u/.claude/projects",
        )
    )
    assert home < sessions
