"""The operations as Lua scripts: one file each in `lua/`, what they share in `lua/lib/`.

A script opens with its contract, `-- name(parameter, other, rest...) -> answer`, from which its
arguments get their names: `rest...` is a list of all that are left. `Connection.call` passes them
by these names, so that a call which does not fit its script fails at once.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from typing import Any

from clinvk.store.keys import lua_functions

LIBRARY = (
    "transaction",
    "records",
    "lifetimes",
    "workers",
    "gates",
    "tries",
    "pending",
    "ledger",
    "budgets",
    "fair_queues",
    "admission",
    "submission",
    "earlier",
    "completion",
    "capacity",
    "steps",
    "audit",
)
"""Files of `lua/lib/`, each after those that it uses."""

CONTRACT = re.compile(r"-- (\w+)\((.*?)\)\s", re.DOTALL)

ENVELOPE = """
local function rest(first)
  local values = {{}}
  for i = first, #ARGV do values[#values + 1] = ARGV[i] end
  return values
end
local function operation()
{bindings}
{body}
end
local answer
local is_done, failure = pcall(function()
  answer = operation()
  if #discarded > 0 then redis.call('UNLINK', unpack(discarded)) end
end)
if is_done then return answer end
roll_back(0)
rejoin_fair_queues()
return redis.error_reply(message_of(failure))
"""


@dataclass(frozen=True)
class Operation:
    """One script. `parameters` are the names of its arguments; the last may end in `...`."""

    name: str
    parameters: Sequence[str]
    text: str

    @classmethod
    def parse(cls, name: str, body: str, library: str) -> Operation:
        """Make an operation of its file.

        Raises:
            ValueError: the file does not open with the contract of an operation of this name.
        """
        contract = CONTRACT.match(body)
        if contract is None or contract[1] != name:
            raise ValueError(f"{name}.lua does not open with its contract: -- {name}(...) -> ...")
        parameters = tuple(re.findall(r"\w+(?:\.\.\.)?", contract[2]))
        bindings = "\n".join(
            _binding(position, parameter) for position, parameter in enumerate(parameters, 1)
        )
        return cls(name, parameters, library + ENVELOPE.format(bindings=bindings, body=body))

    @cached_property
    def sha(self) -> str:
        """The name by which a server knows the script once it is loaded."""
        return hashlib.sha1(self.text.encode()).hexdigest()  # noqa: S324  (so Redis names scripts)

    def arguments(self, given: Mapping[str, Any]) -> list[Any]:
        """Put named arguments into the order of the script.

        Raises:
            TypeError: one is missing, or is none of the script's.
        """
        if len(given) != len(self.parameters):
            raise TypeError(f"{self.name} takes {self.parameters}, not {tuple(given)}")
        values: list[Any] = []
        for parameter in self.parameters:
            name = parameter.removesuffix("...")
            if name not in given:
                raise TypeError(f"{self.name} takes {self.parameters}, not {tuple(given)}")
            if name is parameter:
                values.append(given[name])
            else:
                values.extend(given[name])
        return values


def _binding(position: int, parameter: str) -> str:
    if parameter.endswith("..."):
        return f"local {parameter[:-3]} = rest({position})"
    return f"local {parameter} = ARGV[{position}]"


def work_of(name: str) -> str:
    """Return an operation's own text, with what that uses of the library."""
    folder = resources.files("clinvk.store") / "lua"
    body = (folder / f"{name}.lua").read_text()
    return needed(body, _library()) + body


WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Definition:
    """A part of the library: the names that it gives, and the words that it is written in."""

    text: str
    names: frozenset[str]
    words: frozenset[str]


def definitions(library: str) -> list[Definition]:
    """Divide the library into its definitions, in order: each begins with `local` in a line."""
    return [
        Definition(text, frozenset(WORD.findall(header[1])), frozenset(WORD.findall(text)))
        for text in re.split(r"^(?=local )", library, flags=re.MULTILINE)
        if (header := re.match(r"local (?:function )?(\w+(?:, \w+)*)", text))
    ]


def needed(body: str, library: Sequence[Definition]) -> str:
    """Return those definitions that a script uses, and those that these use.

    A server makes a script's functions anew at each call, so one that is not used costs time.
    """
    used, kept = set(WORD.findall(body)), list[str]()
    for definition in reversed(library):  # each uses only those before it
        if definition.names & used:
            used |= definition.words
            kept.append(definition.text)
    return "".join(reversed(kept))


def _library() -> list[Definition]:
    folder = resources.files("clinvk.store") / "lua" / "lib"
    return definitions(
        lua_functions() + "".join((folder / f"{name}.lua").read_text() + "\n" for name in LIBRARY)
    )


@cache
def operations() -> Mapping[str, Operation]:
    """Read all operations, by name."""
    folder = resources.files("clinvk.store") / "lua"
    library, found = _library(), {}
    for path in folder.iterdir():
        if path.name.endswith(".lua"):
            name, body = path.name.removesuffix(".lua"), path.read_text()
            found[name] = Operation.parse(name, body, needed(ENVELOPE + body, library))
    return found
