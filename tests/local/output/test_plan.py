"""A planned command, given to a real shell."""

from __future__ import annotations

import subprocess

import pytest

from clinvk.backends.base import Command
from clinvk.core.spec import TaskSpec
from clinvk.output import plan


@pytest.mark.parametrize(
    "word", ["", "plain", "a b", "it's", "\x1b[2J", "a\nb'c\\d", "é\x07", " x "]
)
def test_a_planned_command_means_in_a_shell_what_would_run(word: str) -> None:
    command = Command(argv=("printf", "%s|", word), stdin=b"", env={"A": word})
    spec = TaskSpec(backend="echo", prompt="x", workdir="/")
    (line,) = plan.lines([plan.Planned(spec, "t: tasks[0].prompt", command)])
    assert not any(ord(char) < 32 for char in line)
    shell = line.removeprefix("[1] echo: ").partition(" < ")[0]
    done = subprocess.run(["bash", "-c", shell], capture_output=True, check=True)
    assert done.stdout.decode() == f"{word}|"
