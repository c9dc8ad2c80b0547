"""Count sketches: 64 numbers a tensor, from which two manifests alone tell how far a tensor has moved.

Every element is added to one of 64 sums, with one of two signs; which ones, a hash of its place in the tensor (C order)
tells, whatever the tensor's name, shape and type. Sketches are linear, sketch(b) - sketch(a) = sketch(b - a), and the
length of a sketch is an estimate of the length of what was sketched (Charikar, Chen, Farach-Colton: "Finding Frequent
Items in Data Streams", 2002). `docs/sketches.md` has the definition for other languages, and how good it is.

Sums are taken in float64 and in an order that is fixed, and stated there; no BLAS, nothing that depends on the CPU.
NumPy is loaded only to take sketches, not to compare them.
"""

from __future__ import annotations

import base64
import binascii
import math
import struct
import sys
import threading
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from wexport.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

BUCKETS = 64
BLOCK = 65_536
METHOD = "count64"  # the key in a manifest's entry: another method gets another one
ERROR = 0.09  # relative standard error of a distance
FLOOR = 2.0**-23  # a distance of at most this part of the larger norm may be the rounding of float32
_ROWS = BLOCK // BUCKETS
_TINY = 2.0**-126  # the smallest float32 that has all its digits
_FORMAT = struct.Struct(f"<{BUCKETS}f")
_IN_ORDER = sys.byteorder == "little"
_AGAIN = "the manifest is damaged, export again"


# -- where an element goes ---------------------------------------------------------------------------------------------


def mix(x: int) -> int:
    """A bijection of 32-bit numbers that leaves no pattern (Wellons' `lowbias32`, released to the public domain)."""
    x = (x ^ x >> 16) * 0x7FEB352D & 0xFFFFFFFF
    x = (x ^ x >> 15) * 0x846CA68B & 0xFFFFFFFF
    return x ^ x >> 16


def place(index: int) -> tuple[int, int]:
    """The bucket (0 to 63) of an element and its sign (1 or -1): the definition, for indexes below 2**48."""
    seed = mix(index >> 16)
    row = _scatter((index >> 6 ^ seed) & 1023)
    bits = mix((row + (seed >> 10 & 1023)) * 64 + index % 64) ^ seed >> 31
    return (index ^ row) & 63, -1 if bits & 1 else 1


def _scatter(row: Any) -> Any:
    """A bijection of a block's 1,024 rows of 64 elements."""
    for _ in range(3):
        row = row * 677 & 1023
        row = row ^ row >> 5
    return row


def _seed(block: int) -> tuple[int, int]:
    """With what a block's rows are mixed before they are scattered, and where in `_signs` its signs begin."""
    seed = mix(block)
    return seed & 1023, (seed >> 10 & 1023) + 2 * _ROWS * (seed >> 31)


@lru_cache(maxsize=2)
def _signs(dtype: str) -> NDArray[Any]:
    """The signs of 2,048 rows of 64, and their opposites."""
    import numpy as np

    x: NDArray[Any] = np.arange(2 * BLOCK, dtype=np.uint32)
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B)
    odd = (x ^ (x >> np.uint32(16))) & np.uint32(1)
    signs = (1 - 2 * odd.astype(np.int8)).astype(dtype).reshape(-1, BUCKETS)
    return np.concatenate([signs, -signs])


@lru_cache(maxsize=1)
def _order() -> NDArray[Any]:
    """The rows as `_scatter` orders them."""
    import numpy as np

    return np.argsort(_scatter(np.arange(_ROWS)))


