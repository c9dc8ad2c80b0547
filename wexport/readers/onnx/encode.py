"""Elements as the numbers of a protobuf field: packed or each with its tag, of fixed or of varying length.

Negative numbers of signed types take ten bytes; all others stand there as their bit patterns, without a sign.

Source: protobuf.dev/programming-guides/encoding; onnx/onnx.proto, TensorProto.int32_data.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport import dtypes
from wexport.readers.onnx.splice import Data, Part
from wexport.readers.onnx.wire import BYTES, FIXED32, FIXED64, VARINT, Field, Wire, varint
from wexport.storage import Bytes, Storage
from wexport.view import Unpack

_BLOCK = 1 << 16  # numbers
_WIDTHS = {FIXED32: 4, FIXED64: 8}


@dataclass(frozen=True, slots=True)
class Run:
    """A part of a message that holds `count` numbers of one field."""

    field: Field
    count: int


def runs(wire: Wire, start: int, end: int, number: int, kind: int) -> Iterator[Run]:
    """Where the numbers of a field are in a message; `kind` is the wire type of one that is not packed."""
    for part in wire.fields(start, end):
        if part.number != number or part.wire not in {kind, BYTES}:
            continue
        if kind == VARINT:
            lasts = _lasts(wire, part.start, part.end)  # a number's, and those of the tag and the number behind it
            yield Run(part, lasts if part.wire == BYTES else (lasts + 1) // 2)
        elif part.wire == BYTES:
            yield Run(part, (part.end - part.start) // _WIDTHS[kind])
        else:
            yield Run(part, 1 + (part.end - part.start - _WIDTHS[kind]) // (1 + _WIDTHS[kind]))


def _lasts(wire: Wire, start: int, end: int) -> int:
    blocks = Part(wire.storage, start, end - start).blocks()
    return sum(int(np.count_nonzero(np.frombuffer(block, np.uint8) < 128)) for block in blocks)


@dataclass(frozen=True, slots=True)
class Elements:
    """Elements of `dtype` that are a number of a field each."""

    storage: Storage
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, storage: Storage, dtype: str, shape: tuple[int, ...], kind: int) -> Elements:
        """The elements of an array; those that share bytes are a number for each byte, but six bits have their own."""
        if kind != VARINT:
            return cls(storage, np.dtype(f"<u{_WIDTHS[kind]}"))  # a complex number is two
        if dtypes.bits(dtype) == 6:
            data = bytearray(dtypes.nbytes(dtype, math.prod(shape)))
            storage.read_into(memoryview(data), 0)
            codes = Unpack(shape, None, False, 6).take(np.frombuffer(data, np.uint8))
            return cls(Bytes(codes.tobytes()), np.dtype(np.uint8))
        signed = dtypes.bits(dtype) >= 8 and dtype.startswith("int")
        return cls(storage, np.dtype(f"<{'i' if signed else 'u'}{dtypes.itemsize(dtype)}"))

    @property
    def count(self) -> int:
        """How many they are."""
        return self.storage.size // self.dtype.itemsize

    def written(self, first: int, run: Run, kind: int) -> Data:
        """Those from `first` on as the numbers of a run, in its form."""
        if run.field.wire != BYTES:
            return _Numbers.of(self, first, run.count, varint(run.field.number << 3 | kind), kind == VARINT)
        if kind == VARINT:
            return _Numbers.of(self, first, run.count, b"", True)
        return Part(self.storage, first * self.dtype.itemsize, run.count * self.dtype.itemsize)

    def read(self, first: int, count: int) -> NDArray[Any]:
        """Some of them."""
        found = np.empty(count, self.dtype)
        self.storage.read_into(memoryview(found.view(np.uint8)), first * self.dtype.itemsize)
        return found


@dataclass(frozen=True, slots=True)
class _Numbers:
    """Numbers that each have the tag before them, if there is one."""

    elements: Elements
    first: int
    count: int
    tag: bytes
    varying: bool
    size: int = field(default=0)

    @classmethod
    def of(cls, elements: Elements, first: int, count: int, tag: bytes, varying: bool) -> _Numbers:
        made = cls(elements, first, count, tag, varying)
        width = elements.dtype.itemsize * count
        numbers = sum(int(_lengths(part).sum()) for part in made._parts()) if varying else width
        return cls(elements, first, count, tag, varying, numbers + len(tag) * count)

    def _parts(self) -> Iterator[NDArray[Any]]:
        for done in range(0, self.count, _BLOCK):
            yield self.elements.read(self.first + done, min(_BLOCK, self.count - done))

    def blocks(self) -> Iterator[bytes]:
        """All of them in order."""
        tag = np.frombuffer(self.tag, np.uint8)
        for part in self._parts():
            if self.varying:
                data, used = _spelled(part)
            else:
                data = part.view(np.uint8).reshape(len(part), -1)
                used = np.ones(data.shape, np.bool_)
            tags = np.broadcast_to(tag, (len(part), len(tag)))
            yield np.hstack([tags, data])[np.hstack([np.ones(tags.shape, np.bool_), used])].tobytes()


def _wide(numbers: NDArray[Any]) -> NDArray[np.uint64]:
    return numbers.astype(np.int64 if numbers.dtype.kind == "i" else np.uint64).view(np.uint64)


def _lengths(numbers: NDArray[Any]) -> NDArray[np.int64]:
    """The bytes that each takes, seven bits a byte."""
    wide = _wide(numbers)
    lengths = np.ones(len(wide), np.int64)
    for i in range(1, 10):
        lengths += wide >= np.uint64(1 << 7 * i)
    return lengths


def _spelled(numbers: NDArray[Any]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The bytes of each, lowest bits first, as a row; and which of a row it takes."""
    wide, lengths = _wide(numbers), _lengths(numbers)
    places = np.arange(int(lengths.max()))
    data = (wide[:, None] >> (7 * places).astype(np.uint64)).astype(np.uint8) & np.uint8(127)
    data[places < lengths[:, None] - 1] |= np.uint8(128)
    return data, places < lengths[:, None]
