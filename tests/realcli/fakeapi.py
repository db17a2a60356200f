"""A model API on loopback that speaks to all three CLIs: Anthropic Messages, OpenAI Responses
and Gemini.

A prompt chooses what it gets: `question:NAME` names it, so that each answer can be matched to its
own prompt, and `scenario:WORD` asks for trouble (see SCENARIOS); without one it is answered.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Json = dict[str, Any]

STATUSES = {"400": 400, "401": 401, "403": 403, "404": 404, "429": 429, "500": 500, "503": 503}
SCENARIOS = (*STATUSES, "refusal", "cut", "quota", "slow")
SLOW_SECONDS = 600.0


def answer_to(question: str) -> str:
    """Return the answer to a question: more than one line, and not only ASCII."""
    return f"answer to {question}\nzweite Zeile: größer ✓ 漢字"


@contextmanager
def serve() -> Iterator[str]:
    """Serve on a free port of loopback; gives the base URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        Handler.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()


class Handler(BaseHTTPRequestHandler):
    """One request of a CLI."""

    protocol_version = "HTTP/1.1"
    closing = threading.Event()

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
        if scenario == "slow":
            self.closing.wait(SLOW_SECONDS)
        if "/messages" in self.path:
            self._anthropic(body, scenario, question)
        elif "/responses" in self.path:
            self._openai(body, scenario, question)
        else:
            self._gemini(scenario, question)

    # What each API says.

    def _anthropic(self, body: Json, scenario: str, question: str) -> None:
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
            self._events(_anthropic_events(body, scenario, question), cut=scenario == "cut")
        else:
            self._json(200, _anthropic_message(body, scenario, question))

    def _openai(self, body: Json, scenario: str, question: str) -> None:
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
        else:
            self._events(_openai_events(body, scenario, question), cut=scenario == "cut")

    def _gemini(self, scenario: str, question: str) -> None:
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
                ((None, chunk) for chunk in _gemini_chunks(scenario, question)),
                cut=scenario == "cut",
            )
        else:
            self._json(200, next(iter(_gemini_chunks(scenario, question))))

    # How it is sent.

    def _head(self, status: int, kind: str, length: int | None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
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


def _anthropic_message(body: Json, scenario: str, question: str) -> Json:
    refused = scenario == "refusal"
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": body.get("model", "fake"),
        "content": [] if refused else [{"type": "text", "text": answer_to(question)}],
        "stop_reason": "refusal" if refused else "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": 5},
    }


def _anthropic_events(body: Json, scenario: str, question: str) -> Iterator[tuple[str, Json]]:
    whole = _anthropic_message(body, scenario, question)
    start = {**whole, "content": [], "stop_reason": None}
    yield "message_start", {"type": "message_start", "message": start}
    for block in whole["content"]:
        empty = {"type": "text", "text": ""}
        yield (
            "content_block_start",
            {"type": "content_block_start", "index": 0, "content_block": empty},
        )
        delta = {"type": "text_delta", "text": block["text"]}
        yield (
            "content_block_delta",
            {"type": "content_block_delta", "index": 0, "delta": delta},
        )
        yield "content_block_stop", {"type": "content_block_stop", "index": 0}
    yield (
        "message_delta",
        {
            "type": "message_delta",
            "delta": {"stop_reason": whole["stop_reason"], "stop_sequence": None},
            "usage": {"output_tokens": 5},
        },
    )
    yield "message_stop", {"type": "message_stop"}


def _openai_events(body: Json, scenario: str, question: str) -> Iterator[tuple[str, Json]]:
    response: Json = {
        "id": "resp_1",
        "object": "response",
        "status": "in_progress",
        "model": body.get("model", "fake"),
        "output": [],
    }
    yield "response.created", {"type": "response.created", "response": response}
    if scenario != "refusal":
        text = answer_to(question)
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


def _gemini_chunks(scenario: str, question: str) -> Iterator[Json]:
    def chunk(parts: list[Json], **more: Any) -> Json:
        candidate = {"content": {"role": "model", "parts": parts}, "index": 0, **more}
        usage = {"promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15}
        return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "fake"}

    if scenario == "refusal":
        yield chunk([], finishReason="SAFETY")
        return
    first, _, second = answer_to(question).partition("\n")
    yield chunk([{"text": first + "\n"}])
    yield chunk([{"text": second}], finishReason="STOP")
