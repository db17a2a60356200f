"""The page, put together."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from clinvk.core.durations import in_words
from clinvk.core.timestamps import rfc3339_from_ms
from clinvk.core.version import __version__
from clinvk.output.html import timeline
from clinvk.output.html.model import TEXT_CHARS, Contents, Steps, contents
from clinvk.runs.report import Report

FOLDER = Path(__file__).parent
MOST_CHARS = 4_900_000
"""A page is not longer, whatever the run: texts are cut further until it fits."""
LEAST_TEXT_CHARS = 1000
STATUSES = ("ok", "failed", "timeout", "lost", "canceled")


def page(report: Report, total: str, steps: Steps) -> str:
    """Return the page of a run; `total` is its line of totals, without costs."""
    text_chars = TEXT_CHARS
    while True:
        made = _rendered(report, total, contents(report, steps, text_chars))
        if len(made) <= MOST_CHARS or text_chars < LEAST_TEXT_CHARS:
            return made
        text_chars = int(text_chars * 0.8 * MOST_CHARS / len(made))


def _rendered(report: Report, total: str, found: Contents) -> str:
    script = _file("report.js")
    return _template().render(
        report=report,
        total=total,
        started=rfc3339_from_ms(report.started_ms),
        duration=in_words(report.duration_seconds),
        found=found,
        cost=_sum(found, "cost_usd"),
        tokens=_sum(found, "tokens"),
        statuses=[(name, found.counts.get(name, 0)) for name in STATUSES],
        timeline=Markup(timeline.drawing(report)),  # noqa: S704  (it escapes what it draws)
        style=Markup(_file("style.css")),  # noqa: S704  (ours)
        script=Markup(script),  # noqa: S704  (ours)
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        data=Markup(_data(found.rows)),  # noqa: S704  (no `<` is left in it)
        version=__version__,
    )


def _sum(found: Contents, name: str) -> float | None:
    known = [getattr(share, name) for share in found.shares if getattr(share, name)]
    return sum(known) if known else None


def _data(rows: Any) -> str:
    """Return JSON that can stand in an element `script`, which nothing in it ends."""
    text = json.dumps(rows, separators=(",", ":"))  # in ASCII: half surrogates are escaped, too
    text = text.replace("</", "<\\/").replace("<!", "\\u003c!")
    return re.sub("<(?=script)", r"\\u003c", text, flags=re.IGNORECASE)


@cache
def _file(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("template.html")
