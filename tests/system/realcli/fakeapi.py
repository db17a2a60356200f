"""A model API on loopback that speaks to all CLIs: Anthropic Messages, OpenAI Responses and Chat
Completions, and Gemini. A CLI that asks for chat completions does so below a path of its own.

A prompt chooses what it gets: `question:NAME` names it, so that each answer can be matched to its
own prompt, and `scenario:WORD` asks for trouble (see SCENARIOS); without one it is answered.
`toolcalls.prompt` makes the model call tools before it answers, `replies.prompt` says what it says,
and `limit:NAME` gets a limit in
the place of the answer (see `limits`). With meters, the API refuses what is more than they allow
(see `meter`). What was asked is kept in `FakeApi.requests`.
`python -m tests.system.realcli.fakeapi` serves until it is interrupted, for trying things by hand.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from tests.meter import Meter
from tests.system.realcli import limits, replies, toolcalls
from tests.system.realcli.limits import Answer
from tests.system.realcli.toolcalls import HANG, Call

Json = dict[str, Any]

STATUSES = {"400": 400, "401": 401, "403": 403, "404": 404, "429": 429, "500": 500, "503": 503}
SCENARIOS = (*STATUSES, "refusal", "cut", "quota", "slow", "late", "empty", "long", "tool")
"""`slow` is answered when the server closes, `late` after LATE_SECONDS; `tool` asks for a tool,
again and again (claude)."""
LATE_SECONDS = 10
LONG_LINES = 5000
SAY = "say:"
"""Before a text that `replies` has for the model's turn."""


def answer_to(question: str) -> str:
    """Return the answer to a question: more than one line, and not only ASCII."""
    return f"answer to {question}\nzweite Zeile: größer ✓ 漢字"


def long_answer_to(question: str) -> str:
    """Return an answer of 200 KB, more than any pipe of a CLI takes before somebody reads."""
    lines = (f"{number} größer als eine Pipe, von {question} 漢字" for number in range(LONG_LINES))
    return "\n".join(lines)


def answer(scenario: str, question: str) -> str:
    """Return what the model says in a scenario in which it says something."""
    if scenario.startswith(SAY):
        return scenario.removeprefix(SAY)
    match scenario:
        case "empty":
            return ""
        case "long":
            return long_answer_to(question)
        case _:
            return answer_to(question)


@dataclass(frozen=True)
class Request:
    """What a CLI asked: where, which model, and the last thing that the user said.

    `tool_results` are what tools have returned in this conversation so far; `markers` are the words
    `marker:WORD` anywhere in the request. It came `at` this time; a meter refused it as `refused`
    (or did not), until `opens_at`. Times are seconds since the epoch.
    """

    path: str
    model: str
    prompt: str
    tool_results: tuple[str, ...] = ()
    markers: tuple[str, ...] = ()
    at: float = 0.0
    refused: str = ""
    opens_at: float | None = None

    @property
    def backend(self) -> str:
        """The CLI that asked."""
        return backend_of(self.path)


CHATTING = ("copilot", "opencode")
"""The CLIs that ask for chat completions."""


def backend_of(path: str) -> str:
    """Return the CLI that asks at this path."""
    own = path.split("/")[1]
    if own in CHATTING:
        return own
    return "claude" if "/messages" in path else "codex" if "/responses" in path else "gemini"


def request_of(path: str, body: Json) -> Request:
    """Read a request of any of the APIs."""
    turns = body.get("messages") or body.get("input") or body.get("contents") or []
    said = [turn for turn in turns if turn.get("role") == "user"]
    content = said[-1].get("content") or said[-1].get("parts") if said else ""
    if not isinstance(content, str):  # blocks: what CLIs add of their own comes before the prompt
        texts = [block["text"] for block in content if isinstance(block.get("text"), str)]
        content = texts[-1] if texts else ""
    in_path = re.search(r"/models/([^:]+):", path)
    model = in_path[1] if in_path else body.get("model", "")
    markers = tuple(sorted(set(re.findall(r"marker:([\w.]+)", json.dumps(body)))))
    return Request(path, model, content, tuple(toolcalls.results(body)), markers)


