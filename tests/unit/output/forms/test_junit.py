"""The JUnit report; tests/system/docs/test_junit.py holds it against the schema."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given

from clinvk.core.errors import UsageError
from clinvk.core.spec import ErrorKind, TaskStatus
from clinvk.output.forms import junit
from clinvk.runs.report import Report
from tests.unit.output.forms import presented


def parsed(run: Report) -> ET.Element:
    return ET.fromstring("".join(junit.document(run)).encode("utf-8"))


@given(presented.reports())
def test_it_is_xml_with_a_case_for_each_task_whatever_the_texts(run: Report) -> None:
    suite = parsed(run)[0]
    cases = suite.findall("testcase")
    assert len(cases) == len(run.results) == int(suite.attrib["tests"])
    for outcome in ("failure", "error", "skipped"):
        counted = suite.attrib[{"failure": "failures", "error": "errors"}.get(outcome, outcome)]
        assert len(suite.findall(f"testcase/{outcome}")) == int(counted)
    assert len(suite.findall("testcase/*[@type]")) == sum(
        r.error_kind is not None for r in run.results
    )


@pytest.mark.parametrize(
    ("status", "kind", "element"),
    [
        (TaskStatus.FAILED, ErrorKind.REFUSED, "failure"),
        (TaskStatus.FAILED, ErrorKind.RATE_LIMITED, "error"),
        (TaskStatus.TIMEOUT, ErrorKind.TIMEOUT, "failure"),
        (TaskStatus.LOST, ErrorKind.LOST, "error"),
        (TaskStatus.CANCELED, ErrorKind.CANCELED, "skipped"),
    ],
)
def test_what_is_wrong_with_a_task(status: TaskStatus, kind: ErrorKind, element: str) -> None:
    case = parsed(presented.report(status, error="no <way>\nat all", kind=kind))[0].find("testcase")
    assert case is not None
    found = case.find(element)
    assert found is not None
    assert found.attrib == {"type": str(kind), "message": "no <way> at all"}
    assert found.text == "no <way>\nat all"
    assert case.attrib == {"name": "[1] p", "classname": "clinvk.echo", "time": "1.500"}


def test_it_is_written_whole_when_the_run_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "new" / "junit.xml"
    form = junit.make(presented.presentation("junit", path))
    assert form is not None
    assert not path.exists()
    form.end(presented.report(TaskStatus.OK))
    assert ET.parse(path).getroot().attrib["tests"] == "1"
    assert [*path.parent.iterdir()] == [path]


@pytest.mark.parametrize("name", [".", "file/x.xml"])
def test_a_path_that_cannot_be_written(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"^junit: "):
        junit.make(presented.presentation("junit", tmp_path / name))
