"""The JUnit report against the schema of Jenkins, which comes with pytest's sources."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import xmlschema
from hypothesis import given

from clinvk.output.forms import junit
from clinvk.runs.report import Report
from tests.unit.output.forms import presented


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> xmlschema.XMLSchema:
    folder = tmp_path_factory.mktemp("pytest")
    download = ["download", "--quiet", "--no-deps", "--no-binary=:all:", "--dest", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", *download, "pytest"], check=True)
    (archive,) = folder.glob("pytest-*.tar.gz")
    with tarfile.open(archive) as sources:
        (name,) = (name for name in sources.getnames() if name.endswith("/junit-10.xsd"))
        sources.extract(name, folder, filter="data")
    return xmlschema.XMLSchema(folder / Path(name))


@given(run=presented.reports())
def test_every_report_fits_the_schema(schema: xmlschema.XMLSchema, run: Report) -> None:
    schema.validate("".join(junit.document(run)))
