"""Every command in README.md and docs/ does what its page says, or the page says why not."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
import yaml

from clinvk.cli.main import cli
from tests import harness
from tests.system.docs import pages

CLIS = ("claude", "codex", "gemini")
QUEUES = ",".join((*CLIS, "echo"))
INVOCATION = re.compile(r"(?:^|[|;&(]|\bif|\bthen)\s*clinvk +([^|;&<>)\n]*)", re.MULTILINE)
VARYING = (
    (re.compile(r"\b\d+\.\d+ ?s\b"), "1.0s"),
    (re.compile(r'("\w*seconds": )[\d.]+'), r"\g<1>1"),
    (re.compile(r"\b\d{8}-\d{6}-[0-9a-f]{8}\b"), "RUN"),
    (re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z"), "TIME"),
    (re.compile(r"\b(local(-\d+)?|clinvk)@[\w.-]+"), "WORKER"),
    (re.compile(r" +"), " "),
)


@dataclass
class Desk:
    """Where a page is tried: a directory, and the environment of its commands."""

    directory: Path
    environment: dict[str, str]

    def run(self, text: str, **more: str) -> harness.Completed:
        """Run a block as a script that stops at the first failure."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=self.directory,
            env=self.environment | more,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=harness.TIMEOUT_SECONDS,
            check=False,
        )
        return harness.Completed(done.returncode, done.stdout, done.stderr)


def program(path: Path, *command: str) -> None:
    path.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
    path.chmod(0o755)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A directory with the examples; clinvk and stand-ins of the three CLIs are on PATH."""
    programs = tmp_path / "bin"
    programs.mkdir()
    program(programs / "clinvk", *harness.CLINVK)
    # What a CLI consists of is beside it: a sandbox shows no other directory of the user's.
    fake = shutil.copy(Path(__file__).with_name("fakecli.py"), programs)
    for name in CLIS:
        recorded = pages.ROOT / "tests" / "transcripts" / name / "success.json"
        transcript = shutil.copy(recorded, programs / f"{name}.json")
        program(programs / name, sys.executable, str(fake), str(transcript))
    directory = tmp_path / "desk"
    directory.mkdir()
    shutil.copytree(pages.ROOT / "examples", directory / "examples")
    paths = (str(programs), str(Path(sys.executable).parent), os.environ["PATH"])
    environment = os.environ | {"PATH": ":".join(paths), "PYTHONPATH": str(pages.ROOT)}
    return Desk(directory, environment)


@pytest.fixture
def fleet(desk: Desk, broker_url: str) -> Iterator[str]:
    """The URL of a broker that one worker serves with all backends."""
    url = {"CLINVK_BROKER_URL": broker_url}
    worker = subprocess.Popen(
        ["clinvk", "worker", "--queues", QUEUES, "--concurrency", "4"],
        env=desk.environment | url,
        cwd=desk.directory,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        harness.wait_until(
            lambda: "clinvk@" in desk.run("clinvk workers", **url).stdout, "the worker"
        )
        yield broker_url
    finally:
        worker.terminate()
        worker.wait(harness.TIMEOUT_SECONDS)


def comparable(text: str) -> list[str]:
    """Return the lines of an output without what differs from run to run.

    Lines that are printed as tasks end are sorted.
    """
    for pattern, replacement in VARYING:
        text = pattern.sub(replacement, text)
    lines = [line.rstrip() for line in text.strip().splitlines()]
    ended = iter(sorted(line for line in lines if re.match(r"\[\d+\] ", line)))
    return [next(ended) if re.match(r"\[\d+\] ", line) else line for line in lines]


def matches(expected: list[str], printed: list[str]) -> bool:
    """Whether an output is as expected; `…` stands for any text, as a line for any lines."""
    pattern = "".join(
        r"(?:.*\n)*?" if line.strip() == "…" else re.escape(line).replace("…", ".*") + "\n"
        for line in expected
    )
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in printed)) is not None


def name(path: Path) -> str:
    return str(path.relative_to(pages.ROOT))


@pytest.mark.parametrize("path", pages.PAGES, ids=name)
def test_commands(path: Path, desk: Desk, request: pytest.FixtureRequest) -> None:
    page = pages.read(path)
    url = request.getfixturevalue("fleet") if page.needs_fleet else ""
    for block in page.blocks:
        if block.title:
            (desk.directory / block.title).write_text(block.text)
        elif block.is_run:
            more = {"CLINVK_BROKER_URL": url} if block.needs_fleet else {}
            done = desk.run(block.text, **more)
            assert done.status == block.exit_code, f"{block.place}: {done}"
            if block.expected_output is not None:
                expected, printed = comparable(block.expected_output), comparable(done.stdout)
                assert matches(expected, printed), f"{block.place}: {expected} != {printed}"


@pytest.mark.parametrize("path", pages.PAGES, ids=name)
def test_rules_are_known(path: Path) -> None:
    for block in pages.read(path).blocks:
        assert block.language, f"{block.place}: a block without a language"
        assert set(block.reasons) <= pages.REASONS, block.place
        for rule in block.rules:
            assert re.fullmatch(r"fleet|exits \d+|output varies|not run, .+", rule), block.place


@pytest.mark.parametrize("path", pages.PAGES, ids=name)
def test_invocations_are_accepted_by_the_command_line(path: Path) -> None:
    blocks = [block.text for block in pages.read(path).blocks if block.language in pages.COMMANDS]
    inline = [code for code in pages.inline_code(path) if code.startswith("clinvk ")]
    for text in (*blocks, *inline):
        for invocation in INVOCATION.findall(text.replace("\\\n", " ")):
            accept(shlex.split(invocation, comments=True))


def accept(arguments: list[str]) -> None:
    """Fail for an unknown command or option; what a command does without is not looked at."""
    command: click.Command = cli
    context = click.Context(cli, info_name="clinvk", **cli.context_settings)
    while isinstance(command, click.Group) and arguments and not arguments[0].startswith("-"):
        found = command.commands.get(arguments[0])
        assert found is not None, arguments
        command, arguments = found, arguments[1:]
    command.make_context(command.name, list(arguments), parent=context, resilient_parsing=True)
    options = {option for parameter in command.params for option in flags(parameter)}
    used = {word.split("=")[0] for word in arguments if re.match(r"--?[a-z]", word)}
    assert used <= options | {"--help", "-h"}, (command.name, used - options)


def flags(parameter: click.Parameter) -> list[str]:
    return [*parameter.opts, *parameter.secondary_opts]


@pytest.mark.parametrize("path", pages.PAGES, ids=name)
def test_data_is_well_formed(path: Path, desk: Desk) -> None:
    readers: dict[str, Callable[[str], object]] = {"json": json.loads, "yaml": yaml.safe_load}
    for block in pages.read(path).blocks:
        if block.language not in readers:
            continue
        if block.title:  # another one may name it
            (desk.directory / block.title).write_text(block.text)
        value = readers[block.language](block.text)
        kinds = {"tasks": "parallel", "steps": "chain"}
        lists = [
            key for key in kinds if isinstance(value, dict) and isinstance(value.get(key), list)
        ]
        kind = kinds[lists[0]] if lists else None
        if kind and "results" not in value:  # type: ignore[operator]
            file = desk.directory / f"checked.{block.language}"
            file.write_text(block.text)
            done = desk.run(f"clinvk {kind} --file {file} --dry-run")
            assert done.status == 0, f"{block.place}: {done}"
