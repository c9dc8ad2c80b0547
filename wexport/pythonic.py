"""Where a tensor lies in its stored array, as a Python user would write it: `[:, 128:256]`, `.reshape(4, 4, 8, 10)`.

The text is true: evaluated with NumPy on the stored array it gives the tensor. It follows from the view alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from wexport.view import Unpack, View, c_strides


@dataclass(frozen=True, slots=True)
class _Dimension:
    """How one stored dimension is looked at: an index or a slice, the lengths it is folded into, an index into those,
    and the view's axes in the order in which they stand then."""

    first: str
    folds: tuple[int, ...] = ()
    second: tuple[str, ...] = ()
    axes: tuple[int, ...] = ()


def expression(name: str, stored: Sequence[int], view: View, shape: Sequence[int]) -> str | None:
    """The tensor of this shape that a view takes from the array called `name`; None if slices cannot say it."""
    if isinstance(view.of, Unpack):
        name, stored = _unpacked(name, view.of), view.of.shape
    elif isinstance(view.of, View):
        inner = expression(name, stored, view.of, view.of.shape)
        if inner is None:
            return None
        name, stored = f"{inner}.reshape(-1)", (view.of.size,)
    looked = _looked(stored, view)
    if looked is None:
        return None
    order = [i for d in looked for i in d.axes]
    text = name + _index([d.first for d in looked])
    if order == sorted(order) and not any(d.second for d in looked):
        now = [math.prod(view.shape[i] for i in d.axes) for d in looked if d.axes]
    else:
        text += _folds(looked, view)
        wanted = sorted(range(len(order)), key=lambda i: order[i])
        if order != sorted(order):
            text += ".T" if len(order) == 2 else f".transpose({', '.join(map(str, wanted))})"
        now = list(view.shape)
    if now != list(shape):
        text += f".reshape({', '.join(map(str, shape))})"
    return text.replace(".reshape(-1).reshape(", ".reshape(")


def _unpacked(name: str, of: Unpack) -> str:
    """Two numbers a byte; of an odd number of them the last half byte is padding.

    An array that is packed as a whole has the shape of its numbers: whoever reads it gets it unpacked.
    """
    if of.axis is None:
        return name
    text = f"unpack_int4({name}, axis={of.axis})"
    n = of.shape[of.axis]
    return f"{text}[{':, ' * of.axis}0:{n}]" if n % 2 else text


def _looked(stored: Sequence[int], view: View) -> list[_Dimension] | None:
    """Each stored dimension with the axes that run along it; an axis of length one goes where there is room."""
    steps = c_strides(tuple(stored))
    axes: list[list[int]] = [[] for _ in stored]
    for i in sorted(range(len(view.shape)), key=lambda i: view.shape[i] == 1):
        stride = abs(view.strides[i])
        if view.shape[i] > 1:
            place = [d for d, step in enumerate(steps) if stride >= step and stored[d] > 1]
        else:
            place = [d for d, step in enumerate(steps) if stride == step and not axes[d]]
        if not place:
            return None
        axes[place[0]].append(i)
    found = []
    rest = view.offset
    for d, step in enumerate(steps):
        start, rest = divmod(rest, step) if step else (0, rest)
        one = _dimension(stored[d], start, axes[d], view, step)
        if one is None:
            return None
        found.append(one)
    return found


def _dimension(size: int, start: int, axes: list[int], view: View, step: int) -> _Dimension | None:
    if not axes:
        return _Dimension(str(start))
    if len(axes) == 1:
        stride = view.strides[axes[0]] // step if view.shape[axes[0]] > 1 else 1
        return _Dimension(_slice(start, view.shape[axes[0]], stride, size), (), (), tuple(axes))
    axes = sorted(axes, key=lambda i: (-abs(view.strides[i]), i))
    lengths = [view.shape[i] for i in axes]
    strides = [view.strides[i] // step for i in axes]
    if min(strides) < 1:
        return None
    if all(s == t * n for s, t, n in zip(strides, strides[1:], lengths[1:], strict=False)):
        total = math.prod(lengths)
        return _Dimension(_slice(start, total, strides[-1], size), tuple(lengths), (), tuple(axes))
    return _folded(size, start, axes, lengths, strides)


def _folded(size: int, start: int, axes: list[int], lengths: list[int], strides: list[int]) -> _Dimension | None:
    """Parts of a folded dimension: rows that hold them all, folded, then a slice of each fold."""
    block = strides[0]
    whole = lengths[0] * block
    for low in (0, start, size - whole):
        high = size if low == 0 and size % block == 0 else low + whole
        if not (low <= start and high <= size and low >= 0):
            continue
        units = [*strides, 1] if strides[-1] > 1 else strides
        folds = ((high - low) // block, *(a // b for a, b in pairwise(units)))
        if any(a % b for a, b in pairwise(units)):
            return None
        digits, rest = [], start - low
        for unit in units:
            digit, rest = divmod(rest, unit)
            digits.append(digit)
        wide = [*lengths, 1][: len(units)]
        if all(d + n <= f for d, n, f in zip(digits, wide, folds, strict=True)):
            inner = [_slice(d, n, 1, f) for d, n, f in zip(digits, wide, folds, strict=True)]
            if len(units) > len(lengths):
                inner[-1] = str(digits[-1])
            return _Dimension(_slice(low, high - low, 1, size), folds, tuple(inner), tuple(axes))
    return None


def _slice(start: int, n: int, step: int, size: int) -> str:
    if n and step < 0:
        stop = start + n * step
        return f"{'' if start == size - 1 else start}:{'' if stop < 0 else stop}:{step}"
    stop = start + (n - 1) * step + 1 if n else start
    head = "" if start == 0 else str(start)
    if step == 1:
        return ":" if start == 0 and n == size else f"{start}:{stop}"
    return f"{head}:{'' if stop + step > size else stop}:{step}"


def _folds(looked: list[_Dimension], view: View) -> str:
    """The dimensions folded into the view's axes, and what is taken of the folds."""
    used = [d for d in looked if d.axes]
    if not any(d.folds for d in used):
        return ""
    folds = [n for d in used for n in (d.folds or (view.shape[d.axes[0]],))]
    taken = [part for d in used for part in (d.second or (":",) * max(1, len(d.folds)))]
    return f".reshape({', '.join(map(str, folds))}){_index(taken)}"


def _index(parts: Sequence[str]) -> str:
    """`[...]`, without what changes nothing."""
    kept = list(parts)
    while kept and kept[-1] == ":":
        kept.pop()
    return f"[{', '.join(kept)}]" if kept else ""
