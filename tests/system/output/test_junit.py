"""The JUnit report against the schema of Jenkins, as pytest's own tests have it."""

from __future__ import annotations

from pathlib import Path

import pytest
import xmlschema
from hypothesis import given

from clinvk.output.forms import junit
from clinvk.runs.report import Report
from tests.unit.output.forms import presented


@pytest.fixture(scope="module")
def schema() -> xmlschema.XMLSchema:
    return xmlschema.XMLSchema(Path(__file__).with_name("junit-10.xsd"))


@given(run=presented.reports())
def test_every_report_fits_the_schema(schema: xmlschema.XMLSchema, run: Report) -> None:
    schema.validate("".join(junit.document(run)))
