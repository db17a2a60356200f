"""Which program is the private server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clinvk.core.errors import BrokerError
from clinvk.local import server


def test_a_configured_program_can_be_ordered_from_the_supervisor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    program = tmp_path / "my-server"
    program.touch(mode=0o755)
    for configured in (str(program), "~/my-server"):
        order = server.argv(server.find_server(configured), "/d")
        assert json.loads(json.dumps(order))[0] == str(program)


def test_a_configured_program_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match="is not an executable file"):
        server.find_server(str(tmp_path / "none"))
