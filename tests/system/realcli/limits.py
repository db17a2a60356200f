"""Answers of the model APIs that are no answer: limits, missing money, a service without capacity.

A prompt with `limit:NAME` gets one of `ANSWERS`, once the tool calls that it asks for are done.
Headers and bodies are modelled on what the CLIs read, not captured from the vendors. In them,
`@+9000` stands for the epoch in 9000 seconds.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

NOTHING: Mapping[str, str] = {}
SOON, WEEK = 9000, 400_000
"""When limits open, in seconds from now."""

_IN_PROMPT = re.compile(r"limit:(\w+)")
ONCE = "opens:at_once"
"""In a prompt: its limit is met once, and then no more."""
_LATER = re.compile(r"@\+(\d+)")


@dataclass(frozen=True)
class Answer:
    """An HTTP answer; with `events` it is a stream of server-sent events of these types."""

    status: int
    body: Json = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    events: tuple[Json, ...] | None = None

    @property
    def opens_in_seconds(self) -> int | None:
        """When it says that the limit opens: the first time that it names."""
        found = _LATER.search(json.dumps([dict(self.headers), self.body]))
        return int(found[1]) if found else None

    def at(self, now: float) -> Answer:
        """Return the answer with its times."""

        def later(found: re.Match[str]) -> str:
            return str(int(now) + int(found[1]))

        # In a body, a time is a number.
        body = re.sub(f'"{_LATER.pattern}"', later, json.dumps(self.body))
        headers = {name: _LATER.sub(later, value) for name, value in self.headers.items()}
        return Answer(self.status, json.loads(body), headers, self.events)


def asked_for(said: str) -> Answer | None:
    """Return the answer that a request asks for; `said` is its body as text.

    The last name counts, and `none` asks for no limit any more.
    """
    name = (_IN_PROMPT.findall(said) or ["none"])[-1]
    return None if name == "none" else ANSWERS[name]


# Anthropic.


def _anthropic(
    status: int, kind: str, message: str, headers: Mapping[str, str] | None = None
) -> Answer:
    error = {"type": kind, "message": message}
    return Answer(status, {"type": "error", "error": error}, headers or {})


def _unified(
    status: str, claim: str = "five_hour", seconds: int = SOON, more: Mapping[str, str] = NOTHING
) -> dict[str, str]:
    """Return the headers of a subscription's limits."""
    headers = {
        "status": status,
        "reset": f"@+{seconds}",
        "representative-claim": claim,
        "5h-status": status if claim == "five_hour" else "allowed",
        "5h-reset": f"@+{SOON}",
        "5h-utilization": "1.0" if status == "rejected" else "0.5",
        "7d-status": status if claim.startswith("seven_day") else "allowed",
        "7d-reset": f"@+{WEEK}",
        "7d-utilization": "0.4",
        "overage-status": "rejected",
        "overage-disabled-reason": "out_of_credits",
        **more,
    }
    start = "anthropic-ratelimit-unified-"
    return {start + name: value for name, value in headers.items() if value}


def _window(claim: str, seconds: int = SOON, more: Mapping[str, str] = NOTHING) -> Answer:
    message = "This request would exceed your account's rate limit. Please try again later."
    return _anthropic(429, "rate_limit_error", message, _unified("rejected", claim, seconds, more))


def _because(reason: str) -> Mapping[str, str]:
    return {"overage-disabled-reason": reason}


