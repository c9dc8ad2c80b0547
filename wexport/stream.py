"""The moving of bytes: from stored arrays to tensors in their own order, a block at a time.

Tensors of one array whose views differ in their offset only (the gates of a kernel) move in lockstep: the rows that
hold them all are read once. Everything is read by position, in a bounded amount of memory, whatever the order of the
axes; only an array whose view is no view of the stored bytes (`View.of`) is taken whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport import dtypes
from wexport.model import Array
from wexport.storage import FileRange
from wexport.view import View, c_strides, strided

BLOCK_BYTES = 4 << 20
_TURNED_BYTES = 16 << 20  # where the order of the axes changes: larger, so that what is read in a row is long
_TILE_BYTES = 64 << 10  # what a first-level cache and a half hold of both orders
_DENSE = 4  # read a stretch whole where at least one in four of its elements is wanted
_LEAST_SIDE = 8
_SMALL = 8 << 10  # bytes; one longer read is cheaper than two short ones

# takes the next elements of a tensor, flat, as unsigned integers; they are gone when it returns
Sink = Callable[[NDArray[Any]], None]


def groups(views: Sequence[View]) -> list[list[int]]:
    """The places of the views that can move in lockstep."""
    found: dict[Any, list[int]] = {}
    for i, view in enumerate(views):
        key = i if view.of is not None else (view.shape, view.strides)
        found.setdefault(key, []).append(i)
    return list(found.values())


def move(array: Array, views: Sequence[View], sinks: Sequence[Sink]) -> None:
    """Send the tensors that are these views of an array to their sinks, in C order.

    The views are one group of `groups`.
    """
    first = views[0]
    if first.of is not None:
        taken = first.take(np.frombuffer(array.bytes(), dtypes.mover(array.dtype)))
        sinks[0](np.ascontiguousarray(taken).reshape(-1))
        return
    dtype = dtypes.mover(array.dtype)
    turned = _is_turned(first)
    limit = max(1, (_TURNED_BYTES if turned else BLOCK_BYTES) // dtype.itemsize // len(views))
    if turned and isinstance(array.storage, FileRange):
        array.storage.expect()  # it is read in many short pieces, which a disk serves slowly
    low, high = min(v.offset for v in views), max(v.offset for v in views)
    stretch, piece = Space(dtype), Space(dtype)
    for block in blocks(View(first.shape, first.strides), limit):
        start, stop = block.span[0] + low, block.span[1] + high
        if _worth(stop - start, block.size * len(views), dtype):
            flat = _read(array, start, stretch.of(stop - start))
            for view, sink in zip(views, sinks, strict=True):
                place = block.offset + view.offset - start
                sink(_flat(strided(flat, View(block.shape, block.strides, place)), piece))
        else:
            for view, sink in zip(views, sinks, strict=True):
                part = View(block.shape, block.strides, block.offset + view.offset)
                sink(gather(array, part, stretch, piece))


def pieces(array: Array, view: View) -> Iterator[NDArray[Any]]:
    """The elements of a view in C order, in flat arrays of a block each; whole, if it is no view of stored bytes."""
    dtype = dtypes.mover(array.dtype)
    limit = max(1, (_TURNED_BYTES if _is_turned(view) else BLOCK_BYTES) // dtype.itemsize)
    if view.of is not None:
        yield np.ascontiguousarray(view.take(np.frombuffer(array.bytes(), dtype))).reshape(-1)
        return
    for block in blocks(view, limit):
        yield gather(array, block, Space(dtype), Space(dtype))


def blocks(view: View, limit: int) -> Iterator[View]:
    """A view cut into parts of at most `limit` elements, in C order."""
    if view.size <= limit:
        if view.size:
            yield view
        return
    row = view.size // view.shape[0]
    if row > limit:
        for i in range(view.shape[0]):
            yield from blocks(view.index(0, i), limit)
        return
    rows = limit // row
    for i in range(0, view.shape[0], rows):
        yield view.narrow(0, i, min(rows, view.shape[0] - i))


def gather(array: Array, view: View, stretch: Space, piece: Space) -> NDArray[Any]:
    """The elements of a view, flat, in these spaces; where they lie far apart, read piece by piece."""
    return _flat(_gathered(array, view, stretch), piece)


def _is_turned(view: View) -> bool:
    """Whether the elements' order differs from the stored one."""
    steps = [abs(s) for n, s in zip(view.shape, view.strides, strict=True) if n > 1]
    return steps != sorted(steps, reverse=True)