class FakeApi:
    """A server on a port of loopback, from `with` to its end.

    `opens_at` is the epoch at which the latest limit opens; None where it does not say.

    `requests` has each POST, in the order in which they came; with `log` they are also appended
    to that file as JSON lines, for readers outside of this process. `meters` say what each CLI is
    allowed, by their names; the model takes `answer_seconds` for each answer.
    """

    def __init__(
        self,
        port: int = 0,
        log: Path | None = None,
        meters: Mapping[str, Meter] | None = None,
        answer_seconds: float = 0.0,
    ) -> None:
        self.meters = meters or {}
        self.answer_seconds = answer_seconds
        self.requests: list[Request] = []
        self.opens_at: int | None = None
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._limited: set[str] = set()
        self._log = log
        self._server = Server(("127.0.0.1", port), Handler)
        self._server.api = self
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def admit(self, request: Request) -> Request:
        """Remember a request, with what a meter says of it; returns it so."""
        now = time.time()
        meter = self.meters.get(request.backend)
        refusal = meter and "count_tokens" not in request.path and meter.refusal(now)
        noted = replace(request, at=now)
        if refusal:
            noted = replace(noted, refused=refusal.kind, opens_at=refusal.opens_at)
        self._note(noted)
        return noted

    def is_first(self, question: str) -> bool:
        """Whether this is asked of a question for the first time."""
        with self._lock:
            is_first = question not in self._limited
            self._limited.add(question)
            return is_first

    def _note(self, request: Request) -> None:
        with self._lock:
            self.requests.append(request)
            if self._log:
                with self._log.open("a") as stream:
                    stream.write(json.dumps(asdict(request)) + "\n")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Server(ThreadingHTTPServer):
    """A server that knows whose it is."""

    daemon_threads = True
    request_queue_size = 128
    api: FakeApi

    def handle_error(self, *_: object) -> None:
        """Say nothing: a CLI that was stopped hangs up."""