_BURST = "This request would exceed the rate limit for your organization of 50 requests per minute"
_REGAIN = "You will regain access on 2026-12-01 at 00:00 UTC."
_NO_OVERAGE = {"overage-status": "", "overage-disabled-reason": ""}
ANTHROPIC = {
    "session": _window("five_hour"),
    "session_no_overage": _window("five_hour", more=_NO_OVERAGE),
    "session_overage_reset": _window("five_hour", more={"overage-reset": f"@+{WEEK}"}),
    "weekly": _window("seven_day", WEEK),
    "opus": _window("seven_day_opus", WEEK, more=_NO_OVERAGE),
    "sonnet": _window("seven_day_sonnet", WEEK, more=_NO_OVERAGE),
    "fable": _window("seven_day_overage_included", WEEK, more=_NO_OVERAGE),
    "overage": _window("overage"),
    "spend_cap": _window("five_hour", more=_because("org_level_disabled_until")),
    "seat": _window("overage", more=_because("seat_tier_level_disabled")),
    "org_disabled": _window("overage", more=_because("org_service_level_disabled")),
    "member_disabled": _window("overage", more=_because("member_level_disabled")),
    "group_zero": _window("overage", more=_because("group_zero_credit_limit")),
    "burst": _anthropic(429, "rate_limit_error", _BURST),
    "burst_after_5": _anthropic(429, "rate_limit_error", _BURST, {"retry-after": "5"}),
    "burst_after_9000": _anthropic(429, "rate_limit_error", _BURST, {"retry-after": "9000"}),
    "warning": Answer(
        200,
        headers=_unified(
            "allowed_warning", more={"5h-utilization": "0.93", "5h-surpassed-threshold": "0.9"}
        ),
    ),
    "allowed": Answer(200, headers=_unified("allowed")),
    "rejected_but_answered": Answer(200, headers=_unified("rejected")),
    "credit": _anthropic(
        400,
        "invalid_request_error",
        "Your credit balance is too low to access the Anthropic API. "
        "Please go to Plans & Billing to upgrade or purchase credits.",
    ),
    "spend_limit": _anthropic(
        400,
        "invalid_request_error",
        f"You have reached your specified API usage limits. {_REGAIN}",
    ),
    "billing": _anthropic(402, "billing_error", "Billing error"),
    "api_overloaded": _anthropic(529, "overloaded_error", "Overloaded"),
    "api_error": _anthropic(500, "api_error", "Internal server error"),
    "gateway": _anthropic(502, "api_error", "Bad gateway"),
    "unavailable": _anthropic(503, "api_error", "Service unavailable"),
    "key": _anthropic(401, "authentication_error", "invalid x-api-key"),
    "forbidden": _anthropic(403, "permission_error", "forbidden"),
    "no_model": _anthropic(404, "not_found_error", "model: none"),
    "bad_request": _anthropic(400, "invalid_request_error", "messages: at least one is required"),
    "prompt_too_long": _anthropic(
        400, "invalid_request_error", "prompt is too long: 200001 tokens > 200000 maximum"
    ),
    "too_large": _anthropic(413, "request_too_large", "Request exceeds the maximum size"),
    "stream_overloaded": Answer(
        200,
        events=({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},),
    ),
    "malformed": Answer(200, {"what": "is this"}),
}


# OpenAI.


def _openai(status: int, headers: Mapping[str, str] | None = None, **error: Any) -> Answer:
    return Answer(status, {"error": {"message": "m", "param": None, **error}}, headers or {})


def _failed(code: str, message: str) -> Answer:
    """Return a stream that begins well."""
    response = {"id": "resp_1", "object": "response", "status": "in_progress", "output": []}
    failed = {**response, "status": "failed", "error": {"code": code, "message": message}}
    return Answer(
        200,
        events=(
            {"type": "response.created", "response": response},
            {"type": "response.failed", "response": {**failed, "usage": None}},
        ),
    )


def _used_up(plan: str, seconds: int | None = SOON, **headers: str) -> Answer:
    reset = {} if seconds is None else {"resets_at": f"@+{seconds}"}
    return _openai(
        429,
        {f"x-codex-{name.replace('_', '-')}": value for name, value in headers.items()},
        type="usage_limit_reached",
        message="The usage limit has been reached",
        plan_type=plan,
        **reset,
    )


_TPM = (
    "Rate limit reached for gpt-5.5 in organization org-x on tokens per min (TPM): Limit 30000, "
    "Used 29000, Requested 6500. Please try again in 11.05s. Visit https://example.invalid to "
    "learn more."
)
_RPD = (
    "Rate limit reached for gpt-5.5 in organization org-x on requests per day (RPD): Limit 200, "
    "Used 200, Requested 1. Please try again in 7m12s."
)
_MONEY = "You exceeded your current quota, please check your plan and billing details."
OPENAI = {
    "plus": _used_up("plus"),
    "pro": _used_up("pro", WEEK),
    "free": _used_up("free"),
    "team": _used_up("team", None),
    "unknown_plan": _used_up("something_new"),
    "half_hour": _used_up("plus", 1800),
    "promo": _used_up("plus", promo_message="PROMO"),
    "owner_credits": _used_up("team", rate_limit_reached_type="workspace_owner_credits_depleted"),
    "member_credits": _used_up("team", rate_limit_reached_type="workspace_member_credits_depleted"),
    "owner_cap": _used_up("team", rate_limit_reached_type="workspace_owner_usage_limit_reached"),
    "member_cap": _used_up("team", rate_limit_reached_type="workspace_member_usage_limit_reached"),
    "not_included": _openai(429, type="usage_not_included", plan_type="free"),
    "no_money": _openai(429, type="insufficient_quota", code="insufficient_quota", message=_MONEY),
    "stream_no_money": _failed("insufficient_quota", _MONEY),
    "rate": _openai(429, type="tokens", code="rate_limit_exceeded", message=_TPM),
    "rate_after_1": _openai(
        429, {"retry-after": "1"}, type="tokens", code="rate_limit_exceeded", message=_TPM
    ),
    "stream_rate": _failed("rate_limit_exceeded", _TPM),
    "stream_rate_day": _failed("rate_limit_exceeded", _RPD),
    "stream_slow_down": _failed("slow_down", "slow down please"),
    "no_capacity": _openai(503, code="server_is_overloaded", message="overloaded"),
    "stream_no_capacity": _failed("server_is_overloaded", "overloaded"),
    "openai_500": _openai(500, message="internal"),
    "openai_502": _openai(502, message="bad gateway"),
    "openai_503": _openai(503, message="unavailable"),
    "openai_529": _openai(529, message="overloaded"),
    "openai_401": _openai(401, message="Incorrect API key provided"),
    "openai_403": _openai(403, message="forbidden"),
    "openai_404": _openai(404, message="The model `none` does not exist"),
    "openai_400": _openai(400, message="Unsupported parameter"),
    "stream_context": _failed("context_length_exceeded", "Your input exceeds the context window"),
    "stream_invalid_prompt": _failed("invalid_prompt", "Invalid prompt: we've limited access"),
    "stream_policy": _failed("cyber_policy", ""),
}


