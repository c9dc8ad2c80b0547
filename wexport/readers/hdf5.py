"""HDF5 files: groups, attributes and arrays, with the arrays' bytes left where they are.

The structure is read by `pyfive`, a reader in pure Python: a hostile file can at most make it raise, where the
C library crashes or loops in a call that no signal interrupts. What pyfive leaves open is closed here: its
reads are counted (`_Window`), a group is visited once, soft and external links, virtual and external data and
filters other than gzip, shuffle and fletcher32 are refused, and every size is compared with the file's before
memory is taken. Contiguous arrays are then read by position, past pyfive.

Sources: HDF5 File Format Specification 3.0, II.A-III.A, IV.A.2.m (attribute message), IV.A.2.i (data layout).
"""

from __future__ import annotations

import io
import math
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from wexport import dtypes
from wexport.errors import SourceError
from wexport.readers.later import put_off
from wexport.storage import Bytes, FileRange, SourceFile, Storage

with put_off("fsspec", "utils"):  # for files on the network; it takes longer to load than pyfive
    import pyfive
    from pyfive.core import InvalidHDF5File

MAGIC = b"\x89HDF\r\n\x1a\n"
_UNDEFINED = 0xFFFFFFFFFFFFFFFF
_MAX_DEPTH = 64
_MAX_CHUNK = 1 << 30
_GZIP, _SHUFFLE, _FLETCHER32 = 1, 2, 3
_ATTRIBUTE, _ATTRIBUTE_INFO = 0x0C, 0x15
_BAD: tuple[type[Exception], ...] = (
    ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, NotImplementedError, OSError,
    RecursionError, RuntimeError, TypeError, ValueError, struct.error, InvalidHDF5File,
)  # fmt: skip

Attribute = str | list[str] | int | float | None


@dataclass(frozen=True, slots=True)
class H5Array:
    """A data set; `dtype` is None where its elements are no numbers (strings, references, records)."""

    shape: tuple[int, ...]
    dtype: str | None
    storage: Storage
    attrs: dict[str, Attribute] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Group:
    """A group: its attributes, and its members in the file's order (by name)."""

    attrs: dict[str, Attribute] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    arrays: dict[str, H5Array] = field(default_factory=dict)

    def find(self, path: str) -> Group | H5Array | None:
        """The member at a relative path, or None."""
        group: Group | None = self
        *parents, last = path.split("/")
        for name in parents:
            group = group.groups.get(name) if group else None
        return (group.groups.get(last) or group.arrays.get(last)) if group else None

    def group(self, path: str) -> Group | None:
        """The group at a relative path, or None."""
        found = self.find(path)
        return found if isinstance(found, Group) else None

    def walk(self, prefix: str = "") -> Iterator[tuple[str, H5Array]]:
        """Every array below, with its path."""
        for name, array in self.arrays.items():
            yield prefix + name, array
        for name, group in self.groups.items():
            yield from group.walk(f"{prefix}{name}/")


def is_hdf5(file: SourceFile) -> bool:
    """Whether the HDF5 signature stands at 0 or at 512, 1024, 2048 ... (behind a user block)."""
    place = 0
    while place + 8 <= min(file.size, 1 << 20):
        if file.read(place, 8) == MAGIC:
            return True
        place = max(512, place * 2)
    return False


def read_hdf5(file: SourceFile, offset: int = 0, size: int | None = None) -> Group:
    """The whole structure of an HDF5 file, or of one that lies inside another file.

    Raises:
        SourceError: the file is damaged, hostile, or uses what the format's writers here never use.
    """
    window = _Window(file, offset, file.size - offset if size is None else size)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            root = pyfive.File(window)
            stated = root.userblock_size + root._superblock._contents["end_of_file_address"]
            if stated > window.size:
                raise ValueError(f"it ends at byte {window.size:,} instead of {stated:,}; it is truncated")
            return _Walk(file, offset + root.userblock_size, offset + window.size).group(root, "", 0)
    except NotImplementedError as error:  # of the library, or one of ours
        raise SourceError(
            f"{file.path}: is written in a way of HDF5 that wexport does not read: {_reason(error)}; "
            "save the model again, or rewrite the file with h5repack"
        ) from error
    except _BAD as error:
        raise SourceError(
            f"{file.path}: its HDF5 structure is damaged: {_reason(error)}; copy the file anew or save the model again"
        ) from error


