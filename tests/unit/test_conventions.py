"""Conventions of the code that no linter knows: who names keys and backends, what is public."""

from __future__ import annotations

import ast
import dataclasses
import re
import tomllib
from functools import cache
from pathlib import Path

import pytest

import clinvk
from clinvk.api import Options, Task
from clinvk.backends import packaged_names
from clinvk.cli.options import take_paths
from clinvk.cli.submit import parallel
from clinvk.commands.options import ParallelOptions
from clinvk.store.keys import KEYS
from clinvk.taskfile.task_validation import TASK_FIELDS
from tests.harness import ROOT


def test_only_the_store_names_keys() -> None:
    for path in ROOT.glob("[cw]*/**/*.py"):
        if path.name != "keys.py":
            text = path.read_text()
            assert not [key for key in KEYS.values() if key.split("{")[0] in text], path


def test_only_one_place_lists_what_others_may_remove() -> None:
    """`Path.glob` fails before Python 3.13 where a directory goes while it is looked at."""
    for path in ROOT.glob("[cw]*/**/*.py"):
        assert not re.search(r"\.r?glob\(", path.read_text().replace("glob.glob(", "")), path


@cache
def _strings(path: Path) -> frozenset[str]:
    """The texts in a file's code."""
    return frozenset(
        node.value
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


@pytest.mark.parametrize("backend", packaged_names())
def test_a_backends_name_stands_in_its_own_file(backend: str) -> None:
    """It is declared once, in pyproject.toml; nothing else tells one backend from another."""
    for path in ROOT.glob("[cw]*/**/*.py"):
        if path.stem in {backend, f"{backend}_cli"}:
            continue
        assert backend not in _strings(path), path


def test_public_names() -> None:
    """What is here is promised: it changes only with a line in CHANGELOG.md."""
    assert clinvk.__all__ == [
        *("BrokerError", "ClinvkError", "ConfigError", "ErrorKind", "Event", "Options"),
        *("Results", "Run", "Step", "StepKind", "Stream", "Task", "TaskFileError", "TaskResult"),
        *("TaskStatus", "Usage", "UsageError", "__version__", "run", "run_async", "stream"),
    ]
    assert all(getattr(clinvk, name) is not None for name in clinvk.__all__)
    assert dir(clinvk) == clinvk.__all__
    with pytest.raises(AttributeError, match="no attribute 'runn'"):
        _ = clinvk.runn


def test_each_package_says_that_it_is_typed() -> None:
    """The wheel's classifier promises it; checkers look for the file."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert sorted(packages) == ["clinvk", "workers"]
    for package in packages:
        assert (ROOT / package / "py.typed").is_file(), package


def test_each_promise_of_security_names_tests_that_exist() -> None:
    """docs/security.md: what no test holds is not promised."""
    page = (ROOT / "docs" / "security.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    promises = [row for row in rows if row != "| Promise | Held by |"]
    assert len(promises) > 10
    for promise in promises:
        held_by = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", promise)
        assert held_by, promise
        for path, name in held_by:
            module = ast.parse((ROOT / path).read_text())
            tests = {node.name for node in module.body if isinstance(node, ast.FunctionDef)}
            assert not name or name in tests, f"{path}::{name}"


IDEAS = {
    "backends/contract",
    "backends/transcripts",
    "commands/refusals",
    "output/schemas",
    "store/model/machine",
    "store/ordered",
    "store/windows",
}
"""Unit tests of something that is in no module alone."""


def test_unit_tests_are_called_like_what_they_test() -> None:
    """`tests/unit/output/forms/test_live.py` tests `clinvk/output/forms/live.py`."""
    unit = ROOT / "tests" / "unit"
    strays = set()
    for path in unit.glob("*/**/test_*.py"):
        folder = path.parent.relative_to(unit)
        package = ROOT / folder if folder.parts[0] == "workers" else ROOT / "clinvk" / folder
        tested = path.stem.removeprefix("test_")
        if not any(package.glob(f"**/{tested}.*")) and not (package / tested).is_dir():
            strays.add(f"{folder}/{tested}")
    assert strays == IDEAS


def test_tests_of_the_store_run_over_a_real_server_too() -> None:
    """A unit test with the fixture `store` or `redis_client` has a twin in `tests/local/store`."""
    for path in (ROOT / "tests" / "unit" / "store").rglob("test_*.py"):
        if "store: Store" in path.read_text() or "redis_client" in path.read_text():
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            twins = [
                twin
                for twin in (ROOT / "tests" / "local" / "store").glob("test_*.py")
                if f"from {module} import *" in twin.read_text()
            ]
            assert len(twins) == 1, f"{module} has no twin"


def test_the_library_has_every_field_of_a_task_and_every_option() -> None:
    """A new field of a task file, or option of `clinvk parallel`, is one of `clinvk.api`, too."""
    fields = {entry.name for entry in dataclasses.fields(Task)}
    assert fields == set(TASK_FIELDS), "see Task in clinvk/api.py"
    printed = {"as_json", "quiet", "dry_run", "estimate", "no_step_summary"}
    elsewhere = {"detach", "prompt", "each", "each_line", "backend"}
    options = {str(parameter.name) for parameter in parallel.params}
    wanted = options - printed - elsewhere
    assert set(Options.__annotations__) == wanted | {"show", "requires"}, (
        "see Options in clinvk/api.py"
    )
    given = take_paths(parallel.make_context("parallel", []).params)
    del given["config"], given["paths"]
    assert ParallelOptions(**given) == ParallelOptions()