def _cells(block: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """The bucket and the sign of each of a block's elements."""
    import numpy as np

    mixed, start = _seed(block)
    rows = _scatter(np.arange(_ROWS) ^ mixed)
    buckets = (np.arange(BUCKETS) ^ rows[:, None]) & 63
    return buckets.reshape(-1), _signs("f4")[rows + start].reshape(-1)


@lru_cache(maxsize=1)
def _first() -> tuple[NDArray[Any], NDArray[Any]]:
    """Those of block 0, in which most tensors end."""
    return _cells(0)


# -- taking a sketch ---------------------------------------------------------------------------------------------------

_local = threading.local()  # working memory


class Sketch:
    """The running sketch of one tensor."""

    def __init__(self) -> None:
        self._blocks = 0  # how many whole blocks there were
        self._sums: Any = None  # theirs: element (r, c) holds the rows that end in the six bits of r, at column c
        self._rest: Any = None  # the sketch of what came after the last whole block

    def add(self, x: NDArray[Any]) -> None:
        """Add the next elements, real numbers; they fill whole blocks, except for the last ones."""
        import numpy as np

        flat = x.reshape(-1)
        flat = flat if flat.dtype == np.float32 else flat.astype(np.float64, copy=False)
        whole = flat.size - flat.size % BLOCK
        if whole:
            self._sums = _finite(self._take, flat[:whole])
            self._blocks += whole // BLOCK
        if whole < flat.size:
            self._rest = _finite(self._end, flat[whole:])

    def _take(self, x: NDArray[Any]) -> NDArray[Any]:
        """The sums, with those of some more whole blocks."""
        import numpy as np

        blocks, dtype = x.reshape(-1, _ROWS, BUCKETS), x.dtype.str[1:]
        order, signs, memory = _order(), _signs(dtype), _memory(dtype)
        sums = np.zeros((len(blocks) + 1, BUCKETS * BUCKETS))
        if self._sums is not None:
            sums[0] = self._sums
        for i, block in enumerate(blocks):
            mixed, start = _seed(self._blocks + i)
            np.take(block, order ^ mixed, 0, memory, "clip")
            np.multiply(memory, signs[start : start + _ROWS], out=memory)
            # down the slow axis, where NumPy adds one after the other
            np.add.reduce(memory.reshape(-1, sums.shape[1]), axis=0, dtype=np.float64, out=sums[i + 1])
        total: NDArray[Any] = np.add.reduce(sums, axis=0)
        return total

    def _end(self, x: NDArray[Any]) -> NDArray[Any]:
        """The sketch of the last block's elements."""
        import numpy as np

        buckets, signs = _cells(self._blocks) if self._blocks else _first()
        found: NDArray[Any] = np.bincount(buckets[: x.size], x * signs[: x.size], BUCKETS)
        return found

    def result(self) -> str | None:
        """The sketch as text; None for no elements, and where float32 cannot hold it: too large, or too small."""
        import numpy as np

        if self._sums is None and self._rest is None:
            return None
        sums = np.zeros(BUCKETS)
        with np.errstate(all="ignore"):
            if self._sums is not None:
                lanes = np.arange(BUCKETS)
                sums = np.add.reduce(self._sums.reshape(64, 64)[lanes[:, None], lanes ^ lanes[:, None]], axis=0)
            if self._rest is not None:
                sums = sums + self._rest
            values = sums.astype(np.float32)
        largest = float(np.abs(values).max())
        if not math.isfinite(largest) or (largest < _TINY and sums.any()):
            return None
        return encode(values.tolist())


def _finite(take: Callable[[NDArray[Any]], NDArray[Any]], x: NDArray[Any]) -> NDArray[Any]:
    """What `take` gives, elements that are not finite taken as zeros."""
    import numpy as np

    with np.errstate(all="ignore"):
        sums = take(x)
        return sums if np.isfinite(sums).all() else take(np.where(np.isfinite(x), x, x.dtype.type(0)))


def _memory(dtype: str) -> NDArray[Any]:
    """Room for a block; each thread has its own."""
    import numpy as np

    found: NDArray[Any] | None = getattr(_local, dtype, None)
    if found is None:
        found = np.empty((_ROWS, BUCKETS), dtype)
        setattr(_local, dtype, found)
    return found


# -- comparing ---------------------------------------------------------------------------------------------------------


def encode(values: list[float]) -> str:
    """64 numbers as text: float32, little-endian, in base64."""
    return base64.b64encode(_FORMAT.pack(*values)).decode("ascii")


def decode(text: str) -> tuple[float, ...]:
    """The 64 numbers of a text.

    Raises:
        BundleError: it is not what `encode` gives.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise BundleError(f"a sketch is not base64 ({error}): {text!r:.60}; {_AGAIN}") from error
    if len(data) != _FORMAT.size:
        raise BundleError(f"a sketch has {len(data)} bytes, expected {_FORMAT.size}; {_AGAIN}")
    values = tuple(memoryview(data).cast("f")) if _IN_ORDER else _FORMAT.unpack(data)  # the first is twice as fast
    if not math.isfinite(sum(values)):  # as it is if, and only if, all of them are
        raise BundleError(f"a sketch has numbers that are not finite; {_AGAIN}")
    return values


def norm(a: str) -> float:
    """The estimated length of a tensor: the square root of the sum of its elements' squares."""
    return math.hypot(*decode(a))


def distance(a: str, b: str) -> float:
    """The estimated length of the difference of two tensors with the same number of elements.

    Its relative standard error is `ERROR`. What is not above `FLOOR` times the larger norm may be rounding.
    """
    return math.dist(decode(a), decode(b))
