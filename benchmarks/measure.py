"""What the benchmarks share: commands timed in turns, and a word about the machine."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

Command = Sequence[str]


@dataclass(frozen=True, slots=True)
class Times:
    """The seconds that one thing took, round after round."""

    seconds: list[float]

    @property
    def least(self) -> float:
        return min(self.seconds)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def __add__(self, other: Times) -> Times:
        return Times([a + b for a, b in zip(self.seconds, other.seconds, strict=True)])

    def ratio(self, other: Times) -> tuple[float, float]:
        """How many times as long as the other: by the least times, and by the median of the rounds' ratios."""
        rounds = [a / b for a, b in zip(self.seconds, other.seconds, strict=True)]
        return self.least / other.least, statistics.median(rounds)


def interleaved(
    commands: Mapping[str, Command], rounds: int, env: Mapping[str, str], clean: Callable[[], None] = lambda: None
) -> dict[str, Times]:
    """Time commands in turns, so that what slows the machine for a while slows them all.

    The first round warms the caches, that of compiled modules too, and is not counted. `clean` runs after each command
    and is not timed.
    """
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(rounds + 1):
        for name, command in commands.items():
            took = timed(command, env)
            clean()
            if number:
                seconds[name].append(took)
    return {name: Times(found) for name, found in seconds.items()}


def timed(command: Command, env: Mapping[str, str]) -> float:
    """Seconds from the start of a process to its end."""
    start = time.perf_counter()
    subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def environment() -> dict[str, str]:
    """This process' environment, in which Python keeps what it compiles, as it does unless told otherwise."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def machine(packages: Iterable[str]) -> str:
    """The machine, how busy it is with other things, and the versions, in two lines."""
    versions = [f"{name} {version(name)}" for name in packages]
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return (
        f"machine   {os.cpu_count()} cores, {_processor()}, {platform.system()} {platform.release()}{load}\n"
        f"versions  Python {platform.python_version()}, {', '.join(versions)}"
    )


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def table(times: Mapping[str, Times]) -> str:
    """Least and median of each, a line each."""
    lines = [f"{'':36}{'least':>10}{'median':>10}"]
    lines += [f"{name:36}{t.least:8.3f} s{t.median:8.3f} s" for name, t in times.items()]
    return "\n".join(lines)


def ratio(name: str, pair: tuple[float, float], target: str) -> str:
    """A ratio's line, with what it should be."""
    return f"{name:36}{pair[0]:8.2f} x{pair[1]:8.2f} x   ({target})"


PASS = (sys.executable, "-c", "pass")
WEXPORT = (sys.executable, "-m", "wexport")
