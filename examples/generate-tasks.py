#!/usr/bin/env python3
"""Print a task for each Python file below a directory: generate-tasks.py DIR | clinvk parallel."""

import json
import sys
from pathlib import Path

for path in sorted(Path(sys.argv[1]).rglob("*.py")):
    task = {"backend": "echo", "name": path.name, "prompt": f"Write unit tests for {path}"}
    print(json.dumps(task))
