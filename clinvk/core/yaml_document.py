"""The strict reader of every YAML file: it refuses what YAML allows and nobody means.

Of a duplicate key, YAML silently keeps the last value. An alias that contains itself, or aliases
of aliases, can turn a few lines into more values than fit into memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

MAX_VALUES = 1_000_000
"""The most values that a document may have with its aliases expanded."""
MAX_DEPTH = 100
"""The C loader recurses without a limit, and a deep document would crash the process."""


def load(text: str) -> Any:
    """Parse a YAML document into plain values.

    Raises:
        ValueError: it is not one; the message says where.
    """
    import yaml

    try:
        _check_depth(text)
        value = yaml.load(text, _loader())  # noqa: S506  (a safe loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        what = error.problem or ""
        if what.startswith("but "):  # the second half of a sentence
            what = f"{error.context}, {what}"
        raise ValueError(f"is not valid YAML: {what}{where}") from error
    except (yaml.YAMLError, ValueError) as error:  # a date like 2025-02-30 is a ValueError
        raise ValueError(f"is not valid YAML: {str(error).splitlines()[0]}") from error
    _check_size(value)
    return value


def _check_depth(text: str) -> None:
    import yaml

    depth = 0
    for event in yaml.parse(text, _base()):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise ValueError(f"more than {MAX_DEPTH} levels deep")


def _base() -> Any:
    import yaml

    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@cache
def _loader() -> Any:
    import yaml

    base = _base()

    class Loader(base):  # type: ignore[misc, valid-type]
        """A safe loader that refuses duplicate keys, and merges that multiply without end."""

        def flatten_mapping(self, node: Any) -> None:
            # Merging puts the merged pairs in front of the node's own, so only the first visit
            # sees what was written; another node may merge this one before its own turn.
            if not hasattr(node, "visited"):
                node.visited = True
                for key in _duplicates(node):
                    raise yaml.constructor.ConstructorError(
                        None, None, f'duplicate key "{key.value}"', key.start_mark
                    )
            super().flatten_mapping(node)
            if len(node.value) > MAX_VALUES:
                raise ValueError(f"its merge keys expand to more than {MAX_VALUES} values")

    return Loader


def _duplicates(node: Any) -> Iterator[Any]:
    seen = set()
    for key, _ in node.value:
        if isinstance(key.value, str) and key.value != "<<":
            if (key.tag, key.value) in seen:
                yield key
            seen.add((key.tag, key.value))


def _check_size(value: Any) -> None:
    """Refuse cycles, and documents whose aliases multiply; visits each object once."""
    sizes: dict[int, int] = {}
    entered: set[int] = set()
    waiting = [value]
    while waiting:
        item = waiting[-1]
        children = _children(item)
        if not children or id(item) in sizes:
            waiting.pop()
        elif id(item) in entered:
            waiting.pop()
            sizes[id(item)] = 1 + sum(sizes.get(id(child), 1) for child in children)
        else:
            entered.add(id(item))
            if any(id(child) in entered and id(child) not in sizes for child in children):
                raise ValueError("is not valid YAML: an alias contains itself")
            waiting += children
    if sizes.get(id(value), 1) > MAX_VALUES:
        raise ValueError(f"is too large: its aliases expand to more than {MAX_VALUES} values")


def _children(item: Any) -> list[Any]:
    match item:
        case list():
            return item
        case dict():
            return list(item.values())
        case _:
            return []
