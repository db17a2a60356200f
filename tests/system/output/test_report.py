"""The page of a run in a real browser: what it shows, and that nothing of a task runs in it.

The browser is Debian's Chromium, headless; the rules of accessibility are those of axe-core.
"""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from clinvk.core.changes import Changes, Commit
from clinvk.core.spec import ErrorKind, TaskResult, TaskSpec, TaskStatus, Try, Verification
from clinvk.output.html.page import page
from clinvk.runs.report import Report
from tests import harness

ATTACK = "document.title='hacked'"
HOSTILE = f'</script><script>{ATTACK}</script><img src=x onerror="{ATTACK}">'
AXE = """
<script>{axe}</script>
<script>
for (const details of document.querySelectorAll("details")) details.open = true;
axe.run({{resultTypes: ["violations"]}}).then(found => {{
  const made = document.createElement("pre");
  made.id = "axe";
  made.textContent = JSON.stringify(found.violations.map(each => [each.id, each.impact]));
  document.body.append(made);
}});
</script>
"""


@pytest.fixture
def text() -> str:
    statuses = [TaskStatus.OK, TaskStatus.FAILED, TaskStatus.TIMEOUT, TaskStatus.CANCELED]
    specs = [TaskSpec(backend="a", prompt=HOSTILE, name=HOSTILE, id=HOSTILE) for _ in statuses]
    results = [
        TaskResult(
            index=index,
            status=status,
            exit_code=0,
            duration_seconds=index + 0.5,
            output=f"# Answer\n\n{HOSTILE}\n\n[a link](https://example.org)\n\n```\ncode\n```",
            error=None if status is TaskStatus.OK else HOSTILE,
            error_kind=None if status is TaskStatus.OK else ErrorKind.FAILED,
            worker=HOSTILE,
            model=HOSTILE,
            waited_seconds=1.5,
            warnings=[HOSTILE],
            data={HOSTILE: [HOSTILE]},
            verify=Verification(exit_code=index, output=HOSTILE),
            tried=[Try(backend=HOSTILE, error=HOSTILE)],
            reused=HOSTILE,
            changes=Changes(
                base="b",
                start="s",
                tree="t",
                patch=HOSTILE,
                commits=[Commit(sha=HOSTILE, author=HOSTILE, message=HOSTILE)],
            ),
            start_time=f"2026-01-01T00:00:0{index}.000Z",
            end_time=f"2026-01-01T00:00:0{index + 1}.500Z",
        )
        for index, status in enumerate(statuses)
    ]
    run = Report(
        run_id="r1", specs=specs, results=results, started_ms=1767225600000, ended_ms=1767225609000
    )
    return page(run, f"Total {HOSTILE}", {0: [HOSTILE]})


def opened(folder: Path, text: str, *more: str, place: str = "") -> tuple[str, list[str]]:
    """Open a page in the browser; returns the document that it has become, and its console."""
    path = folder / "report.html"
    path.write_text(text)
    done = subprocess.run(
        [
            *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"),
            *(
                "--enable-logging=stderr",
                "--virtual-time-budget=5000",
                f"--user-data-dir={folder}/u",
            ),
            *more,
            f"file://{path}{place}",
        ],
        capture_output=True,
        text=True,
        timeout=harness.TIMEOUT_SECONDS,
        check=True,
    )
    return done.stdout, re.findall(r".*CONSOLE.*", done.stderr)


def test_hostile_texts_are_shown_and_do_nothing(tmp_path: Path, text: str) -> None:
    for number in (1, 2):
        document, console = opened(tmp_path, text, place=f"#task-{number}")
        assert console == []
        assert "<title>clinvk r1</title>" in document
        assert "<img" not in re.sub(r"<script.*?</script>", "", document, flags=re.DOTALL)
        assert document.count(html.escape(HOSTILE, quote=False)) > 5
        assert 'class="detail"' in document
        for part in ("Data", "Verify", "Changes", "Commits", "Tried before"):
            assert f"<h3>{part}" in document


def test_a_script_that_got_in_would_not_run(tmp_path: Path, text: str) -> None:
    document, console = opened(tmp_path, text.replace("<h1>", f"{HOSTILE}<h1>"))
    assert "<title>clinvk r1</title>" in document
    assert any("Content Security Policy" in line for line in console)


@pytest.mark.parametrize("scheme", [0, 1])
def test_it_can_be_used_by_everybody(tmp_path: Path, text: str, scheme: int) -> None:
    """Without serious findings, dark (0) and light (1)."""
    axe = axe_core(tmp_path).replace("</script", "<\\/script")
    free = re.sub(r"<meta http-equiv.*?>", "", text)
    tested = free.replace("</body>", AXE.format(axe=axe) + "</body>")
    colors = f"--blink-settings=preferredColorScheme={scheme}"
    document, _ = opened(tmp_path, tested, colors, place="#task-1")
    found = re.search(r'<pre id="axe">(.*?)</pre>', document)
    assert found is not None
    violations: list[Any] = json.loads(html.unescape(found[1]))
    assert [each for each in violations if each[1] in {"serious", "critical"}] == []


def axe_core(folder: Path) -> str:
    """Return the rules, from npm."""
    npm = shutil.which("npm")
    assert npm is not None
    command = [npm, "install", "--no-audit", "--no-fund", "--prefix", str(folder), "axe-core@4"]
    subprocess.run(command, check=True, capture_output=True)
    return (folder / "node_modules" / "axe-core" / "axe.min.js").read_text()
