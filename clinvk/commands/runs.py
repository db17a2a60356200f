"""The commands about a run that was submitted: status, attach, results, cancel, wait."""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from typing import TYPE_CHECKING

from clinvk.commands.printing import print_listing
from clinvk.core import exit_codes
from clinvk.core.errors import ClinvkError, UsageError
from clinvk.core.spec import RunOptions, RunSummary
from clinvk.core.spending import Spending
from clinvk.local.records import INTERRUPTED
from clinvk.output import tables
from clinvk.output.kinds import formatter_of
from clinvk.output.presenter import COMMAND, Audience, Presenter
from clinvk.output.reporter import View
from clinvk.output.streams import Output
from clinvk.output.whole_file import writable_file, write_whole
from clinvk.runs.report import Report
from clinvk.runs.step_reader import StepReader

if TYPE_CHECKING:
    from clinvk.runs.celery_client import CeleryClient


def status(client: CeleryClient, run_id: str, *, as_json: bool) -> int:
    """Print the state of a run and its counts."""
    summary = client.open(run_id).summary()
    values = formatter_of(summary.kind).status(summary)
    return print_listing(values, tables.status(values), as_json=as_json)


def attach(
    client: CeleryClient,
    run_id: str,
    view: View,
    *,
    detach: bool = False,
    audience: Audience = COMMAND,
) -> int:
    """Follow a run from its beginning, as if it had been submitted here; or detach at once."""
    run = client.open(run_id)
    summary = run.summary()
    check_goes_on(summary)
    options = RunOptions(max_parallel=summary.max_parallel, fail_fast=summary.fail_fast)
    presenter = Presenter(view, formatter_of(summary.kind), run.specs(), options, audience=audience)
    if detach:
        presenter.submitted(run.id)
        return exit_codes.OK
    with presenter.interruption() as interruption:
        return presenter.show(run, interruption)


def check_goes_on(summary: RunSummary) -> None:
    """Make sure that a run has ended or will.

    Raises:
        ClinvkError: it is interrupted.
    """
    if summary.state == INTERRUPTED:
        run = summary.run_id
        raise ClinvkError(
            f"run {run} was interrupted: clinvk resume {run} goes on with it, clinvk results {run} "
            "prints what it has"
        )


def results(client: CeleryClient, run_id: str, *, as_json: bool, only_failed: bool) -> int:
    """Print the results that a run has so far, page by page."""
    run = client.open(run_id)
    summary = run.summary()
    rows = (
        (spec, result)
        for spec, result in run.results(summary)
        if not only_failed or result.error_kind is not None
    )
    formatter = formatter_of(summary.kind)
    pieces = formatter.results_document if as_json else formatter.results
    spending = defaultdict[str, Spending](Spending)
    for row in client.store.spending_of(run.id):
        spending[row.backend] += row.spending
    Output(sys.stdout).write_all(pieces(summary, rows, spending))
    return exit_codes.OK


def report(client: CeleryClient, run_id: str, path: str) -> int:
    """Write the results and steps that a run has so far as a page."""
    from clinvk.output.forms.report import NewestSteps, page_of

    file = writable_file("--output", path)
    run = client.open(run_id)
    summary = run.summary()
    specs, results = zip(*run.results(summary), strict=True) if summary.ended else ((), ())
    steps = NewestSteps()
    for step in StepReader(run).new():
        steps.add(step)
    found = Report(
        run_id=run.id,
        specs=specs,
        results=results,
        started_ms=summary.created_ms,
        ended_ms=summary.ended_ms or int(time.time() * 1000),
    )
    try:
        write_whole(file, [page_of(found, formatter_of(summary.kind).total(found), steps)])
    except OSError as error:
        raise UsageError(f"--output: cannot write {file}: {error.strerror}") from error
    return exit_codes.OK


def cancel(client: CeleryClient, run_id: str) -> int:
    """Cancel a run: stop its running tasks and start no others."""
    run = client.open(run_id)
    run.cancel("canceled")
    was_over = run.summary().cancel_reason is None
    Output(sys.stdout).write(f"{run_id} {'has ended already' if was_over else 'is canceled'}\n")
    return exit_codes.OK


def wait(client: CeleryClient, run_id: str) -> int:
    """Wait until a run ends; the exit code is the run's."""
    run = client.open(run_id)
    check_goes_on(run.summary())
    for event in run.events():
        if event.kind == "ended":
            break
    summary = run.summary()
    return exit_codes.OK if summary.ok == summary.total else exit_codes.TASK_FAILED
