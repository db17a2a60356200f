"""The operations as Lua scripts: one file each in `lua/`, what they share in `lua/lib/`.

A script opens with its contract, `-- name(parameter, other, rest...) -> answer`, from which its
arguments get their names: `rest...` is a list of all that are left. `Connection.call` passes them
by these names, so that a call which does not fit its script fails at once.

A server runs a script from its first line at each call, and so makes the functions of the library
anew. As local variables they would cost more than all that a script does: for each variable that a
function takes from around it, Lua searches all those that others have taken. So a script has them
as fields of one table, `lib`. What is written in `lua/` says nothing of that; it may only not use
the name of a definition for another variable, parameter or key, or its script cannot be compiled.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
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
    def parse(cls, name: str, body: str, library: Library) -> Operation:
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
        script = library.script(ENVELOPE.format(bindings=bindings, body=body))
        return cls(name, parameters, script)

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
    body, library = _body(name), _library()
    return "".join(each.source for each in library.needed(library.rewritten(body)[1])) + body


TOKEN = re.compile(
    r"""
    (--.* | '(?:\\.|[^'\\])*' | "(?:\\.|[^"\\])*"
    | \.\.\.? | [.:]\w+             # dots, and a field, which is never a definition
    | \w+)
    """,
    re.VERBOSE,
)
"""What of Lua's text may be, contain or look like a name."""
HEADER = re.compile(r"local (?:(function) )?(\w+(?:, \w+)*)( =)?")


@dataclass(frozen=True, slots=True)
class Definition:
    """A part of the library: its text, and the names of the definitions that it uses.

    `made` is what makes it in a script.
    """

    source: str
    used: frozenset[str]
    made: str


class Library:
    """What scripts share: definitions, each of which begins with `local` in a line."""

    def __init__(self, text: str) -> None:
        self._parts = [
            (part, header, header[2].split(", "))
            for part in re.split(r"^(?=local )", text, flags=re.MULTILINE)
            if (header := HEADER.match(part))
        ]
        self._renamed = {name: f"lib.{name}" for _, _, names in self._parts for name in names}
        self._definition = cache(self._read)

    def _read(self, place: int) -> Definition:
        part, header, _ = self._parts[place]
        has_value = header[1] or header[3]
        text = part.removeprefix("local ") if has_value else part[header.end() :]
        made, used = self.rewritten(text)
        return Definition(part, used, made)

    def rewritten(self, text: str) -> tuple[str, frozenset[str]]:
        """Have a text take definitions out of the library; returns it, and which it uses."""
        tokens = TOKEN.split(text)
        renamed = self._renamed
        used = frozenset(renamed.keys() & set(tokens))
        return "".join([renamed.get(token, token) for token in tokens]), used

    def needed(self, used: Collection[str]) -> list[Definition]:
        """Return the definitions of these names, and those that these use."""
        left, kept = set(used), list[Definition]()
        for place in reversed(range(len(self._parts))):  # each uses only those before it
            if not left.isdisjoint(self._parts[place][2]):
                definition = self._definition(place)
                left |= definition.used
                kept.append(definition)
        return kept[::-1]

    def script(self, text: str) -> str:
        """Return a script with what it uses of the library."""
        text, used = self.rewritten(text)
        made = "".join(each.made for each in self.needed(used))
        return f"local lib = {{}}\n{made}{text}"


def _body(name: str) -> str:
    return (resources.files("clinvk.store") / "lua" / f"{name}.lua").read_text()


@cache
def _library() -> Library:
    folder = resources.files("clinvk.store") / "lua" / "lib"
    return Library(
        lua_functions() + "".join((folder / f"{name}.lua").read_text() + "\n" for name in LIBRARY)
    )


@cache
def operation(name: str) -> Operation:
    """Read an operation.

    Raises:
        FileNotFoundError: there is none of this name.
    """
    return Operation.parse(name, _body(name), _library())


@cache
def operations() -> Mapping[str, Operation]:
    """Read all operations, by name; a process uses but a few."""
    folder = resources.files("clinvk.store") / "lua"
    names = [
        path.name.removesuffix(".lua") for path in folder.iterdir() if path.name.endswith(".lua")
    ]
    return {name: operation(name) for name in names}
