"""A TensorProto as an `Array`: its dims, its element type, and the one field that holds its data.

Every size is compared with the bytes that are there before memory is taken. Raw data, external data and the packed
fields of floats are read where they lie. Fields of integers hold numbers of varying length; they are counted first and
decoded block by block when asked for.

Source: onnx/onnx.proto, TensorProto and SparseTensorProto; numbers of newer ONNX versions stand here as numbers.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_right
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport import dtypes
from wexport.errors import SourceError
from wexport.model import Array, unpacking
from wexport.readers.onnx import wire
from wexport.storage import Bytes, Storage
from wexport.view import Unpack

# TensorProto.DataType -> (the name here, the field for its elements unless they are raw)
TYPES: Mapping[int, tuple[str, int]] = {
    1: ("float32", wire.FLOATS),
    2: ("uint8", wire.INT32S),
    3: ("int8", wire.INT32S),
    4: ("uint16", wire.INT32S),
    5: ("int16", wire.INT32S),
    6: ("int32", wire.INT32S),
    7: ("int64", wire.INT64S),
    8: ("string", 0),
    9: ("bool", wire.INT32S),
    10: ("float16", wire.INT32S),
    11: ("float64", wire.DOUBLES),
    12: ("uint32", wire.UINT64S),
    13: ("uint64", wire.UINT64S),
    14: ("complex64", wire.FLOATS),
    15: ("complex128", wire.DOUBLES),
    16: ("bfloat16", wire.INT32S),
    17: ("float8_e4m3fn", wire.INT32S),
    18: ("float8_e4m3fnuz", wire.INT32S),
    19: ("float8_e5m2", wire.INT32S),
    20: ("float8_e5m2fnuz", wire.INT32S),
    21: ("uint4", wire.INT32S),
    22: ("int4", wire.INT32S),
    23: ("float4_e2m1fn", wire.INT32S),
    24: ("float8_e8m0fnu", wire.INT32S),
    25: ("uint2", wire.INT32S),
    26: ("int2", wire.INT32S),
    27: ("float6_e2m3fn", wire.INT32S),
    28: ("float6_e3m2fn", wire.INT32S),
}
FIELDS = {
    wire.FLOATS: "float_data",
    wire.INT32S: "int32_data",
    wire.INT64S: "int64_data",
    wire.RAW: "raw_data",
    wire.DOUBLES: "double_data",
    wire.UINT64S: "uint64_data",
}
_MAX_RANK = 32  # what every NumPy can hold
_MOST = 1 << 62
_BLOCK = 1 << 18
_FEW = 1 << 20


def type_of(data_type: int, where: str) -> str:
    """The name of an element type.

    Raises:
        SourceError: no version of ONNX that is known here has it.
    """
    if data_type not in TYPES:
        raise SourceError(
            f"{where}: has element type {data_type}, expected 1 to {max(TYPES)}; export the model again, "
            "or upgrade wexport"
        )
    return TYPES[data_type][0]


def element_type(number: object) -> str | None:
    """The name of an element type; None for one that is not known."""
    return TYPES[number][0] if isinstance(number, int) and number in TYPES else None


def shape_of(dims: Any, where: str) -> tuple[int, ...]:
    """The dims as a shape.

    Raises:
        SourceError: one is negative, or together they are more than any array can have.
    """
    shape = tuple(int(n) for n in dims)
    if any(n < 0 for n in shape):
        raise SourceError(f"{where}: has dims {list(shape)[:8]}, expected none below 0; export the model again")
    if len(shape) > _MAX_RANK or math.prod(n for n in shape if n) > _MOST // 16:
        raise SourceError(f"{where}: has dims {list(shape)[:8]}, more than an array can have; export the model again")
    return shape


def check_size(array: str, shape: tuple[int, ...], dtype: str, found: int, where: str) -> None:
    """Compare the bytes that the data have with those that the dims ask for."""
    wanted = dtypes.nbytes(dtype, math.prod(shape))
    if found != wanted:
        raise SourceError(
            f"{where}: has {found:,} bytes of data in {array}, expected {wanted:,} for {dtype} {list(shape)}; "
            "the file is damaged: export the model again"
        )


def stored(payloads: Mapping[int, Storage], data_type: int, shape: tuple[int, ...], where: str) -> Storage:
    """The data of a tensor, from the fields of it that hold any.

    Raises:
        SourceError: they are none or several, in the wrong field, or too short or too long.
    """
    dtype, own = TYPES[data_type]
    names = [FIELDS[n] for n in sorted(payloads)]
    if len(names) > 1:
        raise SourceError(f"{where}: has data in {' and '.join(names)}, expected one of them; export the model again")
    if not names:
        if not math.prod(shape):
            return Bytes(b"")
        raise SourceError(f"{where}: has dims {list(shape)} but holds no data; export the model again")
    ((number, payload),) = payloads.items()
    if number not in {wire.RAW, own}:
        raise SourceError(
            f"{where}: has {dtype} elements in {names[0]}, expected {FIELDS[own]}; export the model again"
        )
    if number in {wire.RAW, wire.FLOATS, wire.DOUBLES}:
        check_size(names[0], shape, dtype, payload.size, where)
        return payload
    return _numbers(payload, dtype, shape, f"{where}: {names[0]}")


def _numbers(payload: Storage, dtype: str, shape: tuple[int, ...], where: str) -> Storage:
    """Integers of varying length: one for an element, or for a byte of elements that share it."""
    count = math.prod(shape)
    if dtypes.bits(dtype) != 6:
        entries = count if dtypes.bits(dtype) >= 8 else dtypes.nbytes(dtype, count)
        return Varints(payload, entries, dtypes.itemsize(dtype), where)
    codes = np.empty(count if count <= payload.size else 0, np.uint8)  # six bits have a number of their own here
    Varints(payload, count, 1, where).read_into(memoryview(codes), 0)
    packed = np.empty(dtypes.nbytes(dtype, count), np.uint8)
    Unpack(shape, None, False, 6).put(codes, packed)
    return Bytes(packed.tobytes())


class Varints:
    """Numbers of varying length that become elements of `width` bytes, decoded a block at a time (the last is kept)."""

    def __init__(self, payload: Storage, count: int, width: int, where: str) -> None:
        self._payload, self._width, self._where = payload, width, where
        self.size = count * width
        self._firsts, self._places = [0], [0]  # for each block: its first number, its first byte
        self._lock = threading.Lock()
        self._kept: tuple[int, memoryview] = (-1, memoryview(b""))
        self._index(count)

    def _index(self, count: int) -> None:
        """Find where blocks of whole numbers start."""
        found = place = 0
        while place < self._payload.size:
            lasts = np.flatnonzero(self._bytes(place, min(_BLOCK, self._payload.size - place)) < 128)
            if not len(lasts):
                raise SourceError(
                    f"{self._where}: ends inside of a number; the file is damaged: export the model again"
                )
            found += len(lasts)
            place += int(lasts[-1]) + 1
            self._firsts.append(found)
            self._places.append(place)
        if found != count:
            raise SourceError(
                f"{self._where}: holds {found:,} numbers, expected {count:,} for the dims; export the model again"
            )

    def read_into(self, buffer: memoryview, start: int) -> None:
        """Fill the buffer with the elements' bytes from `start` on."""
        done = 0
        while done < len(buffer):
            block = bisect_right(self._firsts, (start + done) // self._width) - 1
            skip = start + done - self._firsts[block] * self._width
            with self._lock:
                if self._kept[0] != block:
                    self._kept = (block, self._decode(block))
                data = self._kept[1][skip : skip + len(buffer) - done]
            buffer[done : done + len(data)] = data
            done += len(data)

    def _decode(self, block: int) -> memoryview:
        data = self._bytes(self._places[block], self._places[block + 1] - self._places[block])
        lasts = np.flatnonzero(data < 128)
        starts = np.append(0, lasts[:-1] + 1)
        lengths = lasts - starts + 1
        if lengths.max() > 10:
            raise SourceError(f"{self._where}: has a number of more than ten bytes; export the model again")
        numbers = np.zeros(len(starts), np.uint64)
        for i in range(int(lengths.max())):
            goes_on = lengths > i
            numbers[goes_on] |= (data[starts[goes_on] + i] & np.uint8(127)).astype(np.uint64) << np.uint64(7 * i)
        return memoryview(numbers.astype(f"<u{self._width}").view(np.uint8))

    def _bytes(self, start: int, size: int) -> NDArray[np.uint8]:
        data = np.empty(size, np.uint8)
        self._payload.read_into(memoryview(data), start)
        return data


def inline(message: bytes, name: str) -> dict[int, Storage]:
    """The payloads of a small serialized TensorProto, one for each field (protobuf writes them packed)."""
    found: dict[int, Storage] = {}
    for part in wire.Wire(Bytes(message), name).fields(0, len(message)):
        if part.number in wire.PAYLOADS:
            found[part.number] = Bytes(message[part.start : part.end])
    return found


def sparse_shapes(values: tuple[int, ...], indices: tuple[int, ...], dims: tuple[int, ...], where: str) -> None:
    """Compare the shapes of a sparse tensor's parts.

    Raises:
        SourceError: there is not one place for every value.
    """
    fits = len(values) == 1 and indices in (values, (*values, len(dims)))
    if not fits:
        raise SourceError(
            f"{where}: has values of shape {list(values)} at indices of shape {list(indices)} in dims {list(dims)}, "
            "expected one index for each value; export the model again"
        )


def read_small(array: Array, limit: int = _FEW) -> NDArray[Any]:
    """All elements of an array, as numbers that NumPy can compute with, in its shape.

    Raises:
        SourceError: there are more than `limit`.
    """
    if array.count > limit:
        raise SourceError(
            f"{array.key}: has {array.count:,} elements where a constant of at most {limit:,} is read; "
            "the model cannot be followed"
        )
    raw = np.frombuffer(array.bytes(), dtypes.mover(array.dtype))
    if (step := unpacking(array)) is not None:
        raw = Unpack(array.shape, None, step.signed, step.bits).take(raw).view(np.uint8)
    return dtypes.widen(raw, array.dtype).reshape(array.shape)
