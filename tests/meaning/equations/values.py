"""Values with named axes, and how operators align them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Word = tuple[str, ...]  # the names of an axis: several, where axes are packed into one
HEADS = {"head", "kv_head"}


@dataclass
class Value:
    """An array whose axes may have names; a `tensor` of the layer has names for all of them.

    `places` says, of a value with heads, the axes that its places stood on, and their lengths.
    """

    data: Array
    names: tuple[Word, ...]
    tensor: bool = False
    places: Any = None

    @property
    def ndim(self) -> int:
        return self.data.ndim

    def has(self, *words: str) -> bool:
        return any(w in name for name in self.names for w in words)

    def at(self, word: str) -> int:
        return next(i for i, name in enumerate(self.names) if word in name)


def value(data: Any, names: Sequence[Word] | None = None, places: Any = None) -> Value:
    """A value; axes without names where none are given."""
    data = np.asarray(data)
    return Value(data, tuple(names) if names is not None else ((),) * data.ndim, False, places)


def tensor(axes: str, data: Array) -> Value:
    """A tensor with its axes as the manifest writes them, parentheses around packed ones."""
    words = [tuple(w.strip("()").split()) for w in re.findall(r"\([^)]*\)|\S+", axes)]
    assert len(words) == data.ndim, (axes, data.shape)
    return Value(data, tuple(words), True)


@dataclass
class Call:
    """One call of a layer: its entry in the manifest, its tensors, its arguments, and what the lines have given."""

    entry: Mapping[str, Any]
    tensors: Mapping[str, Value]
    args: Mapping[str, Any]
    found: dict[str, Any] = field(default_factory=dict)
    single: bool = False  # within float32(...)

    @property
    def inner(self) -> Mapping[str, Any]:
        """The entry that says how windows move: the layer's own, or that of the layer inside."""
        found: Mapping[str, Any] = self.entry.get("layer") or self.entry
        return found

    @property
    def parts(self) -> Mapping[str, Any]:
        """Arguments that stand for several tensors, and how they are laid out."""
        found: Mapping[str, Any] = self.entry.get("computed") or {}
        return found

    @property
    def channels(self) -> int:
        """The axis of features."""
        return 1 if self.inner.get("data_format") == "channels_first" else -1


# -- elementwise -------------------------------------------------------------------------------------------------------


def elementwise(call: Call, function: Any, *operands: Any) -> Value:
    """A function of elements; tensors are laid along the axes of the other operand."""
    values = [v if isinstance(v, Value) else value(v) for v in operands]
    free = [v for v in values if not v.tensor and v.ndim]
    target = max(free or values, key=lambda v: (v.ndim, v.places is not None))
    arrays = [laid(call, v, target) if v.tensor and v is not target else v.data for v in values]
    arrays = [a.astype(np.int64) if a.dtype.kind in "iu" else a for a in arrays]  # whole numbers of any size
    with np.errstate(all="ignore"):
        data = np.asarray(function(*(a.astype(np.float32) if call.single else a for a in arrays)))
    names = target.names if data.ndim == target.ndim else ((),) * data.ndim
    return Value(data, names, target.tensor, target.places)


def laid(call: Call, part: Value, target: Value) -> Array:
    """A tensor along some axes of what it meets: those of its names; those that the layer's entry says; the last."""
    data = part.data
    if data.size == 1 and data.ndim <= 1:
        return data.reshape(())
    if part.ndim > 1 and any(all(set(w) & set(name) for w in part.names) for name in target.names):
        part = Value(data.reshape(-1), (sum(part.names, ()),), True)  # several axes that the other has packed into one
        data = part.data
    axes = _named_axes(part, target)
    if axes is None and target.tensor and part.has("in", "out") and set(sum(part.names, ())) <= {"in", "out", "group"}:
        return _as_matrix(call, part, target)
    if axes is None:
        axes = _stated_axes(call, part, target)
    if axes is None or len(axes) != data.ndim:
        return data
    order = np.argsort(axes)
    data = data.transpose(order)
    shape = [1] * target.ndim
    for axis, n in zip(sorted(axes), data.shape, strict=True):
        shape[axis] = n
    data = data.reshape(shape)
    for axis, n in enumerate(target.data.shape):  # the last block of a repeated scale may be shorter
        data = np.take(data, range(n), axis) if data.shape[axis] > n > 1 and part.has("group") else data
    return data


