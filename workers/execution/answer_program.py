"""A program of its own, which reads an answer: see `answer_check`.

It takes `{"text", "schema", "cpu_seconds"}` from standard input, and prints `{"data"}`,
`{"problems"}`, or `{"schema"}` with what is wrong with the schema.
"""

from __future__ import annotations

import json
import resource
import sys
from typing import Any

from clinvk.core import answers


def main() -> None:
    """Read one answer."""
    given = json.load(sys.stdin.buffer)
    limit = given["cpu_seconds"]
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
    json.dump(found(given["text"], given["schema"]), sys.stdout)


def found(text: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Return what there is to say of an answer."""
    try:
        answer = answers.read(text, schema)
    except answers.SchemaError as error:
        return {"schema": str(error)}
    return {"problems": list(answer.problems)} if answer.problems else {"data": answer.data}


if __name__ == "__main__":
    main()
