"""What an execution cost: as its CLI says, or estimated from its tokens."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from clinvk.backends.base import Backend, ParsedOutput
from clinvk.core.error_log import ErrorLog
from clinvk.core.prices import Price, plausible
from clinvk.core.replaced import replaced
from clinvk.core.spec import CostSource, TaskSpec, Usage

PRICE_LIST = Path(__file__).with_name("price_list.py")
LOOK_UP_SECONDS = 60.0

logger = logging.getLogger(__name__)

_errors = ErrorLog(logger)


class Pricing:
    """The prices of this worker: those of the configuration, then those of the package.

    `configured` are the fields of prices by `backend:model`, or by `backend` for any other model of
    it. `look_up` finds a model's price elsewhere; it is asked once for each model.
    """

    def __init__(
        self,
        configured: Mapping[str, Mapping[str, float]],
        look_up: Callable[[str], Price | None] | None = None,
    ) -> None:
        self._configured = {name: Price.parse(given) for name, given in configured.items()}
        self._look_up = look_up or listed_price
        self._listed: dict[str, Price | None] = {}
        self._lock = threading.Lock()

    def priced(
        self, parsed: ParsedOutput, backend: Backend, spec: TaskSpec
    ) -> tuple[ParsedOutput, CostSource | None]:
        """Return an output with its cost, and who says so; None where nothing is to be paid.

        A CLI that counts tokens and does not name its model has run the one that was asked for.
        """
        if backend.is_demo:
            return replaced(parsed, cost_usd=None), None
        if parsed.model is None and parsed.usage is not None:
            parsed = replaced(parsed, model=spec.model)
        if (cost_usd := plausible(parsed.cost_usd)) is not None:
            return replaced(parsed, cost_usd=cost_usd), "cli"
        cost_usd = self._estimated(backend.name, parsed.model, parsed.usage)
        return replaced(parsed, cost_usd=cost_usd), "unknown" if cost_usd is None else "estimated"

    def _estimated(self, backend: str, model: str | None, usage: Usage | None) -> float | None:
        price = self._price(backend, model) if usage is not None else None
        return plausible(price.cost_usd(usage)) if price and usage else None

    def _price(self, backend: str, model: str | None) -> Price | None:
        named = self._configured.get(f"{backend}:{model}") or self._configured.get(backend)
        if named is not None or model is None:
            return named
        with self._lock:
            if model not in self._listed:
                self._listed[model] = self._look_up(model)
            return self._listed[model]


def listed_price(model: str) -> Price | None:
    """Return a model's price as the package genai-prices has it; None where it has none."""
    try:
        done = subprocess.run(
            [sys.executable, "-P", str(PRICE_LIST), model],
            env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=LOOK_UP_SECONDS,
            check=True,
        )
        found = json.loads(done.stdout)
        return Price.parse(found) if found else None
    except (OSError, subprocess.SubprocessError, ValueError, TypeError) as error:
        _errors.log("looking up prices", error)
        return None