def _named_axes(part: Value, target: Value) -> list[int] | None:
    found = [next((i for i, name in enumerate(target.names) if set(w) & set(name)), None) for w in part.names]
    return None if None in found or len(set(found)) < len(found) else [int(i) for i in found if i is not None]


def _as_matrix(call: Call, part: Value, target: Value) -> Array:
    """A scale of a matrix "in out", for a kernel whose inputs and outputs are several axes each."""
    size = target.data.size
    rows = part.data.shape[part.at("in")] if part.has("in") else size // part.data.shape[part.at("out")]
    whole = Value(target.data.reshape(rows, -1), (("in", "group"), ("out",)), True)
    return np.broadcast_to(laid(call, part, whole), whole.data.shape).reshape(target.data.shape)


def _stated_axes(call: Call, part: Value, target: Value) -> list[int] | None:
    entry, n = call.entry, target.ndim
    if "shared_axes" in entry:
        return [i for i in range(1, n) if i not in entry["shared_axes"]]
    if "axis" in entry:
        stated = entry["axis"] if isinstance(entry["axis"], list) else [entry["axis"]]
        axes = sorted(a % n for a in stated)
        if len(axes) > part.ndim:  # axes of length one have dropped out
            axes = [a for a in axes if target.data.shape[a] > 1]
        return axes
    return [call.channels % n] if part.ndim == 1 and "data_format" in call.inner and not target.tensor else None


# -- products ----------------------------------------------------------------------------------------------------------


def matmul(call: Call, a: Value, b: Value) -> Value:
    """`a @ b`: of values as matrices; with a tensor, over the features of a and the first axis of b."""
    if a.ndim == 0 or b.ndim == 0:  # a state of zeros, of no shape yet
        return value(0.0)
    x, w = (v.data.astype(np.float64) for v in (a, b))
    if a.tensor and b.tensor:
        return Value(np.tensordot(x, w, 1), a.names[:-1] + b.names[1:], True)
    if not b.tensor:
        if x.ndim == w.ndim == 4 and x.shape[1] != w.shape[1]:  # fewer heads, each for several
            w = np.repeat(w, x.shape[1] // w.shape[1], axis=1)
        return value(x @ w, a.names[:-1] + b.names[-1:], a.places)
    if a.places is not None and b.names[0][0] in HEADS:
        return _joined(a, b)
    if len(b.names) == 3 and b.names[1][0] in HEADS:
        return _projected(call, a, b)
    if b.names[0] == ("piece",):
        y = np.stack([x @ piece for piece in w], axis=-2)
        return value(y, (*((),) * (y.ndim - 2), ("piece",), ("out",)))
    if b.ndim == 1 or b.names[-1][0].startswith("axis_"):
        return value(x @ w)
    axis = call.channels % a.ndim
    y = np.moveaxis(np.tensordot(x, w.reshape(-1, w.shape[-1]), (axis, 0)), -1, axis)
    names = list(a.names)
    names[axis] = b.names[-1]
    return value(y, names)


def _projected(call: Call, a: Value, b: Value) -> Value:
    """x `[batch, *places, in]` by a kernel "in head dim": `[batch, head, place, dim]`."""
    y = np.tensordot(a.data, b.data, 1)
    n = a.ndim
    over = sorted(i % n for i in call.entry.get("attention_axes") or range(1, n - 1))
    free = [i for i in range(n - 1) if i not in over]
    y = y.transpose([*free, n - 1, *over, n])
    lengths = [a.data.shape[i] for i in over]
    y = y.reshape(*y.shape[: len(free) + 1], int(np.prod(lengths)), y.shape[-1])
    return value(y, (*((),) * len(free), b.names[1], (), b.names[2]), (free, over, lengths))


def _joined(a: Value, b: Value) -> Value:
    """The inverse: over heads and dim, with the places back where they were."""
    free, over, lengths = a.places
    y = np.einsum("...hpd,hde->...pe", a.data, b.data.reshape(*b.data.shape[:2], -1))
    y = y.reshape(*y.shape[: len(free)], *lengths, y.shape[-1])
    y = y.transpose([*np.argsort([*free, *over]), y.ndim - 1])
    y = y.reshape(*y.shape[:-1], *b.data.shape[2:])
    return value(y, (*((),) * (len(free) + len(over)), *b.names[2:]))


def transposed(a: Value) -> Value:
    """`a.T`: the last two axes swapped."""
    return Value(np.swapaxes(a.data, -1, -2), (*a.names[:-2], a.names[-1], a.names[-2]), a.tensor, a.places)
