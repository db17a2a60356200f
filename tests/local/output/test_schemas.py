"""What `clinvk parallel --json` really prints is what its JSON schema says."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from tests import harness
from tools import schemas

TASKS = [
    {"backend": "echo", "prompt": "x", "id": "a", "name": "b", "tags": ["t"], "meta": {"k": "v"}},
    {"backend": "echo", "prompt": "[fail no]"},
    {"backend": "echo", "prompt": "[wait 30]", "timeout_seconds": 0.1},
    {"backend": "echo", "prompt": "[wait 30]", "max_tokens": 5},
]


@pytest.mark.parametrize("options", [[], ["--fail-fast"]])
def test_a_real_document_fits(options: list[str], temporary: Path) -> None:
    tasks = TASKS if options else TASKS[:3]
    done = harness.clinvk("parallel", "--json", *options, stdin=json.dumps(tasks))
    document = json.loads(done.stdout)
    statuses = {entry["status"] for entry in document["results"]}
    assert ("canceled" in statuses) == bool(options)
    jsonschema.validate(document, schemas.results())