class Handler(BaseHTTPRequestHandler):
    """One request of a CLI."""

    protocol_version = "HTTP/1.1"
    server: Server
    more_headers: Mapping[str, str] = {}

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        """Answer the first thing that one CLI asks."""
        self._head(200, "text/plain", 0)

    def do_GET(self) -> None:
        """Answer questions about models with nothing to say."""
        self._json(200, {"data": [], "models": []})

    def do_POST(self) -> None:
        """Answer a prompt."""
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        said = json.dumps(body, ensure_ascii=False)
        scenario = (re.findall(r"scenario:(\w+)", said) or ["success"])[-1]
        question = (re.findall(r"question:([\w-]+)", said) or ["none"])[-1]
        request = self.server.api.admit(request_of(self.path, body))
        if request.refused and request.opens_at is not None:
            refuse = limits.used_up if request.refused == "usage_limit" else limits.too_fast
            self._limit(refuse(request.backend, request.opens_at - request.at))
            return
        call = READ_NOTHING if scenario == "tool" else toolcalls.next_call(body)
        match replies.next_reply(body):
            case str(text):
                scenario = f"{SAY}{text}"
            case Call() as given:
                call = given
        if scenario == "slow" or call == HANG:
            self.server.api.closing.wait()
            call = None
        limit = limits.asked_for(said) if call is None else None
        if limit and limits.ONCE in said and not self.server.api.is_first(question):
            limit = None
        if limit and "count_tokens" not in self.path and self._limit(limit):
            return
        usual = self.server.api.answer_seconds
        self.server.api.closing.wait(LATE_SECONDS if scenario == "late" else usual)
        if "/messages" in self.path:
            self._anthropic(body, scenario, question, call)
        elif "/responses" in self.path:
            self._openai(body, scenario, question, call)
        elif "/chat/completions" in self.path:
            self._chat(body, scenario, question, call)
        else:
            self._gemini(scenario, question, call)

    def _limit(self, limit: Answer) -> bool:
        """Answer with a limit; returns whether that is all, or only the headers of an answer."""
        now = time.time()
        opens_in_seconds = limit.opens_in_seconds
        self.server.api.opens_at = opens_in_seconds and int(now) + opens_in_seconds
        sent = limit.at(now)
        self.more_headers = sent.headers
        if sent.events is not None:
            self._events(iter([(event.get("type"), event) for event in sent.events]), cut=False)
        elif sent.body:
            self._json(sent.status, sent.body)
        else:
            return False
        return True

    # What each API says.

    def _anthropic(self, body: Json, scenario: str, question: str, call: Call | None) -> None:
        if "count_tokens" in self.path:
            self._json(200, {"input_tokens": 10})
        elif scenario in STATUSES:
            kind = {"401": "authentication_error", "429": "rate_limit_error"}.get(scenario, "error")
            error = {"type": kind, "message": f"fake {kind}"}
            self._json(STATUSES[scenario], {"type": "error", "error": error})
        elif scenario == "quota":
            error = {
                "type": "invalid_request_error",
                "message": "Your credit balance is too low to access the Anthropic API",
            }
            self._json(400, {"type": "error", "error": error})
        elif body.get("stream"):
            self._events(_anthropic_events(body, scenario, question, call), cut=scenario == "cut")
        else:
            self._json(200, _anthropic_message(body, scenario, question, call))

    def _openai(self, body: Json, scenario: str, question: str, call: Call | None) -> None:
        if not self._openai_error(scenario):
            self._events(_openai_events(body, scenario, question, call), cut=scenario == "cut")

    def _chat(self, body: Json, scenario: str, question: str, call: Call | None) -> None:
        if not self._openai_error(scenario):
            backend = backend_of(self.path)
            chunks = _chat_chunks(backend, body, scenario, question, call)
            self._events(((None, chunk) for chunk in chunks), cut=scenario == "cut")

    def _openai_error(self, scenario: str) -> bool:
        """Answer with an error, where the scenario is one."""
        if scenario in STATUSES:
            error = {"message": f"fake {scenario}", "type": "error", "code": None, "param": None}
            self._json(STATUSES[scenario], {"error": error})
        elif scenario == "quota":
            error = {
                "message": "You exceeded your current quota, please check your plan and billing",
                "type": "insufficient_quota",
                "code": "insufficient_quota",
            }
            self._json(429, {"error": error})
        return scenario in STATUSES or scenario == "quota"

    def _gemini(self, scenario: str, question: str, call: Call | None) -> None:
        if scenario in STATUSES or scenario == "quota":
            status = STATUSES.get(scenario, 429)
            message = "Quota exceeded for quota metric" if scenario == "quota" else "fake error"
            words = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 429: "RESOURCE_EXHAUSTED"}
            error = {
                "code": status,
                "message": f"{message} {status}",
                "status": words.get(status, "INTERNAL"),
            }
            self._json(status, {"error": error})
        elif "stream" in self.path:
            self._events(
                ((None, chunk) for chunk in _gemini_chunks(scenario, question, call)),
                cut=scenario == "cut",
            )
        else:
            self._json(200, next(iter(_gemini_chunks(scenario, question, call))))

    # How it is sent.

    def _head(self, status: int, kind: str, length: int | None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        for name, value in self.more_headers.items():
            self.send_header(name, value)
        if length is not None:
            self.send_header("Content-Length", str(length))
        else:
            self.send_header("Connection", "close")
        self.end_headers()

    def _json(self, status: int, value: Json) -> None:
        content = json.dumps(value).encode()
        self._head(status, "application/json", len(content))
        self.wfile.write(content)

    def _events(self, events: Iterator[tuple[str | None, Json]], *, cut: bool) -> None:
        self._head(200, "text/event-stream", None)
        self.close_connection = True
        sent = list(events)
        for name, data in sent[: len(sent) // 2 if cut else None]:
            if name:
                self.wfile.write(f"event: {name}\n".encode())
            self.wfile.write(f"data: {json.dumps(data)}\n\n".encode())


READ_NOTHING = toolcalls.read("/dev/null")


def _anthropic_message(body: Json, scenario: str, question: str, call: Call | None) -> Json:
    content: list[Json] = [{"type": "text", "text": answer(scenario, question)}]
    stop_reason = "end_turn"
    if scenario == "refusal":
        content, stop_reason = [], "refusal"
    elif call is not None:
        name, given = toolcalls.native(call, "anthropic")
        content = [{"type": "tool_use", "id": _call_id(body), "name": name, "input": given}]
        stop_reason = "tool_use"
    return {
        "id": f"msg_{len(toolcalls.results(body)) + 1}",
        "type": "message",
        "role": "assistant",
        "model": body.get("model", "fake"),
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": 5},
    }


def _call_id(body: Json) -> str:
    """Return an id that no other tool call of the conversation has."""
    return f"toolu_{len(toolcalls.results(body)) + 1}"


def _anthropic_events(
    body: Json, scenario: str, question: str, call: Call | None
) -> Iterator[tuple[str, Json]]:
    whole = _anthropic_message(body, scenario, question, call)

    def event(name: str, **more: Any) -> tuple[str, Json]:
        return name, {"type": name, **more}

    yield event("message_start", message={**whole, "content": [], "stop_reason": None})
    for block in whole["content"]:
        if block["type"] == "text":
            empty: dict[str, Any] = {"type": "text", "text": ""}
            delta = {"type": "text_delta", "text": block["text"]}
        else:
            empty = {**block, "input": {}}
            delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
        yield event("content_block_start", index=0, content_block=empty)
        yield event("content_block_delta", index=0, delta=delta)
        yield event("content_block_stop", index=0)
    stop = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    yield event("message_delta", delta=stop, usage={"output_tokens": 5})
    yield event("message_stop")


def _openai_events(
    body: Json, scenario: str, question: str, call: Call | None
) -> Iterator[tuple[str, Json]]:
    response: Json = {
        "id": "resp_1",
        "object": "response",
        "status": "in_progress",
        "model": body.get("model", "fake"),
        "output": [],
    }
    yield "response.created", {"type": "response.created", "response": response}
    if call is not None:
        name, given = toolcalls.native(call, "openai")
        item: Json = {
            "id": f"fc_{_call_id(body)}",
            "type": "function_call",
            "call_id": _call_id(body),
            "name": name,
            "arguments": json.dumps(given),
        }
        done = {"type": "response.output_item.done", "output_index": 0, "item": item}
        yield "response.output_item.done", done
        response = {**response, "output": [item]}
    elif scenario != "refusal":
        text = answer(scenario, question)
        content = [{"type": "output_text", "text": text, "annotations": []}]
        item = {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": content,
        }
        started = {**item, "content": [], "status": "in_progress"}
        yield (
            "response.output_item.added",
            {"type": "response.output_item.added", "output_index": 0, "item": started},
        )
        yield (
            "response.output_text.delta",
            {
                "type": "response.output_text.delta",
                "item_id": "msg_1",
                "output_index": 0,
                "content_index": 0,
                "delta": text,
            },
        )
        yield (
            "response.output_item.done",
            {"type": "response.output_item.done", "output_index": 0, "item": item},
        )
        response = {**response, "output": [item]}
    usage = {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 15,
    }
    completed = {**response, "status": "completed", "usage": usage}
    yield "response.completed", {"type": "response.completed", "response": completed}


def _chat_chunks(
    backend: str, body: Json, scenario: str, question: str, call: Call | None
) -> Iterator[Json]:
    def chunk(delta: Json, reason: str | None = None, **more: Any) -> Json:
        about = {"id": "chat_1", "object": "chat.completion.chunk", "created": 1}
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return {**about, "model": body.get("model", "fake"), "choices": [choice], **more}

    reason = "stop"
    if call is not None:
        name, given = toolcalls.native(call, backend)
        function = {"name": name, "arguments": json.dumps(given)}
        called = {"index": 0, "id": _call_id(body), "type": "function", "function": function}
        yield chunk({"role": "assistant", "content": None, "tool_calls": [called]})
        reason = "tool_calls"
    elif scenario == "refusal":
        reason = "content_filter"
    else:
        first, _, second = answer(scenario, question).partition("\n")
        yield chunk({"role": "assistant", "content": first + "\n" if second else first})
        yield chunk({"content": second})
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    yield chunk({}, reason, usage=usage)


def _gemini_chunks(scenario: str, question: str, call: Call | None) -> Iterator[Json]:
    def chunk(parts: list[Json], **more: Any) -> Json:
        candidate = {"content": {"role": "model", "parts": parts}, "index": 0, **more}
        usage = {"promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15}
        return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "fake"}

    if call is not None:
        name, given = toolcalls.native(call, "gemini")
        yield chunk([{"functionCall": {"name": name, "args": given}}], finishReason="STOP")
        return
    if scenario == "refusal":
        yield chunk([], finishReason="SAFETY")
        return
    first, _, second = answer(scenario, question).partition("\n")
    yield chunk([{"text": first + "\n"}])
    yield chunk([{"text": second}], finishReason="STOP")


def main() -> None:
    """Print the URL and serve."""
    parser = argparse.ArgumentParser(prog="python -m tests.system.realcli.fakeapi")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    with FakeApi(parser.parse_args().port) as api:
        print(api.url, flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