def _gathered(array: Array, view: View, space: Space) -> NDArray[Any]:
    """The elements of a view, read in the order in which they are stored."""
    order = tuple(sorted(range(len(view.shape)), key=lambda i: -abs(view.strides[i])))
    stored = view.permute(order)
    out = space.of(view.size).reshape(stored.shape)
    _gather(array, stored, out)
    back: NDArray[Any] = out.transpose(np.argsort(order))
    return back


def _gather(array: Array, view: View, out: NDArray[Any]) -> None:
    start, stop = view.span
    if _worth(stop - start, view.size, out.dtype):
        if out.flags.c_contiguous and stop - start == view.size and view.strides == c_strides(view.shape):
            _read(array, start, out.reshape(-1))
            return
        flat = _read(array, start, np.empty(stop - start, out.dtype))
        out[...] = strided(flat, View(view.shape, view.strides, view.offset - start))
        return
    axis = max(range(len(view.shape)), key=lambda i: abs(view.strides[i]) if view.shape[i] > 1 else -1)
    if axis == 0 and out.flags.c_contiguous and view.strides[1:] == c_strides(view.shape[1:]):
        _read_rows(array, view, out)
        return
    half = view.shape[axis] // 2
    for at, n in ((0, half), (half, view.shape[axis] - half)):
        part = tuple(slice(at, at + n) if i == axis else slice(None) for i in range(len(view.shape)))
        _gather(array, view.narrow(axis, at, n), out[part])


def _read_rows(array: Array, view: View, out: NDArray[Any]) -> None:
    """Rows that lie far apart, each in one piece."""
    step, row = out.itemsize, view.size // view.shape[0]
    data, read = memoryview(out.reshape(-1)).cast("B"), array.storage.read_into
    for i in range(view.shape[0]):
        read(data[i * row * step : (i + 1) * row * step], (view.offset + i * view.strides[0]) * step)


def _worth(stretch: int, wanted: int, dtype: np.dtype[Any]) -> bool:
    return stretch <= max(_DENSE * wanted, _SMALL // dtype.itemsize)


class Space:
    """Memory that is used again for every block: fresh pages cost as much as the copying does."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._memory: NDArray[Any] = np.empty(0, dtype)

    def of(self, count: int) -> NDArray[Any]:
        """Room for so many elements."""
        if self._memory.size < count:
            self._memory = np.empty(count, self._memory.dtype)
        return self._memory[:count]


def _read(array: Array, start: int, flat: NDArray[Any]) -> NDArray[Any]:
    array.storage.read_into(memoryview(flat).cast("B"), start * flat.itemsize)
    return flat


def _flat(block: NDArray[Any], space: Space) -> NDArray[Any]:
    """A block's elements in C order, where they lie or in the space."""
    if block.flags.c_contiguous:
        return block.reshape(-1)
    flat = space.of(block.size)
    _copy(flat.reshape(block.shape), block)
    return flat


def _copy(to: NDArray[Any], block: NDArray[Any]) -> None:
    """Copy; where the fastest axes differ, in tiles that a cache holds: five times as fast for large matrices."""
    steps = [abs(s) if n > 1 else to.size * to.itemsize for n, s in zip(block.shape, block.strides, strict=True)]
    fast, last = min(range(block.ndim), key=lambda i: steps[i]), block.ndim - 1
    rest = block.size // max(1, block.shape[fast] * block.shape[last])
    side = math.isqrt(max(1, _TILE_BYTES // to.itemsize // max(1, rest)))
    if fast == last or side < _LEAST_SIDE:
        np.copyto(to, block)
        return
    for i in range(0, block.shape[fast], side):
        for j in range(0, block.shape[last], side):
            tile = tuple(
                slice(i, i + side) if k == fast else slice(j, j + side) if k == last else slice(None)
                for k in range(block.ndim)
            )
            to[tile] = block[tile]
