"""The program `clinvk`, or `python -m clinvk`."""

import contextlib
import gc
import os
import sys
from collections.abc import Iterator, Sequence
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line, and end the process at once.

    All is written and closed by then. To take apart what was imported would be a tenth of the
    time of a short run.
    """
    gc.set_threshold(200_000)  # to look through the 110,000 that loading makes is another tenth
    code = 1
    try:
        _hide_broker()
        if os.getpid() == 1:
            _end_on_sigterm()
        with _anticipating(sys.argv[1:]):
            from clinvk.cli.main import main as run_command_line

            run_command_line()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except KeyboardInterrupt:
        code = 130
    os._exit(code)


@contextlib.contextmanager
def _anticipating(arguments: Sequence[str]) -> Iterator[None]:
    """Start what a local run needs before anything is loaded that reads the arguments."""
    if arguments[:1] and arguments[0] in {"parallel", "chain", "compare"}:
        from clinvk.cli.streams import open_standard_streams
        from clinvk.local import expected

        open_standard_streams()  # or a pipe to the supervisor would get the number of a closed one
        expected.anticipate(arguments[1:])
        try:
            yield
        finally:
            expected.discard()
    else:
        yield


def _end_on_sigterm() -> None:
    """Do what SIGTERM does everywhere but in the first process of a container."""
    import signal

    signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))


def _hide_broker() -> None:
    """Let no other process read the broker's password from our environment or arguments.

    First of all, where there seems to be one; other processes are hidden when they have the time.
    """
    if "CLINVK_BROKER_URL" in os.environ or any("://" in argument for argument in sys.argv):
        from clinvk.privacy import seclude

        seclude()


if __name__ == "__main__":
    main()
