"""`clinvk worker`, up to the point where it becomes a worker."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.fake_fleet import Clinvk

NOBODY = "redis://127.0.0.1:1/0"


def test_a_bad_policy_is_reported_before_the_broker_is_tried(
    clinvk: Clinvk, tmp_path: Path
) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("backends: [claude]\nbackends: ['*']\n")
    (tmp_path / "config.yaml").write_text(f"worker: {{policy: {policy}}}\n")
    ended = clinvk(
        *("worker", "--config", "config.yaml", "--broker", NOBODY, "--queues", "echo"), stdin=None
    )
    assert (ended.status, ended.stdout) == (3, "")
    assert ended.stderr.startswith(f"{policy}: is not valid YAML: ")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--queues", "echo"], "clinvk: no broker: use --broker URL, or set broker_url or "),
        (["--queues", "echo,ecko", "--broker", NOBODY], "clinvk: unknown backend ecko (known: "),
        (["--queues", "echo", "--broker", "localhost"], "clinvk: --broker: must be a URL like "),
        (["--queues", "echo", "--tag", "two words"], "clinvk: --tag: a tag is up to 64 letters, "),
    ],
)
def test_a_command_line_that_cannot_be_served_is_refused(
    clinvk: Clinvk, arguments: list[str], said: str
) -> None:
    ended = clinvk("worker", *arguments, stdin=None)
    assert (ended.status, ended.stdout) == (2, "")
    assert ended.stderr.startswith(said)


def test_a_broker_that_is_not_there_is_exit_4(clinvk: Clinvk) -> None:
    ended = clinvk("worker", "--queues", "echo", "--broker", NOBODY, stdin=None)
    assert (ended.status, ended.stdout) == (4, "")
    assert ended.stderr.startswith(f"clinvk: cannot use the broker {NOBODY}: ")
