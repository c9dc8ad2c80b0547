"""Statistics of a tensor that streams by: alike on every CPU, whatever the pieces it comes in.

Sums are taken in float64 over blocks of 65,536 elements in the tensor's own order, and the blocks' means and squared
deviations are joined one after the other (Chan, Golub, LeVeque: "Updating Formulae and a Pairwise Algorithm for
Computing Sample Variances", 1979). NumPy's sum of a contiguous block has a fixed order too; nothing goes through BLAS.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport import dtypes

BLOCK = 65_536
_CANCELS = 1000.0  # how much larger than what is left of it a sum of squares may be
_BATCH = 4  # blocks taken in one step, so that threads seldom wait for each other


class Stats:
    """The running statistics of one tensor.

    Args:
        dtype: the elements' type.
        also: given the same blocks on the way, in order (rows, elements), as real numbers; a complex one is two.
    """

    def __init__(self, dtype: str, also: Callable[[NDArray[Any]], None] | None = None) -> None:
        self.dtype, self._also = dtype, also
        self.count = self.zeros = self.nonfinite = 0
        self.low, self.high = math.inf, -math.inf
        self.mean = self.squares = 0.0  # the mean so far, and the sum of squared deviations from it
        self._rest: list[NDArray[Any]] = []
        self._resting = 0

    def update(self, chunk: NDArray[Any], scratch: NDArray[Any]) -> None:
        """Add the next elements, flat, moved as unsigned integers; `scratch` is working memory (`scratch()`)."""
        start = 0
        if self._resting:
            start = min(BLOCK - self._resting, chunk.size)
            self._keep(chunk[:start])
            if self._resting == BLOCK:
                self._flush(scratch)
        whole = chunk.size - (chunk.size - start) % BLOCK
        for at in range(start, whole, _BATCH * BLOCK):
            self._blocks(chunk[at : min(whole, at + _BATCH * BLOCK)].reshape(-1, BLOCK), scratch)
        if whole < chunk.size:
            self._keep(chunk[whole:])

    def _keep(self, chunk: NDArray[Any]) -> None:
        self._rest.append(chunk.copy())
        self._resting += chunk.size

    def _flush(self, scratch: NDArray[Any]) -> None:
        if self._resting:
            block = np.concatenate(self._rest)
            self._rest, self._resting = [], 0
            self._blocks(block.reshape(1, -1), scratch)

    def _blocks(self, raw: NDArray[Any], scratch: NDArray[Any]) -> None:
        """Add blocks, one a row."""
        x = _numbers(raw, self.dtype)
        if self._also:
            self._also(x)
        rows, n = x.shape
        d = scratch[: x.size].reshape(x.shape)
        low, high = float(x.min()), float(x.max())
        is_zero = scratch.view(np.bool_)[: x.size].reshape(x.shape)  # the same memory, before it is needed
        self.zeros += int(np.count_nonzero(np.equal(x, 0, out=is_zero)))
        if not (math.isfinite(low) and math.isfinite(high)):
            self.nonfinite += x.size - int(np.count_nonzero(np.isfinite(x)))
        self.low, self.high = _lower(self.low, low), -_lower(-self.high, -high)
        with np.errstate(all="ignore"):
            np.copyto(d, x)
            means = np.add.reduce(d, axis=1) / n
            np.square(d, out=d)
            squares = np.add.reduce(d, axis=1)
            around = squares - n * means * means
            # far from zero, a difference loses its digits
            for i in np.flatnonzero(~(around * _CANCELS > squares)).tolist():
                np.copyto(d[i], x[i])
                np.subtract(d[i], means[i], out=d[i])
                np.square(d[i], out=d[i])
                around[i] = np.add.reduce(d[i])
        for i in range(rows):
            self._join(n, float(means[i]), float(around[i]))

    def _join(self, n: int, mean: float, squares: float) -> None:
        total, delta = self.count + n, mean - self.mean
        self.squares += squares + delta * delta * (self.count * n / total)
        self.mean += delta * (n / total)
        self.count = total

    def result(self, scratch: NDArray[Any]) -> dict[str, Any]:
        """`min`, `max`, `mean`, `std`, `l2` (null where not finite), `zeros` and `nonfinite`."""
        self._flush(scratch)
        if not self.count:
            return {"min": None, "max": None, "mean": None, "std": None, "l2": 0.0, "zeros": 0, "nonfinite": 0}
        largest = max(abs(self.low), abs(self.high))
        same = self.low == self.high
        return {
            "min": _six(self.low),
            "max": _six(self.high),
            "mean": _six(self.low if same else _to_quantum(self.mean, 1e-7 * largest)),
            "std": 0.0 if same else _six(math.sqrt(self.squares / self.count)),
            "l2": _six(_length(self.squares, self.mean, self.count)),
            "zeros": self.zeros,
            "nonfinite": self.nonfinite,
        }


def scratch() -> NDArray[Any]:
    """The working memory that `Stats` wants, one for each thread; a complex number counts as two."""
    return np.empty(2 * _BATCH * BLOCK, np.float64)


def _numbers(raw: NDArray[Any], dtype: str) -> NDArray[Any]:
    """Elements as numbers that reductions are fast on."""
    x = dtypes.widen(raw, dtype)
    if x.dtype == np.float16:
        return x.astype(np.float32)
    return x.view(np.float32) if x.dtype == np.complex64 else x


def _lower(a: float, b: float) -> float:
    """The smaller number, or the one that is none."""
    return a if a != a or a < b else b


def _length(squares: float, mean: float, count: int) -> float:
    return math.sqrt(squares + mean * mean * count) if squares == squares and squares >= 0 else math.nan


def _to_quantum(x: float, quantum: float) -> float:
    if not quantum or not math.isfinite(x) or not math.isfinite(quantum):
        return x
    return round(x / quantum) * quantum


def _six(x: float) -> float | None:
    return float(f"{x:.5e}") + 0.0 if math.isfinite(x) else None
