"""Lines out of bytes that come in pieces of any size."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator

from clinvk.backends.base import LINE_CHARS


class LineSplitter:
    """Splits what a process writes into the lines that `Captured.lines` would have of all of it.

    Bytes that are not UTF-8 become U+FFFD. A line that is longer than `line_chars` comes in pieces,
    so what is held of an unfinished line is bounded.
    """

    def __init__(self, line_chars: int = LINE_CHARS) -> None:
        utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._decoder = io.IncrementalNewlineDecoder(utf8, translate=True)
        self._line_chars = line_chars
        self._unfinished: list[str] = []
        self._chars = 0

    def split(self, piece: bytes) -> Iterator[str]:
        """Yield the lines that end in this piece."""
        return self._lines(self._decoder.decode(piece))

    def end(self) -> Iterator[str]:
        """Yield what is left when no more comes."""
        yield from self._lines(self._decoder.decode(b"", final=True))
        if self._chars:
            yield self._take()

    def _lines(self, text: str) -> Iterator[str]:
        *finished, rest = text.split("\n")
        for line in finished:
            yield from self._add(line)
            yield self._take()
        yield from self._add(rest)

    def _add(self, text: str) -> Iterator[str]:
        """Add to the unfinished line; yield each piece of it that is full."""
        at = 0
        while self._chars + len(text) - at >= self._line_chars:
            upto = at + self._line_chars - self._chars
            self._unfinished.append(text[at:upto])
            at = upto
            yield self._take()
        if at < len(text):
            self._unfinished.append(text[at:])
            self._chars += len(text) - at

    def _take(self) -> str:
        line = "".join(self._unfinished)
        self._unfinished.clear()
        self._chars = 0
        return line
