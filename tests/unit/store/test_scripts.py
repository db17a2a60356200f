"""How the scripts are put together from their own text and the library."""

from __future__ import annotations

import fakeredis
import pytest

from clinvk.store.scripts import Library, operations

TEXT = """\
-- Says what it is.
local LIMIT = 3  -- as other() has it
local state
local function first(key)
  return redis.call('GET', key .. 'first') or LIMIT
end
local function second(given)
  state = state or given.first
  return first(state)
end
local function other() end
"""


def test_a_script_has_the_definitions_that_it_uses_as_fields_of_one_table() -> None:
    script = Library(TEXT).script("local one = second({})  -- or other()\nreturn one.LIMIT\n")
    assert "function lib.second(given)" in script
    assert "lib.state = lib.state or given.first" in script
    assert "return lib.first(lib.state)" in script
    assert "return redis.call('GET', key .. 'first') or lib.LIMIT" in script
    assert "lib.LIMIT = 3" in script
    assert "lib.other" not in script, "a comment uses nothing"
    assert script.endswith("local one = lib.second({})  -- or other()\nreturn one.LIMIT\n")


def test_a_script_runs_with_what_it_takes_from_the_library() -> None:
    script = Library(TEXT).script("return second({first = 'a'})")
    with pytest.raises(Exception, match="expected"):  # a key that has the name of a definition
        fakeredis.FakeRedis().eval(script, 0)
    script = Library(TEXT).script("local given = {}\ngiven.first = 'a'\nreturn second(given)")
    assert fakeredis.FakeRedis().eval(script, 0) == 3


@pytest.mark.parametrize("name", sorted(operations()))
def test_no_script_uses_the_name_of_a_definition_for_something_else(name: str) -> None:
    compiled = fakeredis.FakeRedis().eval(f"do return 1 end\n{operations()[name].text}", 0)
    assert compiled == 1