# Google.


def _google(status: int, message: str, *details: Json) -> Answer:
    word = {429: "RESOURCE_EXHAUSTED", 503: "UNAVAILABLE", 401: "UNAUTHENTICATED"}
    error = {"code": status, "message": message, "status": word.get(status, "INTERNAL")}
    return Answer(status, {"error": {**error, "details": list(details)}})


def _quota(name: str) -> Json:
    violation = {"quotaId": f"GenerateRequests{name}PerProjectPerModel-FreeTier"}
    return {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation]}


def _retry(delay: str) -> Json:
    return {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}


def _reason(reason: str, domain: str = "cloudcode-pa.googleapis.com", **metadata: str) -> Json:
    info = {"reason": reason, "domain": domain, "metadata": metadata}
    return {"@type": "type.googleapis.com/google.rpc.ErrorInfo", **info}


_EXCEEDED = "You exceeded your current quota, please check your plan and billing details."
_CAPACITY = "You have exhausted your capacity on this model."
_METRIC = "Quota exceeded for quota metric 'Gemini Requests' and limit 'Gemini Requests"
GOOGLE = {
    "minute": _google(
        429, f"{_EXCEEDED} Please retry in 34.074824224s.", _quota("PerMinute"), _retry("34.07s")
    ),
    "minute_2": _google(
        429, f"{_EXCEEDED} Please retry in 2.5s.", _quota("PerMinute"), _retry("2.5s")
    ),
    "minute_no_delay": _google(429, _EXCEEDED, _quota("PerMinute")),
    "minute_metric": _google(429, f"{_METRIC} per minute per user' of service 'x'."),
    "day_metric": _google(429, f"{_METRIC} per day per user per tier' of service 'x'."),
    "milliseconds": _google(429, f"{_EXCEEDED} Please retry in 250ms."),
    "hour": _google(429, f"{_EXCEEDED} Please retry in 3600s."),
    "day": _google(429, f"{_EXCEEDED} Please retry in 34.07s.", _quota("PerDay"), _retry("34.07s")),
    "zero": _google(429, f"{_EXCEEDED} Quota exceeded for metric: requests, limit: 0, model: x"),
    "window": _google(
        429,
        f"{_CAPACITY} Your quota will reset after 2h52m39s.",
        _reason("QUOTA_EXHAUSTED"),
        _retry("10359.9s"),
    ),
    "window_no_time": _google(429, _CAPACITY, _reason("QUOTA_EXHAUSTED")),
    "rate_limit": _google(
        429,
        "Resource has been exhausted (e.g. check quota).",
        _reason("RATE_LIMIT_EXCEEDED"),
        _retry("3s"),
    ),
    "rate_limit_by_minute": _google(
        429, "m", _reason("RATE_LIMIT_EXCEEDED", "x.googleapis.com", quota_limit="RpmPerMinute")
    ),
    "exhausted": _google(429, "Resource has been exhausted (e.g. check quota)."),
    "google_capacity": _google(
        429,
        "No capacity available for model gemini-2.5-pro on the server",
        _reason("MODEL_CAPACITY_EXHAUSTED"),
    ),
    "credits": _google(
        429, "You have insufficient G1 credits.", _reason("INSUFFICIENT_G1_CREDITS_BALANCE")
    ),
    "google_overloaded": _google(503, "The model is overloaded. Please try again later."),
    "google_500": _google(500, "An internal error has occurred."),
    "google_502": _google(502, "Bad gateway"),
    "google_504": _google(504, "The request timed out. Please try again."),
    "google_401": _google(401, "API key not valid. Please pass a valid API key."),
    "google_403": _google(403, "Permission denied"),
    "google_404": _google(404, "models/none is not found"),
    "google_400": _google(400, "Invalid value at 'contents'"),
    "google_malformed": Answer(200, {"what": "is this"}),
}

