"""The program `clinvk`, or `python -m clinvk`."""

import gc
import os
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line, and end the process at once.

    All is written and closed by then. To take apart what was imported would be a tenth of the
    time of a short run.
    """
    gc.set_threshold(50_000)  # loading makes a lot that stays: to look through it is another tenth
    code = 1
    try:
        from clinvk.cli.main import main as run_command_line

        run_command_line()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except KeyboardInterrupt:
        code = 130
    os._exit(code)


if __name__ == "__main__":
    main()
