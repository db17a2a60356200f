"""No attempt to leave a sandbox succeeds, in any mode, by any mechanism, as root or not.

What a mechanism leaves open it must say, in the result: each such gap is named here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.system.sandbox import escapes
from tests.system.sandbox.arena import MECHANISMS, USERS, Arena, arena

pytestmark = pytest.mark.timeout(300)

GAP_OF: Mapping[str, str] = {
    "connect_to_the_server": "path-sockets",
    "connect_to_an_abstract_socket": "abstract-sockets",
    "plant_a_git_hook": "git-hooks",
    "change_permissions": "metadata",
}
"""The attempts that may succeed where the result names the gap."""


def contents(folder: Path) -> dict[str, bytes]:
    """Everything below a directory, with the permissions of files."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in sorted(folder.rglob("*"))
    }


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("mode", ["read-only", "workspace"])
def test_no_attempt_succeeds(mode: str, mechanism: str, user: int) -> None:
    with arena(user, mechanism) as here:
        outside = contents(here.home), contents(here.sibling)
        world = json.dumps({**here.world(mode), "worker": "@W", "neighbour": "@N"})
        prompt = world.replace('"@W"', "@WORKER@").replace('"@N"', "@NEIGHBOUR@")
        (result,) = here.run({"backend": "escapes", "sandbox_mode": mode, "prompt": prompt})
        assert result.get("error") is None
        assert result["sandbox"]["by"] == mechanism
        gaps = result["sandbox"].get("gaps", [])
        found = json.loads(result["output"])
        assert set(found) == {attempt.__name__ for attempt in escapes.ATTEMPTS}
        succeeded = {name: how for name, how in found.items() if how is not None}
        assert {n: how for n, how in succeeded.items() if GAP_OF.get(n) not in gaps} == {}
        assert (contents(here.home), contents(here.sibling)) == outside
        assert not [p for p in ("/dev/shm", "/var/tmp", "/tmp") if leftover(here, p)]
        if "git-hooks" not in gaps:
            assert not (here.work / ".git/hooks/pre-commit").exists()
            assert "fsmonitor" not in (here.work / ".git/config").read_text()
        if "orphans" not in gaps:
            assert here.left() == []
        assert any("left processes running" in warning for warning in result["warnings"])
        assert list((here.base / "tmp").iterdir()) == []


def leftover(here: Arena, folder: str) -> bool:
    """Whether the task made its file in a directory that all processes share."""
    path = Path(folder, here.marker)
    return path.exists() and path != here.base
