"""Bytes that stay in a file until somebody asks.

Files are read by position, never mapped: a mapped file that another program truncates kills the process
(SIGBUS), a positioned read merely comes back short and becomes an error that names the file.
"""

from __future__ import annotations

import os
import stat
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol

from wexport.errors import SourceError

_BLOCK = 8 << 20


class Storage(Protocol):
    """The bytes of one stored array, in C order."""

    @property
    def size(self) -> int:
        """The number of bytes."""

    def read_into(self, buffer: memoryview, start: int) -> None:
        """Fill the buffer with the bytes from `start` on; may be called from several threads."""


class SourceFile:
    """A regular file that is open for reading by position."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._fd = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
        except OSError as error:
            raise SourceError(f"{path}: cannot be read: {error.strerror}") from error
        self._own()

    @classmethod
    def adopt(cls, descriptor: int, path: Path) -> SourceFile:
        """A file that is open already, named after `path` in messages; the descriptor is copied."""
        file = cls.__new__(cls)
        file.path, file._fd = path, os.dup(descriptor)
        file._own()
        return file

    def _own(self) -> None:
        status = os.fstat(self._fd)
        if not stat.S_ISREG(status.st_mode):
            os.close(self._fd)
            raise SourceError(f"{self.path}: is not a regular file; expected a model file")
        self.size = status.st_size
        self._lock = threading.Lock()

    def read_into(self, buffer: memoryview, start: int) -> None:
        """Fill the buffer with the file's bytes from `start` on.

        Raises:
            SourceError: the file ends before the buffer is full, or cannot be read.
        """
        done = 0
        while done < len(buffer):
            try:
                got = self._read_some(buffer[done:], start + done)
            except OSError as error:
                raise SourceError(f"{self.path}: cannot be read: {error.strerror}") from error
            if not got:
                raise SourceError(
                    f"{self.path}: ends at byte {start + done}, {len(buffer) - done} bytes too early; "
                    "the file is truncated or was changed while it was read"
                )
            done += got

    def _read_some(self, buffer: memoryview, start: int) -> int:
        if hasattr(os, "preadv"):
            return os.preadv(self._fd, [buffer], start)
        with self._lock:  # systems without positioned reads
            os.lseek(self._fd, start, os.SEEK_SET)
            data = os.read(self._fd, len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def read(self, start: int, size: int) -> bytes:
        """Bytes `start` to `start + size`; fewer where the file ends."""
        data = bytearray(max(0, min(size, self.size - start)))
        self.read_into(memoryview(data), start)
        return bytes(data)

    def expect(self, start: int, size: int) -> None:
        """Tell the system that these bytes will be read, in whatever order."""
        if hasattr(os, "posix_fadvise"):
            with suppress(OSError):
                os.posix_fadvise(self._fd, start, size, os.POSIX_FADV_WILLNEED)

    def close(self) -> None:
        """Close the file; a second time does nothing."""
        descriptor, self._fd = self._fd, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __enter__(self) -> SourceFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class FileRange:
    """A run of bytes of a file."""

    file: SourceFile
    offset: int
    size: int

    def read_into(self, buffer: memoryview, start: int) -> None:
        """Fill the buffer with the run's bytes from `start` on."""
        self.file.read_into(buffer, self.offset + start)

    def expect(self) -> None:
        """Tell the system that all of it will be read, in whatever order."""
        self.file.expect(self.offset, self.size)


@dataclass(frozen=True, slots=True)
class Bytes:
    """Bytes in memory (small arrays that a container holds inline)."""

    data: bytes

    @property
    def size(self) -> int:
        """The number of bytes."""
        return len(self.data)

    def read_into(self, buffer: memoryview, start: int) -> None:
        """Fill the buffer from `start` on."""
        buffer[:] = self.data[start : start + len(buffer)]


def copy_into(descriptor: int, offset: int, storage: Storage) -> None:
    """Write all of a storage's bytes into an open file, from `offset` on."""
    block = memoryview(bytearray(min(_BLOCK, storage.size)))
    for start in range(0, storage.size, _BLOCK):
        part = block[: min(_BLOCK, storage.size - start)]
        storage.read_into(part, start)
        write_at(descriptor, part, offset + start)


def write_at(descriptor: int, data: memoryview, place: int) -> None:
    """Write bytes into an open file, from `place` on."""
    done = 0
    while done < len(data):
        if hasattr(os, "pwrite"):
            done += os.pwrite(descriptor, data[done:], place + done)
        else:  # systems without positioned writes
            os.lseek(descriptor, place + done, os.SEEK_SET)
            done += os.write(descriptor, data[done:])
