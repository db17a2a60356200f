"""JSON Schemas of answers, as CLIs take them; `clinvk.core.answers` validates against them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from clinvk.core.nesting import depth

Schema = Mapping[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
DEEPEST = 100
"""How deeply an answer or a schema may be nested: every reader of JSON can follow that."""
STRICT_KEYWORDS = frozenset(
    {
        *("type", "properties", "required", "additionalProperties", "items", "enum", "const"),
        *("anyOf", "$ref", "$defs", "definitions", "title", "description", "pattern", "format"),
        *("multipleOf", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
        *("minItems", "maxItems"),
    }
)
"""What the strict mode of OpenAI's API takes; a request with any other keyword is refused."""


def to_piece(schema: Schema) -> bytes:
    """Encode a schema as it is stored beside the tasks that have it."""
    return json.dumps(schema, separators=(",", ":")).encode()


def from_piece(content: bytes) -> dict[str, Any] | None:
    """Decode what anybody may have written; None where it is no schema."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and depth(found, DEEPEST) <= DEEPEST else None


def is_object(schema: Schema) -> bool:
    """Whether a schema is for objects alone, as CLIs want it."""
    return schema.get("type") == "object"


def is_strict(schema: Schema) -> bool:
    """Whether the strict mode of OpenAI's API takes a schema."""
    return is_object(schema) and "anyOf" not in schema and _is_strict(_without_dialect(schema))


def text_of(schema: Schema) -> str:
    """Return a schema as text, without the name of its dialect, which not every CLI knows."""
    return json.dumps(_without_dialect(schema), ensure_ascii=False, separators=(",", ":"))


def _without_dialect(schema: Schema) -> Schema:
    return {name: value for name, value in schema.items() if name != "$schema"}


def _is_strict(schema: Any) -> bool:
    if not isinstance(schema, dict) or not STRICT_KEYWORDS.issuperset(schema):
        return False
    names = schema.get("properties", {})
    if "properties" in schema or schema.get("type") == "object":
        if schema.get("additionalProperties") is not False:
            return False
        if not _are_all(names, schema.get("required", [])):
            return False
    maps = (names, schema.get("$defs", {}), schema.get("definitions", {}))
    if not all(isinstance(each, dict) for each in maps):
        return False
    inner = [value for each in maps for value in each.values()]
    inner += schema["anyOf"] if isinstance(schema.get("anyOf"), list) else []
    inner += [schema["items"]] if "items" in schema else []
    return all(map(_is_strict, inner))


def _are_all(names: Any, required: Any) -> bool:
    is_list = isinstance(required, list) and all(isinstance(name, str) for name in required)
    return is_list and isinstance(names, dict) and names.keys() == set(required)
