"""NumPy's archives: read with distrust, written to the same bytes for the same arrays.

An archive is a ZIP file with a member `NAME.npy` for each array: magic, version, a header that is a Python literal
(`descr`, `fortran_order`, `shape`), then the elements. Pickled objects are never read.

Source: the documentation of `numpy.lib.format` (versions 1.0 and 2.0); APPNOTE.TXT of ZIP.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from wexport.errors import UsageError

Array = NDArray[Any]
_DATE = (1980, 1, 1, 0, 0, 0)  # the first that a ZIP file can say
_DENSEST = 1100  # deflate makes no more than 1,032 bytes of one
_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError)


def write_npz(file: IO[bytes], arrays: Iterable[tuple[str, np.dtype[Any], Sequence[int], Iterable[Array]]]) -> None:
    """Write arrays, each given by its name, type, shape and elements: chunks in C order."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, dtype, shape, chunks in arrays:
            plain = name.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode("utf-8")
            info = zipfile.ZipInfo(f"{plain}.npy", _DATE)
            info.create_system, info.external_attr = 3, 0o644 << 16  # alike on every system
            with archive.open(info, "w", force_zip64=True) as member:
                descr = np.lib.format.dtype_to_descr(dtype)
                header = {"descr": descr, "fortran_order": False, "shape": tuple(shape)}
                np.lib.format.write_array_header_1_0(member, header)
                for chunk in chunks:
                    data = np.ascontiguousarray(chunk, dtype).reshape(-1)
                    if data.size:
                        member.write(data.view(np.uint8).data)


@dataclass(frozen=True, slots=True)
class Entry:
    """An array in an archive, of which only the header was read."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran: bool
    start: int  # where in the member the elements start


class Archive(Mapping[str, Entry]):
    """The arrays of an archive by name; their elements are read by `array`.

    Whoever asks for elements has seen type and shape before, and no more memory is taken than the file can fill.
    """

    def __init__(self, path: Path) -> None:
        """Open an archive and read its headers.

        Raises:
            UsageError: it is no archive of arrays, or it is damaged.
        """
        self.path = path
        self._entries: dict[str, Entry] = {}
        self._members: dict[str, zipfile.ZipInfo] = {}
        try:
            self._size = path.stat().st_size
            self._zip = zipfile.ZipFile(path)
        except zipfile.BadZipFile as error:
            raise UsageError(f"{path}: is no .npz file; expected what numpy.savez writes, an array an input") from error
        except OSError as error:
            raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error
        except (ValueError, NotImplementedError, RuntimeError, EOFError) as error:
            raise self._damaged("its directory cannot be read", error) from error
        try:
            for info in self._zip.infolist():
                self._add(info)
        except BaseException:
            self.close()
            raise

    def _add(self, info: zipfile.ZipInfo) -> None:
        name = info.filename.removesuffix(".npy")
        if name == info.filename:
            raise UsageError(
                f"{self.path}: holds {info.filename!r}, which is no array; expected NAME.npy of each input"
            )
        if name in self._members:
            raise self._damaged(f"it holds {name!r} twice")
        self._members[name] = info
        self._check_size(name, info)
        try:
            with self._zip.open(info) as member:
                version = np.lib.format.read_magic(member)
                if version not in _READERS:
                    raise self._damaged(f"{name!r} is of .npy version {version}, expected 1.0 or 2.0")
                shape, fortran, dtype = _READERS[version](member)
                start = member.tell()
        except (*_DAMAGE, ValueError, SyntaxError, TypeError, LookupError, RecursionError, MemoryError) as error:
            raise self._damaged(f"the header of {name!r} cannot be read", error) from error
        if dtype.hasobject or dtype.names is not None:
            raise UsageError(
                f"{self.path}: {name!r} holds objects ({dtype}), which are not read; expected plain numbers"
            )
        if any(n < 0 for n in shape) or start + math.prod(shape) * dtype.itemsize != info.file_size:
            raise self._damaged(f"{name!r} says {dtype} {shape}, but has {info.file_size - start:,} bytes")
        self._entries[name] = Entry(dtype, tuple(shape), fortran, start)

    def _check_size(self, name: str, info: zipfile.ZipInfo) -> None:
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise UsageError(f"{self.path}: {name!r} is compressed in a way that numpy.savez never writes")
        most = info.compress_size * (_DENSEST if info.compress_type == zipfile.ZIP_DEFLATED else 1)
        if info.compress_size > self._size or info.file_size > most:
            raise self._damaged(f"{name!r} says {info.file_size:,} bytes, more than the file can hold")

    def _damaged(self, what: str, error: Exception | None = None) -> UsageError:
        reason = f": {' '.join(str(error).split())[:150]}" if error is not None and str(error) else ""
        return UsageError(f"{self.path}: is damaged: {what}{reason}; write it again with numpy.savez")

    def array(self, name: str) -> Array:
        """An array, whole.

        Raises:
            UsageError: its data are damaged.
        """
        entry, info = self._entries[name], self._members[name]
        try:
            with self._zip.open(info) as member:
                member.read(entry.start)
                data = member.read()
        except (*_DAMAGE, ValueError) as error:
            raise self._damaged(f"the data of {name!r} cannot be read", error) from error
        if len(data) != info.file_size - entry.start:
            raise self._damaged(f"the data of {name!r} end too early")
        flat: Array = np.ndarray((math.prod(entry.shape),), entry.dtype, data)
        return flat.reshape(entry.shape[::-1]).T if entry.fortran else flat.reshape(entry.shape)

    def __getitem__(self, name: str) -> Entry:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def close(self) -> None:
        """Close the file; arrays that were read stay."""
        self._zip.close()

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
