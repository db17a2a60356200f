"""What an execution cost: its CLI's word, the configuration's prices, or the list's."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from clinvk.backends import BackendRegistry
from clinvk.backends.base import ParsedOutput
from clinvk.core.prices import Price
from clinvk.core.spec import TaskSpec, Usage
from workers.execution import price_list, pricing
from workers.execution.pricing import Pricing

REGISTRY = BackendRegistry.from_config({"mytool": {"command": ["true"], "env": {}}})
USAGE = Usage(input_tokens=1_000_000, output_tokens=100_000, total_tokens=1_100_000)
CONFIGURED = {"codex": {"input": 2, "output": 10}, "codex:small": {"input": 1, "output": 0}}


def priced(
    parsed: ParsedOutput, backend: str = "codex", model: str | None = None, **listed: Price
) -> tuple[float | None, Any, str | None]:
    found, source = Pricing(CONFIGURED, listed.get).priced(
        parsed, REGISTRY.get(backend), TaskSpec(backend=backend, prompt="x", model=model)
    )
    return found.cost_usd, source, found.model


def test_the_clis_word_counts_before_any_price() -> None:
    said = ParsedOutput(usage=USAGE, cost_usd=0.12345678)
    assert priced(said) == (0.123457, "cli", None)


def test_a_cost_that_cannot_be_is_not_believed() -> None:
    said = ParsedOutput(usage=USAGE, cost_usd=-1.0, model="small")
    assert priced(said) == (1, "estimated", "small")


def test_the_configurations_prices() -> None:
    assert priced(ParsedOutput(usage=USAGE)) == (3, "estimated", None)
    assert priced(ParsedOutput(usage=USAGE), model="small") == (1, "estimated", "small")
    assert priced(ParsedOutput(usage=USAGE, model="big"), model="small") == (3, "estimated", "big")


def test_the_list_is_asked_once_for_each_model() -> None:
    asked = []

    def look_up(model: str) -> Price | None:
        asked.append(model)
        return Price(input=1, output=1) if model == "m" else None

    prices, spec = Pricing({}, look_up), TaskSpec(backend="gemini", prompt="x")
    for model in ("m", "m", "other", "other"):
        said = ParsedOutput(usage=USAGE, model=model)
        found, source = prices.priced(said, REGISTRY.get("gemini"), spec)
        expected = (1.1, "estimated") if model == "m" else (None, "unknown")
        assert (found.cost_usd, source) == expected
    assert asked == ["m", "other"]


@pytest.mark.parametrize(
    ("backend", "parsed", "expected"),
    [
        ("gemini", ParsedOutput(usage=USAGE), (None, "unknown", None)),  # of no known model
        ("codex", ParsedOutput(), (None, "unknown", None)),  # stopped before it counted anything
        ("mytool", ParsedOutput(output="x"), (None, "unknown", None)),
        ("echo", ParsedOutput(usage=USAGE, model="echo"), (None, None, "echo")),  # costs nothing
    ],
)
def test_what_is_not_known_is_not_nothing(
    backend: str, parsed: ParsedOutput, expected: tuple[float | None, str | None, str | None]
) -> None:
    assert priced(parsed, backend) == expected


def test_the_list_has_the_models_of_the_clis() -> None:
    found = price_list.price("claude-opus-4-8[1m]")
    assert found is not None
    assert set(found) == {"input", "output", "cached_input"}
    assert price_list.price("gemini-2.5-pro")  # whose price grows with the length of a prompt
    assert price_list.price("no-such-model") is None


def test_the_list_that_cannot_be_read_costs_no_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pricing, "PRICE_LIST", "/no/such/file.py")
    assert pricing.listed_price("m") is None


def test_a_worker_never_loads_the_list_itself() -> None:
    code = (
        "import sys, workers.execution.executor as e; from clinvk.core.spec import *;"
        "from clinvk.core.worker_config import WorkerConfig;"
        "from workers.execution.pricing import listed_price;"
        "assert listed_price('gpt-5').input > 0;"
        "sys.exit(bool({'pydantic', 'genai_prices'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
