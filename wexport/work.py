"""Jobs on several cores: NumPy, hashing and reading leave the interpreter's lock alone."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

Job = TypeVar("Job")
_PAYS = 8 << 20  # bytes; less is done before the threads have started
_MOST = 4


def run_all(run: Callable[[Job], None], jobs: Sequence[Job], size: int) -> None:
    """Run the jobs in their order; on several threads where so many bytes pay for them.

    The first error ends the work: no further job is begun, and it is raised once all threads have stopped.
    """
    workers = min(len(jobs), os.cpu_count() or 1, _MOST) if size >= _PAYS else 1
    waiting = iter(jobs)
    turn = threading.Lock()
    errors: list[BaseException] = []

    def work() -> None:
        while not errors:
            with turn:
                job = next(waiting, None)
            if job is None:
                return
            try:
                run(job)
            except BaseException as error:  # raised below, in the thread that asked
                errors.append(error)

    others = [threading.Thread(target=work, daemon=True) for _ in range(workers - 1)]
    for thread in others:
        thread.start()
    try:
        work()
    except BaseException as error:  # an interrupt between two jobs
        errors.append(error)
    for thread in others:
        thread.join()
    if errors:
        raise errors[0]
