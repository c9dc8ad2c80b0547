"""`python -m wexport` and the `wexport` command."""

from __future__ import annotations

import gc
import sys

from wexport.cli import main


def run() -> None:
    """The program: exit code 0, 1 where `verify` finds a difference, 2 for trouble."""
    gc.set_threshold(200_000)  # next to no garbage is made in cycles; looking for it early takes a tenth of the start
    code = main(sys.argv[1:])
    gc.freeze()  # a last look for garbage, another tenth, frees nothing that the end of the process does not
    sys.exit(code)


if __name__ == "__main__":
    run()
