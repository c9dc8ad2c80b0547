"""Views: where the elements of a tensor lie in the array that it came from.

A `View` is an offset and a stride per axis, in elements, as in NumPy, but of an array that need not be in
memory. Two kinds of base are no views of the stored bytes and must be gathered first: `Unpack` (several
numbers in a byte) and a view that is looked into again after it was written out (`View.of`).

The law: `put(take(x)) == x`, bit for bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Flat = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Unpack:
    """Numbers of 2, 4 or 6 bits that share bytes, the lowest bits first, along one axis of the stored array.

    `shape` is the shape after unpacking; the stored axis has as many bytes as the bits need. Without an axis it is
    the flattened array that is packed. What is left of the last byte is zero (`put` writes it so).
    """

    shape: tuple[int, ...]
    axis: int | None
    signed: bool = True
    bits: int = 4

    def stored_shape(self) -> tuple[int, ...]:
        """The shape of the array of bytes."""
        if self.axis is None:
            return (self._bytes(math.prod(self.shape)),)
        return (*self.shape[: self.axis], self._bytes(self.shape[self.axis]), *self.shape[self.axis + 1 :])

    def take(self, flat: Flat) -> Flat:
        """The numbers, one a byte, flattened: `int8` if signed, else `uint8`."""
        stored = flat.view(np.uint8).reshape(self.stored_shape())
        if self.axis is None:
            wide = _spread(stored, self.bits, math.prod(self.shape))
        else:
            wide = _spread(np.moveaxis(stored, self.axis, -1), self.bits, self.shape[self.axis])
            wide = np.moveaxis(wide, -1, self.axis)
        if self.signed:
            top = 1 << (self.bits - 1)
            return ((wide ^ top).view(np.int8) - np.int8(top)).reshape(-1)
        return np.ascontiguousarray(wide).reshape(-1)

    def put(self, numbers: Flat, flat: Flat) -> None:
        """Write the numbers back into the bytes."""
        wide = numbers.view(np.uint8) & ((1 << self.bits) - 1)
        if self.axis is None:
            packed = _squeezed(wide.reshape(-1), self.bits)
        else:
            packed = _squeezed(np.moveaxis(wide.reshape(self.shape), self.axis, -1), self.bits)
            packed = np.moveaxis(packed, -1, self.axis)
        flat.view(np.uint8).reshape(self.stored_shape())[...] = packed

    def _bytes(self, count: int) -> int:
        return (count * self.bits + 7) // 8


def _spread(stored: Flat, bits: int, count: int) -> Flat:
    """The first `count` numbers of a bit stream along the last axis, one a byte."""
    size, each = _group(bits)
    if stored.shape[-1] % size:
        stored = np.concatenate([stored, np.zeros((*stored.shape[:-1], -stored.shape[-1] % size), np.uint8)], -1)
    wide = np.empty((*stored.shape[:-1], stored.shape[-1] // size * each), np.uint8)
    for i in range(each):
        byte, shift = divmod(i * bits, 8)
        part = stored[..., byte::size] >> shift
        if shift + bits > 8:
            part |= stored[..., byte + 1 :: size] << (8 - shift)
        wide[..., i::each] = part & ((1 << bits) - 1)
    return wide[..., :count]


def _squeezed(wide: Flat, bits: int) -> Flat:
    """The bytes of a bit stream along the last axis; the inverse of `_spread`."""
    size, each = _group(bits)
    count = wide.shape[-1]
    if count % each:
        wide = np.concatenate([wide, np.zeros((*wide.shape[:-1], -count % each), np.uint8)], -1)
    stored = np.zeros((*wide.shape[:-1], wide.shape[-1] // each * size), np.uint8)
    for i in range(each):
        byte, shift = divmod(i * bits, 8)
        stored[..., byte::size] |= wide[..., i::each] << shift
        if shift + bits > 8:
            stored[..., byte + 1 :: size] |= wide[..., i::each] >> (8 - shift)
    return stored[..., : (count * bits + 7) // 8]


def _group(bits: int) -> tuple[int, int]:
    """The least number of whole bytes that hold whole numbers, and of those numbers."""
    shared = math.lcm(bits, 8)
    return shared // 8, shared // bits


@dataclass(frozen=True, slots=True)
class View:
    """`shape` elements at `offset + sum(index * strides)` of a flat array, in elements."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0
    of: View | Unpack | None = None

    @staticmethod
    def whole(shape: tuple[int, ...], of: View | Unpack | None = None) -> View:
        """All of an array of this shape, in C order."""
        return View(shape, c_strides(shape), 0, of)

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def span(self) -> tuple[int, int]:
        """The first element of the base that is looked at, and the one after the last."""
        if not self.size:
            return self.offset, self.offset
        ends = [(n - 1) * s for n, s in zip(self.shape, self.strides, strict=True)]
        low = self.offset + sum(e for e in ends if e < 0)
        return low, self.offset + sum(e for e in ends if e > 0) + 1

    def index(self, axis: int, i: int) -> View:
        """Fix one axis, which disappears."""
        return replace(
            self,
            shape=self.shape[:axis] + self.shape[axis + 1 :],
            strides=self.strides[:axis] + self.strides[axis + 1 :],
            offset=self.offset + i * self.strides[axis],
        )

    def narrow(self, axis: int, start: int, size: int) -> View:
        """A run of one axis."""
        shape = (*self.shape[:axis], size, *self.shape[axis + 1 :])
        return replace(self, shape=shape, offset=self.offset + start * self.strides[axis])

    def unfold(self, axis: int, start: int, sizes: tuple[int, ...], strides: tuple[int, ...]) -> View:
        """Look at one axis as several: elements `start + sum(index * strides)` along it."""
        step = self.strides[axis]
        return replace(
            self,
            shape=(*self.shape[:axis], *sizes, *self.shape[axis + 1 :]),
            strides=(*self.strides[:axis], *(s * step for s in strides), *self.strides[axis + 1 :]),
            offset=self.offset + start * step,
        )

    def flip(self, axis: int) -> View:
        """Run through one axis backwards."""
        step = self.strides[axis]
        strides = (*self.strides[:axis], -step, *self.strides[axis + 1 :])
        return replace(self, strides=strides, offset=self.offset + (self.shape[axis] - 1) * step)

    def permute(self, order: tuple[int, ...]) -> View:
        """Reorder the axes."""
        return replace(
            self,
            shape=tuple(self.shape[i] for i in order),
            strides=tuple(self.strides[i] for i in order),
        )

    def refold(self, axes: int) -> View:
        """Read the block, written out in C order, as if the last axes came first.

        With `a` the first `axes` axes and `b` the rest: element `[a, b]` of the result is element
        `b * len(a) + a` of the block. For two axes this is a block that was flattened in Fortran order
        (`block.reshape(-1).reshape(nb, na).T`).
        """
        first, last = self.shape[:axes], self.shape[axes:]
        strides = c_strides(first) + tuple(s * math.prod(first) for s in c_strides(last))
        return View(self.shape, strides, 0, self)

    def take(self, flat: Flat) -> Flat:
        """The tensor, as a view of `flat` where it can be one."""
        base = flat if self.of is None else np.ascontiguousarray(self.of.take(flat)).reshape(-1)
        return strided(base, self)

    def put(self, tensor: Flat, flat: Flat) -> None:
        """Write a tensor back to where `take` found it."""
        if self.of is None:
            strided(flat, self)[...] = tensor.reshape(self.shape)
            return
        block = np.array(self.of.take(flat)).reshape(-1)
        strided(block, self)[...] = tensor.reshape(self.shape)
        self.of.put(block, flat)


def c_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides, in elements, of an array in C order."""
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))


def strided(flat: Flat, view: View) -> Flat:
    """The view's elements of a flat array that is in memory; out-of-range views are refused by NumPy."""
    step = flat.itemsize
    found: Flat = np.ndarray(
        view.shape,
        flat.dtype,
        buffer=flat.data if flat.size else None,
        offset=view.offset * step if flat.size else 0,
        strides=tuple(s * step for s in view.strides) if flat.size else None,
    )
    return found
