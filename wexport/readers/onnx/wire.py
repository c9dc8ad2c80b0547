"""The protobuf wire format, read by position through a window; and whether a file's fields are those of a model.

The `onnx` package is not needed here. Source: protobuf.dev/programming-guides/encoding; onnx/onnx.proto.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from wexport.errors import SourceError
from wexport.storage import Storage

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
FLOATS, INT32S, INT64S, RAW, DOUBLES, UINT64S = 4, 5, 7, 9, 10, 11  # the fields of a TensorProto that hold elements
PAYLOADS = frozenset({FLOATS, INT32S, INT64S, RAW, DOUBLES, UINT64S})
_MAX_FIELD = (1 << 29) - 1
_MOST_FIELDS = 1 << 25  # looked at one by one: a minute's work, ten times what any model has
_REPEATS = 8  # numbers in a row under one tag before they are skipped together

_MODEL_FIELDS = {1: 0, 2: 2, 3: 2, 4: 2, 5: 0, 6: 2, 7: 2, 8: 2, 14: 2, 20: 2, 25: 2, 26: 2}  # with their wire types
_GRAPH_FIELDS = {1, 2, 5, 10, 11, 12, 13, 14, 15, 16}
_GRAPH = 7


class Field(NamedTuple):
    """A field: its number and wire type, where its tag starts, where its value does, and where that ends."""

    number: int
    wire: int
    tag: int
    start: int
    end: int


def varint(value: int) -> bytes:
    """A number as the wire has it, seven bits a byte, the lowest first."""
    data = bytearray()
    while value > 127:
        data.append(value & 127 | 128)
        value >>= 7
    data.append(value)
    return bytes(data)


class Wire:
    """Bytes in the wire format, read through a window; `name` stands in messages."""

    def __init__(self, storage: Storage, name: str) -> None:
        self.storage, self.name, self.size = storage, name, storage.size
        self._start, self._data = 0, b""
        self._next = 1 << 12
        self._left = _MOST_FIELDS

    def wrong(self, place: int, found: str) -> SourceError:
        """What is wrong where."""
        return SourceError(
            f"{self.name}: byte {place:,} {found}; expected an ONNX model; the file is truncated or damaged: "
            "copy it anew or export it again"
        )

    def read(self, start: int, end: int) -> bytes:
        """The bytes from `start` to `end`."""
        data = bytearray(end - start)
        self.storage.read_into(memoryview(data), start)
        return bytes(data)

    def varint(self, place: int, end: int) -> tuple[int, int]:
        """The number at a place, and where it ends."""
        i = place - self._start
        if i < 0 or i + 10 > len(self._data):
            i = self._load(place)
        value = 0
        for n, byte in enumerate(self._data[i : i + min(10, end - place)]):
            value |= (byte & 127) << (7 * n)
            if byte < 128:
                return value, place + n + 1
        if end - place < 10:
            raise self.wrong(place, "starts a number that goes on past the end of its message")
        raise self.wrong(place, "starts a number of more than ten bytes")

    def fields(self, start: int, end: int) -> Iterator[Field]:
        """The fields of a message. Numbers in a row that have the same tag may come as one field."""
        last, times = 0, 0
        while start < end:
            key, place = self.varint(start, end)
            number, wire = key >> 3, key & 7
            self._left -= 1
            if self._left < 0:
                raise self.wrong(start, f"is not yet the end, after {_MOST_FIELDS:,} fields")
            if not 1 <= number <= _MAX_FIELD:
                raise self.wrong(start, f"has field number {number}")
            place, stop = self._value(start, wire, place, end)
            if key == last and wire != BYTES:
                times += 1
                if times >= _REPEATS and key < 128:
                    # look farther with every look, so that many short rows cost no more than a few long ones
                    stop = self._skip_row(key, stop, min(end, stop + (128 << min(times - _REPEATS, 20))))
            else:
                last, times = key, 0
            yield Field(number, wire, start, place, stop)
            start = stop

    def _value(self, start: int, wire: int, place: int, end: int) -> tuple[int, int]:
        """Where the value of a field starts and ends."""
        if wire == VARINT:
            return place, self.varint(place, end)[1]
        if wire == BYTES:
            length, place = self.varint(place, end)
        elif wire in (FIXED32, FIXED64):
            length = 4 if wire == FIXED32 else 8
        else:
            raise self.wrong(start, f"has wire type {wire}")
        if place + length > end:
            raise self.wrong(start, f"has a field that ends at byte {place + length:,}, past byte {end:,}")
        return place, place + length

    def _skip_row(self, key: int, place: int, end: int) -> int:
        """Where the fields with this one-byte tag end, as far as the window goes."""
        data = np.frombuffer(self._data, np.uint8)[place - self._start : end - self._start]
        if key & 7 == VARINT:
            lasts = np.flatnonzero(data < 128)  # the last bytes of tag, value, tag, value ...
            tags, values = lasts[: len(lasts) // 2 * 2].reshape(-1, 2).T
            starts = np.append(0, values[:-1] + 1)[: len(tags)]
            good = (tags == starts) & (data[tags] == key) & (values - tags <= 10)
            count = len(good) if good.all() else int(good.argmin())
            return place + (int(values[count - 1]) + 1 if count else 0)
        step = 5 if key & 7 == FIXED32 else 9
        good = data[: len(data) // step * step : step] == key
        return place + step * (len(good) if good.all() else int(good.argmin()))

    def _load(self, place: int) -> int:
        """Move the window: a larger one where reading goes on, a small one after a jump."""
        goes_on = self._start <= place <= self._start + len(self._data)
        self._next = min(self._next * 2, 1 << 18) if goes_on else 1 << 12
        self._data = self.read(place, min(place + self._next, self.size))
        self._start = place
        return 0


def is_onnx(storage: Storage) -> bool:
    """Whether a file's bytes are the fields of a model with a graph, as far as they can be followed.

    What starts like a model and then breaks off, in its graph or behind it, is one that is damaged.
    """
    wire, place, graph, version = Wire(storage, ""), 0, False, False
    while place < storage.size:
        try:
            key, start = wire.varint(place, storage.size)
            number = key >> 3
            if _MODEL_FIELDS.get(number) != key & 7:
                return graph and version
            value, stop = wire.varint(start, storage.size)
            if number == _GRAPH:
                if value and stop < storage.size and not _starts_a_graph(wire.read(stop, stop + 1)[0]):
                    return False
                graph = True
        except SourceError:
            return graph and version
        version = version or (number == 1 and 0 < value < 256)
        place = stop + value if key & 7 == BYTES else stop
    return graph and (version or place == storage.size)


def _starts_a_graph(tag: int) -> bool:
    return tag & 7 == BYTES and (tag >> 3 & 15 in _GRAPH_FIELDS or tag >= 128)
