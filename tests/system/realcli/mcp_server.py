"""An MCP server with one tool, over stdin and stdout, which says what it was given."""

from __future__ import annotations

import json
import sys

TOOL = {
    "name": "say",
    "description": "Say something.",
    "inputSchema": {"type": "object", "properties": {"text": {"type": "string"}}},
}


def main() -> None:
    """Answer requests until there are no more."""
    for line in sys.stdin:
        request = json.loads(line)
        if "id" in request:
            answer = {"jsonrpc": "2.0", "id": request["id"], "result": result(request)}
            print(json.dumps(answer), flush=True)


def result(request: dict[str, object]) -> dict[str, object]:
    """Return the result of one request."""
    parameters = request.get("params")
    given = parameters if isinstance(parameters, dict) else {}
    match request["method"]:
        case "initialize":
            return {
                "protocolVersion": given["protocolVersion"],
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "notes", "version": "1"},
            }
        case "tools/list":
            return {"tools": [TOOL]}
        case "tools/call":
            said = f"the server says {given['arguments']['text']}"
            return {"content": [{"type": "text", "text": said}]}
        case _:
            return {}


if __name__ == "__main__":
    main()
