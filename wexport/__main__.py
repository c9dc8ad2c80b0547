"""`python -m wexport` and the `wexport` command."""

from __future__ import annotations

import sys

from wexport.cli import main


def run() -> None:
    """The program: exit code 0, 1 where `verify` finds a difference, 2 for trouble."""
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    run()
