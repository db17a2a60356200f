"""Start one worker: `python -m workers --queues clinvk.claude,clinvk.codex --concurrency 8`.

The worker is a child of this process, which supervises it (`workers/liveness/supervisor.py`), and
so loads nothing that a worker needs.
"""

from __future__ import annotations

import argparse
import sys

from clinvk.privacy import seclude
from workers import handover
from workers.liveness import supervisor


def parser() -> argparse.ArgumentParser:
    """Return the parser of a worker's command line."""
    parser = argparse.ArgumentParser(prog="python -m workers", description=__doc__)
    parser.add_argument("--queues", required=True, help="comma-separated names")
    parser.add_argument("--concurrency", type=int, default=3, help="tasks at once")
    parser.add_argument(
        "--name", default="clinvk", help="it is called NAME@HOST, a second one NAME-2@HOST"
    )
    parser.add_argument("--loglevel", default="WARNING")
    parser.add_argument("--handover", type=int, metavar="FD", help=argparse.SUPPRESS)
    return parser


def main() -> int:
    """Run a worker until it is told to stop; returns its exit code, in both processes."""
    options = parser().parse_args()
    if options.handover is not None:
        handover.take_from_descriptor(options.handover)
    seclude()
    code = supervisor.supervise()
    if code is None:  # in the worker
        from workers import worker_process

        code = worker_process.run(options)
    return code


if __name__ == "__main__":
    sys.exit(main())
