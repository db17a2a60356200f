"""A program that notes when it began and ended, and two ways to run many of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

RECORD = """#!{bash}
start=${{EPOCHREALTIME/[.,]/}}
read -r index seconds
read -rt "$seconds" <>"$0.fifo"
echo "$index $start ${{EPOCHREALTIME/[.,]/}}" >>"$0.log"
"""
"""Its prompt: `INDEX SECONDS`. Starts no other program: it waits for a FIFO that nobody writes."""


class MissingError(Exception):
    """This machine lacks what a benchmark needs."""


@dataclass(frozen=True)
class Record:
    """A task by its own clock, in seconds."""

    index: int
    start: float
    end: float

    @property
    def length(self) -> float:
        return self.end - self.start


class Recorder:
    """The program in its folder, and a configuration with it as backend `record`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.program = folder / "record"
        self.program.write_text(RECORD.format(bash=find_bash()))
        self.program.chmod(0o755)
        os.mkfifo(f"{self.program}.fifo")
        self.config = folder / "config.json"
        self.config.write_text(
            json.dumps({"backends": {"record": {"command": [str(self.program)]}}})
        )

    def through_clinvk(self, lengths: Sequence[float], at_once: int, *more: str) -> list[Record]:
        """Run tasks of these lengths with one command."""
        file = self.folder / "tasks.jsonl"
        lines = [{"backend": "record", "prompt": prompt} for prompt in prompts(lengths)]
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
        subprocess.run(
            [
                *(sys.executable, "-m", "clinvk", "parallel", "--quiet", "--file", str(file)),
                *("--config", str(self.config), "--max-parallel", str(at_once), *more),
            ],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        return self._take(len(lengths))

    def through_threads(self, lengths: Sequence[float], at_once: int) -> list[Record]:
        """Run the same with the least that Python can do."""

        def run(prompt: str) -> None:
            subprocess.run([self.program], input=prompt.encode(), check=True, capture_output=True)

        with ThreadPoolExecutor(at_once) as pool:
            list(pool.map(run, prompts(lengths)))
        return self._take(len(lengths))

    def _take(self, count: int) -> list[Record]:
        """Return the records, in order of their tasks, and forget them."""
        log = Path(f"{self.program}.log")
        rows = [line.split() for line in log.read_text().splitlines()]
        log.unlink()
        found = [Record(int(i), int(start) / 1e6, int(end) / 1e6) for i, start, end in rows]
        found.sort(key=lambda record: record.index)
        if [record.index for record in found] != list(range(count)):
            raise RuntimeError(f"{len(found)} records of {count} tasks")
        return found


def prompts(lengths: Sequence[float]) -> list[str]:
    return [f"{index} {length:.3f}\n" for index, length in enumerate(lengths)]


def find_bash() -> str:
    """Find a bash that can tell the time by itself: one of 5.0 or newer."""
    bash = shutil.which("bash")
    ask = [str(bash), "-c", "echo $EPOCHREALTIME"]
    if bash is None or not subprocess.run(ask, check=True, capture_output=True).stdout.strip():
        raise MissingError("there is no bash of version 5")
    return bash


@contextmanager
def recorder() -> Iterator[Recorder]:
    with tempfile.TemporaryDirectory() as folder:
        yield Recorder(Path(folder))