class _UnreadError(NotImplementedError):
    """What a sound file may hold, and no writer of model files here makes."""


def _reason(error: BaseException) -> str:
    unread = isinstance(error, NotImplementedError)
    text = " ".join(str(error).split())[:120] or ("its reader says no more" if unread else "it contradicts itself")
    return text if isinstance(error, ValueError) or unread else f"{text} ({type(error).__name__})"


class _Window(io.RawIOBase):
    """A stretch of a file for pyfive, with a budget: a structure that loops runs out of it."""

    def __init__(self, file: SourceFile, offset: int, size: int) -> None:
        self._file, self._offset, self.size, self._place = file, offset, size, 0
        self._reads = 200_000 + min(size // 16, 4_000_000)
        self._bytes = (64 << 20) + 4 * min(size, 1 << 30)

    def seek(self, offset: int, whence: int = 0) -> int:
        self._place = offset + (0, self._place, self.size)[whence]
        if self._place < 0:
            raise ValueError("an address before the file")
        return self._place

    def tell(self) -> int:
        return self._place

    def read(self, size: int = -1) -> bytes:
        left = max(0, self.size - self._place)
        size = left if size < 0 else min(size, left)
        self._reads -= 1
        self._bytes -= size
        if self._reads < 0 or self._bytes < 0:
            raise ValueError("it refers to itself, or to more than the file holds")
        data = self._file.read(self._offset + self._place, size)
        self._place += len(data)
        return data


class _Walk:
    """One pass over the groups; addresses are relative to `base`, the file ends at `end`."""

    def __init__(self, file: SourceFile, base: int, end: int) -> None:
        self.file, self.base, self.end = file, base, end
        self.seen: set[int] = set()

    def group(self, source: Any, path: str, depth: int) -> Group:
        address = source._dataobjects.offset
        if depth > _MAX_DEPTH:
            raise ValueError(f"groups lie more than {_MAX_DEPTH} deep in each other")
        if address in self.seen:
            raise _UnreadError(f"group {path!r} is reached by two ways")
        self.seen.add(address)
        result = Group(_attributes(source._dataobjects, path))
        for name, target in source._links.items():
            inner = f"{path}/{name}"
            if not isinstance(target, int) or name in {".", ".."} or "/" in name:
                raise _UnreadError(f"{inner!r} is a link; the writers of model files store data in place")
            member = source.get_lazy_view(name)
            if isinstance(member, pyfive.Group):
                result.groups[name] = self.group(member, inner, depth + 1)
            elif isinstance(member, pyfive.Dataset):
                result.arrays[name] = self.array(member, inner)
        return result

    def array(self, source: Any, path: str) -> H5Array:
        shape = tuple(int(n) for n in source.shape or ())
        dtype = _dtype(source.dtype)
        if dtype is None:
            return H5Array(shape, None, Bytes(b""))
        attrs = _normal_all(source.attrs)
        if dtype == "opaque":
            width = source.dtype.itemsize
            dtype = str(attrs.get("dtype") or {1: "uint8", 2: "bfloat16"}.get(width))
            if not dtypes.is_stored(dtype) or dtypes.bits(dtype) != 8 * width:
                return H5Array(shape, None, Bytes(b""))
        return H5Array(shape, dtype, self.storage(source, path, shape, dtypes.itemsize(dtype)), attrs)

    def storage(self, source: Any, path: str, shape: tuple[int, ...], width: int) -> Storage:
        size = math.prod(shape) * width
        kind = source.id.layout_class
        if not size:
            return Bytes(b"")
        if kind == 1:
            return self.contiguous(source.id.data_offset, path, size)
        if size > 1000 * self.end:
            raise ValueError(f"{path!r} declares {size:,} bytes in a file of {self.end:,}")
        if kind == 2:
            return self.chunked(source, path, shape, width)
        if kind == 0 and size <= 1 << 16:
            return Compact(np.ascontiguousarray(source[()]).tobytes(), self.file, path)
        raise _UnreadError(f"{path!r} is not stored in this file (virtual data)")

    def contiguous(self, address: int, path: str, size: int) -> FileRange:
        if address == _UNDEFINED:
            raise _UnreadError(f"{path!r} has no data in this file (never written, or stored in another file)")
        start = self.base + address
        if start + size > self.end:
            raise ValueError(f"{path!r} ends at byte {start + size:,}, the file at {self.end:,}; it is truncated")
        return FileRange(self.file, start, size)

    def chunked(self, source: Any, path: str, shape: tuple[int, ...], width: int) -> Chunked:
        chunk = tuple(int(n) for n in source.chunks)
        filters = tuple(int(f["filter_id"]) for f in source.id.filter_pipeline or ())
        if unknown := set(filters) - {_GZIP, _SHUFFLE, _FLETCHER32}:
            raise _UnreadError(f"{path!r} is packed by HDF5 filter {min(unknown)}; repack the file with gzip")
        if not 0 < math.prod(chunk) * width <= _MAX_CHUNK or len(chunk) != len(shape):
            raise ValueError(f"{path!r} is stored in chunks of {chunk}")
        places = {}
        for key, info in source.id.index.items():
            start = self.base + info.byte_offset
            if start + info.size > self.end:
                raise ValueError(f"{path!r}: a chunk lies beyond the end of the file; it is truncated")
            places[tuple(int(i) for i in key)] = (start, int(info.size), int(info.filter_mask))
        fill = np.asarray(0 if source.fillvalue is None else source.fillvalue, source.dtype).tobytes()
        return Chunked(self.file, path, shape, chunk, width, filters, places, fill)


@dataclass(frozen=True, slots=True)
class Compact(Bytes):
    """An array that is stored in its own header."""

    file: SourceFile
    path: str


class Chunked:
    """An array stored in chunks, decoded one row of chunks at a time (the last row is kept)."""

    def __init__(
        self,
        file: SourceFile,
        path: str,
        shape: tuple[int, ...],
        chunk: tuple[int, ...],
        width: int,
        filters: tuple[int, ...],
        places: dict[tuple[int, ...], tuple[int, int, int]],
        fill: bytes,
    ) -> None:
        self.file, self.path, self._shape, self._chunk, self._width = file, path, shape, chunk, width
        self._filters, self._fill = filters, fill
        self._rows: dict[int, list[tuple[tuple[int, ...], tuple[int, int, int]]]] = {}
        for key, place in places.items():
            self._rows.setdefault(key[0] // chunk[0], []).append((key, place))
        self._lock = threading.Lock()
        self._band: tuple[int, memoryview] = (-1, memoryview(b""))
        self.size = math.prod(shape) * width

    def read_into(self, buffer: memoryview, start: int) -> None:
        """Fill the buffer with the array's bytes, in C order, from `start` on."""
        band_size = self._chunk[0] * (self.size // self._shape[0])
        done = 0
        while done < len(buffer):
            number, skip = divmod(start + done, band_size)
            with self._lock:
                if self._band[0] != number:
                    self._band = (number, self._decode(number))
                data = self._band[1][skip : skip + len(buffer) - done]
            buffer[done : done + len(data)] = data
            done += len(data)

    def _decode(self, number: int) -> memoryview:
        first = number * self._chunk[0]
        rows = min(self._chunk[0], self._shape[0] - first)
        raw = np.dtype(f"V{self._width}")
        band = np.full((rows, *self._shape[1:]), np.frombuffer(self._fill, raw)[0], raw)
        for key, place in self._rows.get(number, ()):
            corner = (key[0] - first, *key[1:])
            target = tuple(slice(c, c + n) for c, n in zip(corner, self._chunk, strict=True))
            chunk = np.frombuffer(self._unfilter(place), raw).reshape(self._chunk)
            inside = band[target].shape
            band[target] = chunk[tuple(slice(0, n) for n in inside)]
        return memoryview(np.ascontiguousarray(band).reshape(-1).view(np.uint8)).cast("B")

    def _unfilter(self, place: tuple[int, int, int]) -> bytes:
        start, size, mask = place
        data = self.file.read(start, size)
        want = math.prod(self._chunk) * self._width
        for i in reversed(range(len(self._filters))):
            if mask >> i & 1:
                continue
            if self._filters[i] == _GZIP:
                data = self._inflate(data, want + 4)
            elif self._filters[i] == _SHUFFLE:
                whole = len(data) - len(data) % self._width
                planes = np.frombuffer(data[:whole], np.uint8).reshape(self._width, -1)
                data = planes.T.tobytes() + data[whole:]
            else:
                data = self._checked(data)
        if len(data) != want:
            raise SourceError(f"{self.file.path}: {self.path}: a chunk holds {len(data)} bytes, expected {want}")
        return data

    def _inflate(self, data: bytes, limit: int) -> bytes:
        try:
            return zlib.decompressobj().decompress(data, limit)
        except zlib.error as error:
            raise SourceError(f"{self.file.path}: {self.path}: a chunk is damaged: {error}") from error

    def _checked(self, data: bytes) -> bytes:
        body = data[:-4]
        words = np.frombuffer(body + b"\0" * (len(body) % 2), ">u2").astype(np.int64)
        weights = np.arange(len(words), 0, -1, dtype=np.int64)
        found = (int((words * weights % 65535).sum()) % 65535, int(words.sum()) % 65535)
        second, first = np.frombuffer(data[-4:], "<u2")[::-1].astype(int) % 65535
        if found != (second, first):
            raise SourceError(f"{self.file.path}: {self.path}: a chunk does not fit its checksum; it is damaged")
        return body


def _dtype(dtype: np.dtype[Any]) -> str | None:
    meta: Mapping[str, Any] = dtype.metadata or {}
    if meta.get("h5py_opaque"):
        return "opaque"
    if "enum" in meta:
        return "bool" if {str(k) for k in meta["enum"]} == {"FALSE", "TRUE"} and dtype.itemsize == 1 else None
    if dtype.byteorder == ">":
        raise _UnreadError("big-endian data; rewrite the file on the machine that it comes from, little-endian")
    name = dtype.newbyteorder("=").name
    return name if dtypes.is_stored(name) else None


def _attributes(objects: Any, path: str) -> dict[str, Attribute]:
    for message in objects.msgs:
        if message["type"] == _ATTRIBUTE:
            _check_attribute(objects.msg_data, message["offset_to_message"], message["size"], path)
        elif message["type"] == _ATTRIBUTE_INFO:
            _check_no_heap(objects.msg_data, message["offset_to_message"], path)
    return _normal_all(objects.get_attributes())


def _check_attribute(data: bytes, start: int, size: int, path: str) -> None:
    """Refuse an attribute whose declared shape is larger than the message it stands in."""
    version, _, name, datatype, _ = struct.unpack_from("<BBHHH", data, start)
    if version == 1:
        place = start + 8 + -(-name // 8) * 8 + -(-datatype // 8) * 8
    else:
        place = start + (9 if version == 3 else 8) + name + datatype
    space, rank, *_ = struct.unpack_from("<BBBB", data, place)
    dims = struct.unpack_from(f"<{rank}Q", data, place + (8 if space == 1 else 4))
    if math.prod(dims) > size:
        raise ValueError(f"an attribute of {path or '/'!r} declares more than it holds")


def _check_no_heap(data: bytes, start: int, path: str) -> None:
    flags = data[start + 1]
    (heap,) = struct.unpack_from("<Q", data, start + (4 if flags & 1 else 2))
    if heap != _UNDEFINED:
        raise _UnreadError(
            f"{path or '/'!r} keeps attributes in a heap; rewrite the file with h5repack --low=0 --high=0"
        )


def _normal_all(attrs: Any) -> dict[str, Attribute]:
    return {str(name): _normal(value) for name, value in attrs.items()}


def _normal(value: Any) -> Attribute:
    """An attribute as text, a list of texts or a number, whichever library wrote it."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, np.ndarray):
        if value.dtype.kind in "SOU" or not value.size:
            return [str(_normal(v)) for v in value.reshape(-1).tolist()]
        return _normal(value.reshape(-1)[0]) if value.size == 1 else None
    if isinstance(value, np.generic):
        return _normal(value.item())
    return value if isinstance(value, str | int | float) else None
