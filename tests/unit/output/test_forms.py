"""Which forms of output a command line asks for, and that each of them is registered."""

from __future__ import annotations

import importlib
import io
import pkgutil
from pathlib import Path

import pytest

from clinvk.core.spec import RunOptions, TaskResult, TaskSpec
from clinvk.output import forms
from clinvk.output.forms import live
from clinvk.output.kinds import formatter_of
from clinvk.output.reporter import FileReporter, Presentation, View
from clinvk.output.streams import Output, Streams
from clinvk.runs.client import Event
from clinvk.runs.report import Report


def presentation(view: View) -> Presentation:
    return Presentation(
        view=view,
        formatter=formatter_of("parallel"),
        specs=[],
        options=RunOptions(),
        streams=Streams(Output(io.StringIO())),
        width=80,
    )


def test_each_file_is_a_form_that_is_registered() -> None:
    files = {module.name for module in pkgutil.iter_modules(forms.__path__)}
    assert {form.name for form in forms.FORMS} == files


@pytest.mark.parametrize(
    ("view", "on_terminal", "elsewhere"),
    [
        (View(), {"Text", "Live", "TerminalStatus"}, {"Text", "Waits"}),
        (
            View(as_json=True),
            {"JsonDocument", "Live", "TerminalStatus"},
            {"JsonDocument", "Plain", "Waits"},
        ),
        (View(quiet=True), {"Quiet", "Waits"}, {"Quiet", "Waits"}),
        (View(as_json=True, quiet=True), {"JsonDocument", "Waits"}, {"JsonDocument", "Waits"}),
    ],
)
def test_what_is_made_of_a_view(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    view: View,
    on_terminal: set[str],
    elsewhere: set[str],
) -> None:
    for has_terminal, wanted in ((True, on_terminal), (False, elsewhere)):
        monkeypatch.setattr(live, "has_terminal", lambda value=has_terminal: value)
        made = forms.reporters(presentation(view))
        assert {type(reporter).__name__ for reporter in made} == wanted
    with_files = View(as_json=True, quiet=True, paths={"output_dir": str(tmp_path)})
    made = forms.reporters(presentation(with_files))
    assert {type(reporter).__name__ for reporter in made} == {
        *("JsonDocument", "OutputDir", "Waits")
    }


def test_a_form_that_writes_files_is_loaded_where_it_is_wanted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    loaded: list[str] = []
    load = importlib.import_module

    def noted(name: str) -> object:
        loaded.append(name.rpartition(".")[2])
        return load(name)

    monkeypatch.setattr(importlib, "import_module", noted)
    forms.reporters(presentation(View()))
    others = {form.name for form in forms.FORMS if not (form.has_option or form.path)}
    assert len(others) == len(loaded) == 8
    assert set(loaded) == others
    loaded.clear()
    forms.reporters(presentation(View(paths={"junit": str(tmp_path / "j.xml")})))
    assert set(loaded) == {*others, "junit"}


def test_files_that_cannot_be_written_are_noted_once(capsys: pytest.CaptureFixture[str]) -> None:
    class Full(FileReporter):
        name = "full"

        def write_event(self, event: Event) -> None:
            raise OSError(28, "No space left on device")

    reporter = Full(Streams(Output(io.StringIO())), Path("x.csv"))
    assert not reporter.has_failed
    for _ in range(2):
        reporter.saw(Event(kind="idle"))
    assert reporter.has_failed
    assert (
        capsys.readouterr().err == "clinvk: full: cannot write to x.csv: No space left on device\n"
    )


ANOTHER = """
from pathlib import Path
from clinvk.output.reporter import FileReporter

def make(presentation):
    path = presentation.view.paths.get("another")
    return Another(presentation.streams, Path(path)) if path else None

class Another(FileReporter):
    name = "another"

    def write_report(self, report):
        self.path.write_text("".join(f"{result.status}\\n" for result in report.results))
"""


def test_a_new_form_is_a_file_and_a_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "another.py").write_text(ANOTHER)
    monkeypatch.setattr(forms, "__path__", [str(tmp_path)])
    monkeypatch.setattr(forms, "FORMS", (forms.Form("another", "FILE", "Write another form."),))
    target = tmp_path / "target"
    (reporter,) = forms.reporters(presentation(View(paths={"another": str(target)})))
    report = Report(
        run_id="r",
        specs=[TaskSpec(backend="a", prompt="x")],
        results=[TaskResult.never_started(0)],
        started_ms=0,
        ended_ms=0,
    )
    reporter.end(report)
    assert target.read_text() == "canceled\n"
    assert forms.reporters(presentation(View())) == []