# Chat completions, as providers of many models speak them.

_CHAT_RATE = "Rate limit reached for requests"
_FREE = {"type": "FreeUsageLimitError", "message": "Rate limit exceeded. Please try again later."}
_GO = {
    "type": "GoUsageLimitError",
    "message": "Subscription quota exceeded. Retry in 2hr 30min.",
}
CHAT = {
    "chat_rate": _openai(429, message=_CHAT_RATE, type="requests"),
    "chat_rate_after_5": _openai(429, {"retry-after": "5"}, message=_CHAT_RATE, type="requests"),
    "chat_rate_after_9000": _openai(429, {"retry-after": "9000"}, message=_CHAT_RATE),
    "chat_rate_words": _openai(429, message=_TPM, type="tokens", code="rate_limit_exceeded"),
    "chat_no_money": _openai(429, message=_MONEY, type="insufficient_quota"),
    "chat_402": _openai(402, message="Insufficient credits. Add more using your account."),
    "chat_free": Answer(429, {"type": "error", "error": _FREE}, {"retry-after": "7200"}),
    "chat_go": Answer(429, {"type": "error", "error": _GO}, {"retry-after": "9000"}),
    "chat_500": _openai(500, message="internal"),
    "chat_502": _openai(502, message="bad gateway"),
    "chat_503": _openai(503, message="unavailable"),
    "chat_529": _openai(529, message="Overloaded"),
    "chat_401": _openai(401, message="Incorrect API key provided"),
    "chat_403": _openai(403, message="forbidden"),
    "chat_404": _openai(404, message="The model `none` does not exist", code="model_not_found"),
    "chat_400": _openai(400, message="Unsupported parameter"),
    "chat_context": _openai(
        400,
        message="This model's maximum context length is 128000 tokens. However, your messages "
        "resulted in 130000 tokens.",
        code="context_length_exceeded",
    ),
    "chat_413": _openai(413, message="Request entity too large"),
    "chat_stream_overloaded": Answer(
        200, events=({"error": {"message": "Overloaded", "type": "server_error"}},)
    ),
    "chat_malformed": Answer(200, {"what": "is this"}),
}

ANSWERS = {**ANTHROPIC, **OPENAI, **GOOGLE, **CHAT}


# What a limit says that opens in some seconds, by the names of the CLIs.


def used_up(backend: str, seconds: float) -> Answer:
    """Return the answer where a window is used up, and opens in so many seconds."""
    whole = math.ceil(seconds)
    match backend:
        case "claude":
            return _window("five_hour", whole)
        case "codex":
            return _used_up("plus", whole)
        case "copilot" | "opencode":
            return _openai(429, {"retry-after": str(whole)}, message=_CHAT_RATE)
        case _:
            text = f"{_CAPACITY} Your quota will reset after {_span(whole)}."
            return _google(429, text, _reason("QUOTA_EXHAUSTED"), _retry(f"{whole}s"))


def too_fast(backend: str, seconds: float) -> Answer:
    """Return the answer to a request that comes so many seconds too early."""
    match backend:
        case "claude":
            return _anthropic(
                429, "rate_limit_error", _BURST, {"retry-after": str(math.ceil(seconds))}
            )
        case "codex":
            text = f"Rate limit reached for fake-model. Please try again in {seconds:.3f}s."
            return _openai(429, type="requests", code="rate_limit_exceeded", message=text)
        case "copilot" | "opencode":
            milliseconds = str(math.ceil(1000 * seconds))
            return _openai(429, {"retry-after-ms": milliseconds}, message=_CHAT_RATE)
        case _:
            text = f"{_EXCEEDED} Please retry in {seconds:.3f}s."
            return _google(429, text, _quota("PerMinute"), _retry(f"{seconds:.3f}s"))


def _span(seconds: int) -> str:
    """Return a time as in `2h52m39s`."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours}h{minutes}m{rest}s" if hours else f"{minutes}m{rest}s" if minutes else f"{rest}s"
    )
