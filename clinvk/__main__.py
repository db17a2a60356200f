"""The program `clinvk`, or `python -m clinvk`."""

# ruff: noqa: E402

import gc
import os
from typing import NoReturn

gc.set_threshold(50_000)  # loading makes a lot that stays: a tenth of its time went into counting

from clinvk import cli


def main() -> NoReturn:
    """Run the command line, and end the process at once.

    All is written and closed by then. To take apart what was imported would be a tenth of the
    time of a short run.
    """
    code = 1
    try:
        cli.main()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    os._exit(code)


if __name__ == "__main__":
    main()
