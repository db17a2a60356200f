"""`clinvk runs`: list the runs of a fleet, or of this machine, and remove records of the latter."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clinvk.commands.printing import note_unreadable, print_listing
from clinvk.config import paths
from clinvk.core import exit_codes
from clinvk.core.spec import RunSummary
from clinvk.core.user_paths import expanded_default
from clinvk.core.worker_config import BROKER_URL
from clinvk.local.records import Records
from clinvk.output import documents, tables
from clinvk.output.streams import Output

if TYPE_CHECKING:
    from clinvk.config.settings import Settings

RUNS_VARIABLES = frozenset({BROKER_URL, "CLINVK_RUNS_DIR"})


def list_runs(config: str | None, broker: str | None, limit: int, *, as_json: bool) -> int:
    """List the newest runs of the fleet; without a broker, of this machine."""
    runs_dir = None if broker else default_runs_dir(config)
    if runs_dir is None:
        from clinvk.config import settings

        loaded = settings.load(config)
        if loaded.broker_url(broker) is not None:
            return _print(_of_fleet(loaded, broker, limit), as_json=as_json)
        runs_dir = loaded.runs_dir
    found = Records(runs_dir).newest(limit, note_unreadable)
    return _print([summary.run for summary in found], as_json=as_json)


def default_runs_dir(config: str | None) -> Path | None:
    """Return where local runs are, if no setting seems to say anything of that.

    To read YAML and to check all settings takes several times as long as to list runs.
    """
    if any(name in os.environ for name in RUNS_VARIABLES):
        return None
    try:
        text = paths.locate(config).read_bytes()
    except FileNotFoundError:
        text = b""
    except OSError:
        return None  # which is reported where the settings are read
    if config is not None or paths.VARIABLE in os.environ or b"broker" in text or b"runs" in text:
        return None
    return expanded_default(paths.RUNS_DIR)


def _of_fleet(settings: Settings, broker: str | None, limit: int) -> Sequence[RunSummary]:
    from clinvk.commands import fleet

    with fleet.fleet(settings, broker) as client:
        return client.store.runs(limit, note_unreadable)


def _print(found: Sequence[RunSummary], *, as_json: bool) -> int:
    values = [documents.status(run) for run in found] if as_json else []
    return print_listing(values, tables.runs(found), as_json=as_json)


def remove(settings: Settings, runs: Sequence[str]) -> int:
    """Remove the records of local runs, and end what is left of those that were interrupted."""
    from clinvk.local import reach, recovery

    records = reach.records_of(settings)
    for run in runs:
        local = reach.find(settings, run)
        if local is not None and local.is_interrupted:
            recovery.end_what_is_left(local.run, local.socket_directory)
        run_id = local.run if local is not None else run
        records.remove(run_id)
        recovery.remove_sessions(run_id, settings.worker.state_dir)
        Output(sys.stdout).write(f"{run} is removed\n")
    return exit_codes.OK
