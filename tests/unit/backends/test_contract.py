"""What every backend keeps, whatever its CLI."""

from __future__ import annotations

import pytest

from clinvk.backends import packaged_names
from tests.unit.backends.commands import REGISTRY, command


@pytest.mark.parametrize("backend", [*packaged_names(), "mytool"])
def test_the_prompt_is_on_stdin_and_nowhere_else(backend: str) -> None:
    built = command(backend)
    assert built.stdin == "-p é".encode()
    assert not [part for part in built.argv if "é" in part]


def test_an_unknown_backend_is_a_key_error() -> None:
    with pytest.raises(KeyError, match='no backend "nope"'):
        REGISTRY.get("nope")
