"""A package with a backend that is broken."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests import harness
from tests.local.test_backend_package import PAGE, environment

__all__ = ["environment"]


@pytest.mark.parametrize("arguments", [["parallel"], ["worker", "--queues", "llm"]])
def test_a_broken_package_is_one_line(
    arguments: list[str], environment: dict[str, str], temporary: Path
) -> None:
    site = Path(environment["PYTHONPATH"].split(os.pathsep)[0])
    (site / "clinvk_llm.py").unlink()
    stdin = '[{"backend": "llm", "prompt": "x"}]'
    done = harness.clinvk(*arguments, stdin=stdin, env=environment)
    (shown,) = re.findall(r"^backend \"llm\" of package.*$", PAGE.read_text(), re.MULTILINE)
    assert (done.stdout, done.stderr, done.status) == ("", shown + "\n", 3)


def test_a_broken_package_that_nobody_names_stops_nothing(
    environment: dict[str, str], temporary: Path
) -> None:
    site = Path(environment["PYTHONPATH"].split(os.pathsep)[0])
    (site / "clinvk_llm.py").write_text("raise ValueError")
    stdin = '[{"backend": "echo", "prompt": "x"}]'
    done = harness.clinvk("parallel", "--quiet", stdin=stdin, env=environment)
    assert (done.stderr, done.status) == ("", 0)
