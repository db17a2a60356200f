"""Record how the real CLIs end: `python -m tests.system.realcli.corpus`.

Writes `tests/outcomes/<backend>.jsonl`, a line for each case: what the CLI printed, when and in
which time zone it ended, and when the API said that the limit opens. `expected.json` beside them
says what each means. What the fake API cannot make a CLI say is in `quotes.json`, from the CLIs.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from clinvk.backends import BackendRegistry
from clinvk.core.spec import TaskSpec
from tests import harness
from tests.system.realcli import fakeapi, limits, toolcalls
from tests.system.realcli.record import clean, quiet
from tests.system.realcli.sealed import SUBSCRIPTION, environment, seal
from tests.system.realcli.toolcalls import Call, edit, read, shell, write

Json = dict[str, Any]

FOLDER = harness.ROOT / "tests" / "outcomes"
QUOTED_AT = "2026-11-24T22:00:30+00:00"
FREE: dict[str, dict[str, Any]] = {
    "claude": {"approval_mode": "auto", "allowed_tools": ["Bash", "Edit", "Write"]},
    "codex": {"approval_mode": "none", "sandbox_mode": "full"},
    "gemini": {"approval_mode": "none", "model": "gemini-3.8-flash"},
    "copilot": {"approval_mode": "none"},
    "opencode": {"approval_mode": "none"},
}
"""What lets each CLI use all of its tools."""


@dataclass(frozen=True)
class Case:
    """A prompt for the fake API, and where the CLI runs; `after_seconds` it is killed."""

    name: str
    limit: str = ""
    calls: tuple[Call, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    zone: str = "UTC"
    scenario: str = ""
    after_seconds: float | None = None
    refused: bool = False

    @property
    def prompt(self) -> str:
        """The prompt."""
        words = toolcalls.prompt("x", *self.calls)
        words += f" limit:{self.limit}" if self.limit else ""
        return words + (f" scenario:{self.scenario}" if self.scenario else "")


def _each(names: Mapping[str, Any], **options: Any) -> Iterator[Case]:
    for name in names:
        yield Case(name, limit=name, **options)


_KEY_ONLY = (
    *("credit", "spend_limit", "billing", "api_overloaded", "api_error", "gateway"),
    *("unavailable", "key", "forbidden", "no_model", "bad_request", "prompt_too_long"),
    *("too_large", "stream_overloaded", "malformed", "burst_after_9000"),
)
_RETRY = ["-c", "model_providers.fake.stream_max_retries=1"]
_SHELL = (shell("echo done > made.txt"),)
_READ = (write("a.txt", "a line\n"), read("a.txt"))
_OF_OPENCODE = ("chat_free", "chat_go")
_LOOK = (read("/etc/hostname"),)
CASES: dict[str, list[Case]] = {
    "claude": [
        *_each({n: 0 for n in limits.ANTHROPIC if n not in _KEY_ONLY}, env=SUBSCRIPTION),
        *_each(dict.fromkeys(_KEY_ONLY, 0)),
        Case("key_session", "session"),
        Case("key_burst", "burst"),
        Case("key_burst_after_5", "burst_after_5"),
        Case("subscription_overloaded", "api_overloaded", env=SUBSCRIPTION),
        Case("subscription_credit", "credit", env=SUBSCRIPTION),
        Case("subscription_login", "key", env=SUBSCRIPTION),
        Case("new_york", "session", env=SUBSCRIPTION, zone="America/New_York"),
        Case("kolkata", "weekly", env=SUBSCRIPTION, zone="Asia/Kolkata"),
        Case("session_after_shell", "session", _SHELL, SUBSCRIPTION),
        Case("session_after_look", "session", _LOOK, SUBSCRIPTION),
        Case("overloaded_after_write", "api_overloaded", _READ),
        Case("refused", refused=True),
    ],
    "codex": [
        *_each(limits.OPENAI),
        Case("new_york", "half_hour", zone="America/New_York"),
        Case("kolkata", "plus", zone="Asia/Kolkata"),
        Case("london_week", "pro", zone="Europe/London"),
        Case("plus_after_shell", "plus", _SHELL),
        Case("no_capacity_after_write", "no_capacity", _READ),
        Case("refused", refused=True, after_seconds=8),
        Case("waits_for_rate", "stream_rate", options={"extra": _RETRY}, after_seconds=8),
    ],
    "gemini": [
        *_each(limits.GOOGLE),
        Case("new_york", "window", zone="America/New_York"),
        Case("day_after_shell", "day", _SHELL),
        Case("day_after_look", "day", (read("a.txt"),)),
        Case("overloaded_after_write", "google_overloaded", (write("b.txt", "b\n"),)),
        Case("refused", refused=True),
    ],
    "copilot": [
        *_each({name: 0 for name in limits.CHAT if name not in _OF_OPENCODE}, after_seconds=40),
        Case("rate_after_shell", "chat_rate_after_9000", _SHELL),
        Case("refused", refused=True, after_seconds=40),
        Case("no_such_argument", options={"extra": ["--no-such-flag"]}),
        Case("waits", scenario="slow", after_seconds=12),
    ],
    "opencode": [
        *_each(limits.CHAT),
        Case("kolkata", "chat_rate_after_9000", zone="Asia/Kolkata"),
        Case("rate_after_shell", "chat_rate", _SHELL),
        Case("overloaded_after_write", "chat_503", _READ),
        Case("refused", refused=True),
        Case("no_such_model", options={"model": "fake/none"}),
        Case("waits", scenario="slow", after_seconds=12),
    ],
}

EVERYWHERE = [
    Case("answer"),
    Case("shell_and_answer", calls=_SHELL),
    Case("write_and_answer", calls=_READ),
    Case("edit_and_answer", calls=(*_READ, edit("a.txt", "a line", "another line"))),
    Case("look_and_answer", calls=_LOOK),
    Case("unknown_tool", calls=(toolcalls.tool("mcp__files__put", path="x"),)),
    Case("unanswered", scenario="cut"),
    Case("refusal", scenario="refusal"),
    Case("silence", scenario="empty"),
]
"""Cases of every CLI."""


def record(backend: str, case: Case, url: str) -> Json:
    """Run a case and return its line."""
    options = {**FREE[backend], **case.options} if case.calls else dict(case.options)
    if backend == "gemini":
        options["model"] = "gemini-3.8-flash"
    spec = TaskSpec(backend=backend, prompt=case.prompt, **options)
    own = BackendRegistry.from_config({}).get(backend)
    command = own.command(spec)
    with tempfile.TemporaryDirectory() as home:
        workdir = Path(home) / "work"
        workdir.mkdir()
        base = {**environment(Path(home), url), **quiet(own)}
        variables = {**base, **command.env, **case.env, "TZ": case.zone}
        process = subprocess.Popen(
            command.argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=workdir,
            env={name: value for name, value in variables.items() if value},
            start_new_session=True,
        )
        stdout, stderr = _end(process, command.stdin, case.after_seconds)
        ended_at = datetime.now(ZoneInfo(case.zone))
        return {
            "returncode": process.returncode,
            "at": ended_at.isoformat(),
            "zone": case.zone,
            "stdout": [_compact(line) for line in clean(stdout, home).splitlines()],
            "stderr": clean(stderr, home)[-1000:],
        }


def _end(
    process: subprocess.Popen[bytes], prompt: bytes, after_seconds: float | None
) -> tuple[bytes, bytes]:
    try:
        return process.communicate(prompt, timeout=after_seconds or 120)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGTERM)
        return process.communicate()


_FILLERS = ("interactionId", "requestFingerprint", "skills", "toolTelemetry", "transformedContent")


def _compact(line: str) -> Any:
    """Return an event without what only fills the file; another line as it is."""
    try:
        event = json.loads(line)
    except ValueError:
        return line
    if event.get("subtype") == "init":
        event = {name: event[name] for name in ("type", "subtype", "cwd", "session_id", "model")}
    if isinstance(event.get("data"), dict):  # copilot's, with much beside it
        event["data"] = {n: value for n, value in event["data"].items() if n not in _FILLERS}
        event = {n: value for n, value in event.items() if n not in {"id", "parentId", "ephemeral"}}
    return {name: value for name, value in event.items() if name not in {"uuid", "request_id"}}


def quoted(backend: str, quote: Json) -> Json:
    """Return the line of a text, with the events in which the CLI would print it."""
    text = quote["text"]
    blocks = [{"type": "text", "text": text}]
    stdout: dict[str, list[Json]] = {
        "claude": [
            {"type": "assistant", "message": {"content": blocks}, "error": quote.get("error")},
            {"type": "result", "subtype": "success", "is_error": True, "result": text},
        ],
        "codex": [
            {"type": "error", "message": text},
            {"type": "turn.failed", "error": {"message": text}},
        ],
        "gemini": [{"type": "result", "status": "error", "error": {"message": text}}],
        "copilot": [{"type": "session.error", "data": {"message": text}}],
        "opencode": [{"type": "error", "error": {"name": "APIError", "data": {"message": text}}}],
    }
    return {
        "name": quote["name"],
        "origin": f"quoted from {quote['origin']}",
        "returncode": 173 if backend == "gemini" else 1,
        "at": QUOTED_AT,
        "zone": "UTC",
        "stdout": stdout[backend],
        "stderr": "",
    }


def _closed_port() -> str:
    return f"http://127.0.0.1:{harness.free_port()}"


def lines(backend: str, api: fakeapi.FakeApi) -> Iterator[Json]:
    """Yield the lines of a backend."""
    shown = subprocess.run([backend, "--version"], capture_output=True, text=True, check=True)
    version = shown.stdout.split()
    number = next(word for word in version if word[0].isdigit())
    for case in (*CASES[backend], *EVERYWHERE):
        api.opens_at = None
        line = record(backend, case, _closed_port() if case.refused else api.url)
        if api.opens_at is not None:
            line["opens_at"] = datetime.fromtimestamp(api.opens_at, UTC).isoformat()
        print(backend, case.name, line["returncode"], flush=True)
        yield {"name": case.name, "origin": f"recorded from {backend} {number}", **line}
    for quote in json.loads((FOLDER / "quotes.json").read_text()).get(backend, []):
        yield quoted(backend, quote)


def main() -> int:
    """Record everything, or only the backends that are named."""
    seal()
    FOLDER.mkdir(exist_ok=True)
    with fakeapi.FakeApi() as api:
        os.environ["PATH"] = environment(Path(tempfile.mkdtemp()), api.url)["PATH"]
        for backend in sys.argv[1:] or CASES:
            found = [json.dumps(line, ensure_ascii=False) for line in lines(backend, api)]
            (FOLDER / f"{backend}.jsonl").write_text("\n".join(found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
