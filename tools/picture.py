"""Record the picture of the live display: `python -m tools.picture [FILE.svg]`.

Runs `clinvk parallel` on a pseudo-terminal with the demo backend, feeds what it prints to a
terminal emulator, and draws the screen of one moment: some tasks have ended, some run. The picture
refers to nothing outside of itself, fonts included.
"""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pyte
from rich.console import Console
from rich.style import Style
from rich.text import Text

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "assets" / "live.svg"
ARGUMENTS = ("parallel", "--file", "examples/review-modules.json")
COLUMNS, ROWS = 84, 13
ENDED, RUNNING = 4, 4
"""The moment of the picture: so many tasks have ended, and so many run."""

TOTALS = re.compile(r"(\d+)/\d+, (\d+) running")
FONTS = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"

# rich's own frame, but for its web font and the link to where that comes from.
FRAME = """\
<svg class="{unique_id}" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg" \
role="img" aria-label="The live display of clinvk parallel">
<style>
.{unique_id}-matrix {{ font-family: FONTS; font-size: {char_height}px; \
line-height: {line_height}px; font-variant-east-asian: full-width; }}
.{unique_id}-title {{ font-size: 16px; font-family: sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" /></clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
""".replace("FONTS", FONTS)


def main() -> None:
    """Record a run and write the picture."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(picture(record()), encoding="utf-8")


def record() -> pyte.Screen:
    """Run clinvk on a pseudo-terminal until the moment has come; the screen as it is then."""
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    stream.feed(f"$ clinvk {' '.join(ARGUMENTS)}\r\n".encode())
    terminal, process = start()
    try:
        while not is_the_moment(screen):
            stream.feed(os.read(terminal, 65536))
    except OSError:  # the other end of the terminal is closed
        sys.exit(f"the run ended before {ENDED} tasks had ended and {RUNNING} ran at once")
    finally:
        process.send_signal(signal.SIGTERM)
        drain(terminal)
        process.wait()
        os.close(terminal)
    return screen


def start() -> tuple[int, subprocess.Popen[bytes]]:
    """Start clinvk with a pseudo-terminal as its streams; our end of that, and the process."""
    terminal, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    process = subprocess.Popen(
        [sys.executable, "-m", "clinvk", *ARGUMENTS],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=ROOT,
        env=environment | {"TERM": "xterm-256color", "PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )
    os.close(theirs)
    return terminal, process


def is_the_moment(screen: pyte.Screen) -> bool:
    """Whether the display shows the numbers of ended and running tasks that the picture is of."""
    found = TOTALS.search("\n".join(screen.display))
    return found is not None and (int(found[1]), int(found[2])) == (ENDED, RUNNING)


def drain(terminal: int) -> None:
    """Read what the process still prints, so that it can end."""
    try:
        while os.read(terminal, 65536):
            pass
    except OSError:
        return


def picture(screen: pyte.Screen) -> str:
    """Return the screen as an SVG document."""
    console = Console(record=True, width=screen.columns, file=io.StringIO(), force_terminal=True)
    for row in range(used_rows(screen)):
        line = Text(no_wrap=True, end="\n")
        for column in range(screen.columns):
            cell = screen.buffer[row][column]
            line.append(cell.data, style(cell))
        console.print(line, crop=False)
    return console.export_svg(title="clinvk", code_format=FRAME, unique_id="clinvk")


def used_rows(screen: pyte.Screen) -> int:
    """Return the number of rows up to the last that has anything in it."""
    return max(number for number, line in enumerate(screen.display, 1) if line.strip())


def style(cell: pyte.screens.Char) -> Style:
    """Return rich's style for a cell of the emulator."""
    color = None if cell.fg == "default" else {"brown": "yellow"}.get(cell.fg, cell.fg)
    return Style(color=color, bold=cell.bold or None)


if __name__ == "__main__":
    main()
