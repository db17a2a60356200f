"""What the documentation calls `claude`, `codex` and `gemini`: answers as the recorded CLI did.

`fakecli.py TRANSCRIPT`, then the arguments that clinvk gives the CLI.
"""

import json
import sys
from pathlib import Path

recorded = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
if "--version" in sys.argv:
    sys.stdout.write(recorded["version"] + "\n")
else:
    sys.stdin.buffer.read()
    sys.stdout.write(recorded["stdout"])
    sys.exit(recorded["returncode"])
