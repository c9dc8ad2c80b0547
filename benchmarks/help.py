"""How long `wexport --help` takes, in times of Python's own start.

    python benchmarks/help.py [ROUNDS]

Help that comes at once is read more often; what it must not wait for is NumPy and all that comes after.
"""

from __future__ import annotations

import sys

from measure import PASS, WEXPORT, environment, interleaved, machine, ratio, table


def main(rounds: int) -> None:
    commands = {"python -c pass": PASS, "wexport --help": [*WEXPORT, "--help"]}
    times = interleaved(commands, rounds, environment())
    print(machine(["wexport"]))
    print(f"{rounds} rounds in turns\n")
    print(table(times))
    print(ratio("wexport --help / python", times["wexport --help"].ratio(times["python -c pass"]), "at most 3"))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 30)
