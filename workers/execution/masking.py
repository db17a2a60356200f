"""Keys and tokens, masked in whatever a task says: its steps, its errors, its output.

Masked are the values of variables that a command gets: all that the configuration sets for its
backend (`backends.<name>.env`), those that the backend calls secret (`Command.secret_env`), those
whose names say that they are, and passwords in URLs. Values shorter than `SHORTEST` are not: they
would mask ordinary words.

A value is found as it is, in JSON strings (also in JSON inside of JSON), with its white space
collapsed as in steps, and where the end of a text was cut off in the middle of it. It is not found
in any other encoding, such as base64, nor where two events of a stream have a part of it each; the
text that is made of such events is masked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache

from clinvk.backends.base import ParsedOutput
from clinvk.core.sanitize import one_line
from clinvk.core.steps import Step

MASK = "***"
SHORTEST = 8
"""How many characters of a secret, or of its beginning where it is cut off, are masked."""
CUT = "..."
"""What stands at the end of a text that was cut off."""

SECRET_WORDS = frozenset(
    {"KEY", "APIKEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASSPHRASE", "PAT", "JWT"}
)
"""A variable with one of these words in its name, such as `GEMINI_API_KEY`, is secret."""

_URL_PASSWORD = re.compile(r"://[^/@\s:]*:([^/@\s]+)@")


class Masker:
    """Masks some secrets in any text."""

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {form for secret in secrets for form in _forms(secret) if len(form) >= SHORTEST}
        self._forms = sorted(forms, key=len, reverse=True)

    def text(self, text: str, *, is_cut: bool = False) -> str:
        """Mask a text; with `is_cut` its end, but for `...`, may be the beginning of a secret."""
        for form in self._forms:
            if form in text:
                text = text.replace(form, MASK)
        return self._cut(text) if is_cut and self._forms else text

    def _cut(self, text: str) -> str:
        body = text.removesuffix(CUT)
        for form in self._forms:
            for length in range(min(len(form) - 1, len(body)), SHORTEST - 1, -1):
                if body.endswith(form[:length]):
                    return f"{body[:-length]}{MASK}{text[len(body) :]}"
        return text

    def line(self, text: str) -> str:
        """Mask a text that ends with `...` where it was cut off."""
        return self.text(text, is_cut=text.endswith(CUT))

    def step(self, step: Step) -> Step:
        """Mask a step."""
        text, tool = self.line(step.text), step.tool and self.line(step.tool)
        if text == step.text and tool == step.tool:
            return step
        return replace(step, text=text, tool=tool)

    def parsed(self, parsed: ParsedOutput, *, is_cut: bool = False) -> ParsedOutput:
        """Mask what a CLI meant; `is_cut` says that its output was cut off."""
        if not self._forms:
            return parsed
        return replace(
            parsed,
            output=parsed.output and self.text(parsed.output, is_cut=is_cut),
            structured=parsed.structured and self.text(parsed.structured),
            error=parsed.error and self.line(parsed.error),
            model=parsed.model and self.line(parsed.model),
            session_id=parsed.session_id and self.line(parsed.session_id),
            warnings=tuple(map(self.line, parsed.warnings)),
        )


def _forms(secret: str) -> Iterator[str]:
    """Yield how a secret may be written."""
    secret = secret.strip()
    yield secret
    yield " ".join(one_line(secret).split())
    yield from secret.splitlines()  # such as those of a private key, one at a time
    for ensure_ascii in (True, False):
        escaped = json.dumps(secret, ensure_ascii=ensure_ascii)[1:-1]
        yield escaped
        yield json.dumps(escaped, ensure_ascii=ensure_ascii)[1:-1]


NOTHING = Masker(())
"""Masks nothing."""


@lru_cache(maxsize=64)
def masker(secrets: frozenset[str]) -> Masker:
    """Return the masker of some secrets, which is made once."""
    return Masker(secrets)


def is_secret(name: str) -> bool:
    """Whether the value of a variable of this name is secret."""
    return not SECRET_WORDS.isdisjoint(name.upper().split("_"))


def secrets_in(variables: Mapping[str, str], names: Container[str]) -> frozenset[str]:
    """Return the secrets in an environment, of which those of `names` are some."""
    secrets = {value for name, value in variables.items() if name in names or is_secret(name)}
    passwords = (_URL_PASSWORD.findall(value) for value in variables.values())
    return frozenset(secrets.union(*passwords))
