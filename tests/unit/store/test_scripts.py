"""The scripts as Lua has to take them."""

from __future__ import annotations

from importlib import import_module

import pytest

from clinvk.store.scripts import operations

ROOM = 25
"""How many names each script can still be given. Lua allows 200 in its main part, and in any block
of that."""


@pytest.mark.parametrize("name", sorted(operations()))
def test_a_script_has_room_for_more_names(name: str) -> None:
    names = ", ".join(f"more_{number}" for number in range(ROOM))
    lua = import_module("lupa.lua51").LuaRuntime()  # the version that servers have
    why_not = lua.eval("function(text) local _, why = loadstring(text) return why end")
    assert why_not(f"local {names}\n{operations()[name].text}") is None
