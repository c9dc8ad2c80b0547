"""New elements for arrays of an HDF5 file, whose structure stays as it is.

Contiguous arrays are overwritten where they lie. Those in chunks, or in an object's header, are written by the HDF5
library, in a process of its own (`hdf5_child.py`): chunks may have to move, and their index with them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from wexport.errors import SourceError
from wexport.readers.hdf5 import Chunked, Compact
from wexport.storage import FileRange, Storage, copy_into

_CHILD = Path(__file__).with_name("hdf5_child.py")
_PATIENCE = 120  # seconds, and one more for each of so many bytes
_PER_SECOND = 1 << 20


def rewrite_hdf5(target: Path, base: int, edits: Sequence[tuple[Storage, Storage]]) -> None:
    """Give arrays of a copy of an HDF5 file new bytes.

    Args:
        target: the copy, which is written to.
        base: where in the file that was read the copy begins.
        edits: for each array its storage in the file that was read, and its new bytes.

    Raises:
        SourceError: the HDF5 library refuses the file.
    """
    jobs = []
    with target.open("r+b") as file:
        for old, new in edits:
            if isinstance(old, FileRange):
                copy_into(file.fileno(), old.offset - base, new)
            else:
                assert isinstance(old, Chunked | Compact)  # nothing else has elements
                jobs.append((old.path, new))
    if jobs:
        _by_library(target, jobs)


def _by_library(target: Path, jobs: Sequence[tuple[str, Storage]]) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".wexport-") as folder:
        lines = []
        for number, (path, new) in enumerate(jobs):
            data = Path(folder, str(number))
            with data.open("wb") as file:
                copy_into(file.fileno(), 0, new)
            lines.append(json.dumps({"path": path, "data": str(data)}))
        command = [sys.executable, "-I", str(_CHILD), str(target)]
        limit = _PATIENCE + sum(new.size for _, new in jobs) // _PER_SECOND
        environment = {**os.environ, "HDF5_USE_FILE_LOCKING": "FALSE"}
        try:
            done = subprocess.run(  # noqa: S603 - this Python with a file of this package
                command, input="\n".join(lines), capture_output=True, text=True, timeout=limit, env=environment
            )
        except subprocess.TimeoutExpired as error:
            raise SourceError(f"{target.name}: the HDF5 library did not end within {limit} seconds; {_WAY}") from error
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
        raise SourceError(f"{target.name}: the HDF5 library cannot write its chunked arrays: {reason}; {_WAY}")


_WAY = "rewrite the source with h5repack -l CONTI and restore into that"
