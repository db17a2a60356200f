"""Conventions of the code that no linter knows: who names keys and backends, what is public."""

from __future__ import annotations

import ast
import tomllib

import pytest

import clinvk
from clinvk.backends import packaged_names
from clinvk.store.keys import KEYS
from tests.harness import ROOT


def test_only_the_store_names_keys() -> None:
    for path in ROOT.glob("[cw]*/**/*.py"):
        if path.name != "keys.py":
            text = path.read_text()
            assert not [key for key in KEYS.values() if key.split("{")[0] in text], path


@pytest.mark.parametrize("backend", packaged_names())
def test_a_backends_name_stands_in_its_own_file(backend: str) -> None:
    """It is declared once, in pyproject.toml; nothing else tells one backend from another."""
    for path in ROOT.glob("[cw]*/**/*.py"):
        if path.stem in {backend, f"{backend}_cli"}:
            continue
        strings = {
            node.value
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        assert backend not in strings, path


def test_public_names() -> None:
    assert sorted(clinvk.__all__) == ["__version__"]


def test_each_package_says_that_it_is_typed() -> None:
    """The wheel's classifier promises it; checkers look for the file."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert sorted(packages) == ["clinvk", "workers"]
    for package in packages:
        assert (ROOT / package / "py.typed").is_file(), package
