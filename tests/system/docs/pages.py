"""The code blocks of README.md and docs/, and what the comments above them say about testing them.

A block with a language of COMMANDS is run, and a `text` or `json` block right below it is its
output. A comment above the block, which no renderer shows, changes that:

    <!-- test: fleet -->             run against a fleet: a broker and one worker
    <!-- test: exits 1 -->           the block ends with this exit code
    <!-- test: output varies -->     the output is an example
    <!-- test: not run, REASON -->   one of REASONS

Several stand in one comment, separated by semicolons. A block with `title="NAME"` is that file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[3]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
COMMANDS = {"sh", "bash", "console"}
OUTPUTS = {"text", "json"}
REASONS = {
    "needs the internet",
    "needs the real CLIs",
    "needs Docker",
    "needs earlier runs",
    "needs systemd",
    "needs Kubernetes",
    "needs a Redis of your own",
    "runs until it is stopped",
    "runs the tests",
    "takes long",
}
COMMENT = re.compile(r"\s*<!-- test: (.+?) -->\s*")
TITLE = re.compile(r'title="([^"]+)"')


@dataclass(frozen=True)
class Block:
    """A fenced block: where it is, what is in it, and how it is tested."""

    page: Path
    line: int
    language: str
    text: str
    title: str = ""
    rules: frozenset[str] = frozenset()
    output: str | None = None

    @property
    def place(self) -> str:
        """Where it is, as in `docs/index.md:12`."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def is_run(self) -> bool:
        """Whether the tests run it."""
        return self.language in COMMANDS and not self.reasons

    @property
    def needs_fleet(self) -> bool:
        """Whether it runs against a fleet."""
        return "fleet" in self.rules

    @property
    def reasons(self) -> list[str]:
        """Why it is not run."""
        return [rule.removeprefix("not run, ") for rule in self.rules if rule.startswith("not run")]

    @property
    def exit_code(self) -> int:
        """The exit code that it ends with."""
        return next((int(r.removeprefix("exits ")) for r in self.rules if r.startswith("exits")), 0)

    @property
    def expected_output(self) -> str | None:
        """What it prints; None where nothing is said, or an example is shown."""
        return None if "output varies" in self.rules else self.output


@dataclass
class Page:
    """A page: its blocks, in order."""

    path: Path
    blocks: list[Block] = field(default_factory=list)

    @property
    def needs_fleet(self) -> bool:
        """Whether any of its blocks runs against a fleet."""
        return any(block.is_run and block.needs_fleet for block in self.blocks)


def read(path: Path) -> Page:
    """Read the blocks of a page."""
    tokens = MarkdownIt().parse(path.read_text(encoding="utf-8"))
    before = [None, *tokens]
    found = [
        _block(path, token, previous)
        for previous, token in zip(before, tokens, strict=False)
        if token.type == "fence"
    ]
    return Page(path, list(_with_outputs(found, _adjacent(tokens))))


def inline_code(path: Path) -> Iterator[str]:
    """Yield what stands between backticks in the text of a page."""
    for token in MarkdownIt().enable("table").parse(path.read_text(encoding="utf-8")):
        yield from (child.content for child in token.children or () if child.type == "code_inline")


def _block(path: Path, token: Token, previous: Token | None) -> Block:
    assert token.map is not None
    language, _, rest = token.info.partition(" ")
    title = TITLE.search(rest)
    comment = COMMENT.fullmatch(previous.content) if previous is not None else None
    return Block(
        page=path,
        line=token.map[0] + 1,
        language=language,
        text=token.content,
        title=title[1] if title else "",
        rules=frozenset(comment[1].split("; ")) if comment else frozenset(),
    )


def _adjacent(tokens: list[Token]) -> set[int]:
    """Return the lines of the fences that follow another at once."""
    return {
        second.map[0] + 1
        for first, second in pairwise(tokens)
        if first.type == second.type == "fence" and second.map is not None
    }


def _with_outputs(blocks: list[Block], adjacent: set[int]) -> Iterator[Block]:
    for block, following in pairwise([*blocks, None]):
        assert block is not None
        is_output = (
            following is not None
            and following.line in adjacent
            and following.language in OUTPUTS
            and not following.title
        )
        if is_output and block.language in COMMANDS:
            assert following is not None
            yield Block(**{**block.__dict__, "output": following.text})
        else:
            yield block
