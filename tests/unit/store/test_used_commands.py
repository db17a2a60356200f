"""Which commands the store uses, as read from its code: what the users of a server may do."""

from __future__ import annotations

from clinvk.store.used_commands import (
    READS,
    of_python,
    of_reading_scripts,
    of_script,
    of_scripts,
    reading_scripts,
)


def test_commands_of_scripts_are_found_and_their_options_are_not() -> None:
    found = of_scripts()
    assert {"HSET", "ZADD", "LPOP", "LREM", "RENAME", "DEL", "XADD", "UNLINK"} <= found
    assert not {"NX", "XX", "PX", "LIMIT", "WITHSCORES", "MAXLEN", "BEFORE", "COUNT"} & found


def test_commands_that_take_a_write_back_are_found() -> None:
    assert {"HSET", "HDEL", "RPUSH", "RPOP", "PEXPIRE"} <= of_script("record")
    assert not {"ZADD", "LPUSH", "SET", "DEL"} & of_script("record")


def test_operations_that_write_nothing_are_known() -> None:
    assert {"explain", "count_running", "steps_since"} <= reading_scripts()
    assert not {"finish", "claim", "cancel", "take_requests"} & reading_scripts()
    assert of_reading_scripts() <= READS


def test_commands_of_python_are_found() -> None:
    found = of_python()
    assert {"HGETALL", "XREAD", "ACL WHOAMI", "CLIENT LIST", "EVALSHA", "SCRIPT LOAD"} <= found
    assert not {"PIPELINE", "EXECUTE", "CLOSE", "DRIVERINFO"} & found
