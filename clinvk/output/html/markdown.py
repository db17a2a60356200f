"""Answers as HTML: Markdown in which nothing is markup but what Markdown knows."""

from __future__ import annotations

from functools import cache

from markdown_it import MarkdownIt

from clinvk.core.sanitize import multi_line


def rendered(text: str) -> str:
    """Return an answer as HTML. HTML in it is text, and images are links."""
    return str(_parser().render(multi_line(text)))


@cache
def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    parser.disable("image")  # `![a](b)` is then a link: an image would be a request
    return parser
