"""A backend from configuration: its fixed command line, and its answer."""

from __future__ import annotations

from clinvk.core.spec import ErrorKind
from tests.unit.backends.commands import OPTIONS, command, parse, unsupported


def test_its_command_line_is_the_configured_one() -> None:
    built = command("mytool", extra=["--fast"])
    assert built.argv == ("mytool", "--stdin", "--fast")
    assert built.env == {"KEY": "secret"}
    assert built.secret_env == {"KEY"}
    assert unsupported("mytool") == set(OPTIONS)


def test_standard_output_is_the_answer() -> None:
    assert parse("mytool", 0, b"answer\n\n").output == "answer"
    assert parse("mytool", 0, b"").error_kind is None


def test_the_last_words_are_the_error() -> None:
    failed = parse("mytool", 3, b"half", b"note\nTraceback\nValueError: no\n")
    assert (failed.error, failed.error_kind) == ("ValueError: no", ErrorKind.FAILED)
    assert parse("mytool", -9, b"").error == "ended by signal 9 without an answer"
    assert parse("mytool", 4, b"").error == "exited with code 4 without an answer"
