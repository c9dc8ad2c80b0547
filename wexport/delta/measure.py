"""How far a tensor moved: from its elements where both sides have them, else estimated from the manifests' sketches."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport import dtypes
from wexport.delta.change import Change
from wexport.delta.side import Side, chunks

_CHUNK = 1 << 16  # elements that are computed with at once: what a second-level cache holds of their numbers


def measured(a: Side, b: Side, one: str | None, two: str | None, top: int) -> Change:
    """The change from a tensor of A to one of B, read in C order in bounded memory; None stands for zeros.

    Args:
        a: one side.
        b: the other.
        one: the tensor of A.
        two: the tensor of B.
        top: how many places of each axis to name that moved most.

    Raises:
        BundleError: a bundle's data do not fit their checksum.
        SourceError: a file ends early, or cannot be read.
    """
    types = [_type(side, name) for side, name in ((a, one), (b, two)) if name is not None]
    sums = _Sums(types[0], types[-1], (b.items[two] if two is not None else a.items[one or ""]).shape if top else ())
    for x, y in _together(a, b, one, two):
        sums.add(x, y)
    axes = (a if one is not None else b).manifest["tensors"][one if one is not None else two]["axes"].split()
    return sums.result(axes, top)


def _type(side: Side, name: str) -> str:
    item = side.items[name]
    stored = item.stored_as or ""
    return stored if stored.startswith("float") else dtypes.name_of(item.dtype) or "uint8"


def _together(a: Side, b: Side, one: str | None, two: str | None) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Two tensors' elements, cut alike."""
    if one is None or two is None:
        side, name = (b, two) if one is None else (a, one)
        for whole in chunks(side, name or ""):
            for start in range(0, whole.size, _CHUNK):
                piece = whole[start : start + _CHUNK]
                zeros = np.zeros_like(piece)
                yield (zeros, piece) if one is None else (piece, zeros)
        return
    left, right = chunks(a, one), chunks(b, two)
    x = y = np.empty(0, np.uint8)
    while True:
        x = x if x.size else next(left, x)
        y = y if y.size else next(right, y)
        n = min(x.size, y.size, _CHUNK)
        if not n:
            return
        yield x[:n], y[:n]
        x, y = x[n:], y[n:]


@dataclass(slots=True)
class _Sums:
    """What is known of the elements so far: sums over those that are finite on both sides."""

    type_a: str
    type_b: str
    shape: tuple[int, ...]
    count: int = 0
    differing: int = 0
    appeared: int = 0
    jumps: int = 0
    unlike_cast: list[int] = field(default_factory=lambda: [0, 0])  # in B of A's rounding, in A of B's
    largest: float = 0.0
    squares: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])  # of a, of b, of the difference
    product: float = 0.0
    by_axis: list[NDArray[Any]] = field(default_factory=list)

    def add(self, raw_a: NDArray[Any], raw_b: NDArray[Any]) -> None:
        """Take the next elements, as unsigned integers."""
        a, b = _numbers(raw_a, self.type_a), _numbers(raw_b, self.type_b)
        other = (a != b) & ~((a != a) & (b != b))
        if self.type_a == self.type_b:
            self.differing += int(np.count_nonzero(raw_a != raw_b.view(raw_a.dtype)))
        else:
            self.differing += int(np.count_nonzero(other))
            self._compare_cast(a, b)
        bad_a, bad_b = ~np.isfinite(a), ~np.isfinite(b)
        if bad_a.any() or bad_b.any():
            self.appeared += int(np.count_nonzero(bad_b & ~bad_a))
            bad = bad_a | bad_b
            self.jumps += int(np.count_nonzero(bad & other))
            a, b = np.where(bad, 0.0, a), np.where(bad, 0.0, b)
        with np.errstate(all="ignore"):
            d = b - a
            if d.size:
                self.largest = max(self.largest, float(np.abs(d).max()))
            if self.shape and a.size == raw_a.size:  # a complex number counts as two: no places are named for it
                self._place(d, a)
            for i, x in enumerate((a, b, d)):
                self.squares[i] += float(np.add.reduce(np.square(x)))
            self.product += float(np.add.reduce(a * b))
        self.count += raw_a.size

    def _compare_cast(self, a: NDArray[Any], b: NDArray[Any]) -> None:
        """Count the elements of each side that are not the other's, rounded to its type."""
        for i, (x, y, dtype) in enumerate(((a, b, self.type_b), (b, a, self.type_a))):
            with np.errstate(all="ignore"):
                cast = x.astype(dtypes.numpy_dtype(dtype)).astype(np.float64)
            self.unlike_cast[i] += int(np.count_nonzero((cast != y) & ~((cast != cast) & (y != y))))

    def _place(self, d: NDArray[Any], a: NDArray[Any]) -> None:
        if not self.by_axis:
            self.by_axis = [np.zeros((2, n)) for n in self.shape]
        inner = math.prod(self.shape)
        places = np.arange(self.count, self.count + d.size)
        for n, sums in zip(self.shape, self.by_axis, strict=True):
            inner //= max(1, n)
            at = places // max(1, inner) % max(1, n)
            for row, x in zip(sums, (d, a), strict=True):
                row += np.bincount(at, weights=x * x, minlength=n)

    def result(self, axes: Sequence[str], top: int) -> Change:
        """The change, once all elements were taken."""
        size_a, size_b, moved = (_length(x) for x in self.squares)
        if self.largest and not moved:
            moved = None  # the squares are too small for float64
        floats = dtypes.is_float(self.type_a) and dtypes.is_float(self.type_b)
        return Change(
            moved=moved,
            size_a=size_a,
            size_b=size_b,
            max_abs=self.largest if math.isfinite(self.largest) else None,
            cosine=max(-1.0, min(1.0, self.product / (size_a * size_b))) if size_a and size_b else None,
            share=self.differing / self.count if self.count else 0.0,
            nonfinite=self.appeared,
            jumps=self.jumps,
            rounded=0 in self.unlike_cast if floats and self.type_a != self.type_b else None,
            top={
                axis: _largest(sums, top) for axis, sums in zip(axes, self.by_axis, strict=False) if sums.shape[1] > 1
            },
        )


def _length(squares: float) -> float | None:
    """A length from its square; None where float64 cannot hold that."""
    return math.sqrt(squares) if math.isfinite(squares) else None


def _largest(sums: NDArray[Any], top: int) -> tuple[tuple[int, float, float | None], ...]:
    """The places of an axis that moved most: index, length of the change, and that relative to what was there."""
    order = np.argsort(-sums[0], kind="stable")[:top].tolist()
    moved, size = np.sqrt(sums).tolist()
    return tuple((i, moved[i], moved[i] / size[i] if size[i] else None) for i in order if moved[i])


def _numbers(raw: NDArray[Any], dtype: str) -> NDArray[Any]:
    x = dtypes.widen(raw, dtype)
    return (x.view(np.float32) if x.dtype == np.complex64 else x).astype(np.float64)
