"""Whole numbers and single floats, worked out as the model would: slice bounds, axes, shapes, scales.

Arithmetic on weights never is: a float of more than one element is no constant here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from wexport.readers.onnx.ops import Held, Op
from wexport.readers.onnx.statics import Array, Statics
from wexport.readers.onnx.tensors import element_type

_MOST = 4096  # elements


def fold(op: Op, found: Statics) -> None:
    """Work out whole numbers and single floats."""
    xs = []
    for i in op.inputs:
        known = found.known.get(i) if i else None
        if i and known is None:
            return
        xs.append(known)
    if op.type == "ConstantOfShape" and isinstance(held := op.attributes.get("value"), Held):
        if held.value not in found.known:
            return
        xs.append(found.known[held.value])
    if not xs or xs[0] is None or sum(x.size for x in xs if x is not None) > _MOST:
        return
    if any(x is not None and x.dtype.kind == "f" and x.size > 1 for x in xs):
        return
    try:
        with np.errstate(all="ignore"):
            made = FOLDS[op.type](op, xs)
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, MemoryError):
        return  # what makes no sense is left to the model
    if made is not None and made.size <= _MOST and not (made.dtype.kind == "f" and made.size > 1):
        found.known[op.outputs[0]] = made
        found.fixed.add(op.outputs[0])


def _axes(op: Op, xs: Sequence[Any]) -> list[int] | None:
    if len(xs) > 1 and xs[1] is not None:
        return [int(n) for n in xs[1].reshape(-1)]
    return op.attributes.get("axes")


def _fold_slice(op: Op, xs: Sequence[Any]) -> Array | None:
    x = xs[0]
    starts, ends, axes, steps = (
        [int(n) for n in xs[i].reshape(-1)] if i < len(xs) and xs[i] is not None else op.attributes.get(name)
        for i, name in ((1, "starts"), (2, "ends"), (3, "axes"), (4, "steps"))
    )
    for i, (start, end) in enumerate(zip(starts or [], ends or [], strict=True)):
        axis = axes[i] if axes else i
        step = steps[i] if steps else 1
        stop = None if step < 0 and end < -x.shape[axis] else end
        x = x[(slice(None),) * (axis % x.ndim) + (slice(start, stop, step),)]
    return np.asarray(x)


def _fold_reshape(op: Op, xs: Sequence[Any]) -> Array:
    target = [int(n) for n in xs[1]] if len(xs) > 1 else op.attributes["shape"]
    if not op.attributes.get("allowzero"):
        target = [xs[0].shape[i] if n == 0 else n for i, n in enumerate(target)]
    return np.asarray(xs[0].reshape(target))


def _fold_unsqueeze(op: Op, xs: Sequence[Any]) -> Array:
    return np.expand_dims(xs[0], tuple(_axes(op, xs) or ()))


def _fold_squeeze(op: Op, xs: Sequence[Any]) -> Array:
    axes = _axes(op, xs)
    return np.asarray(np.squeeze(xs[0], None if axes is None else tuple(axes)))


def _fold_cast(op: Op, xs: Sequence[Any]) -> Array | None:
    name = element_type(op.attributes["to"])
    return None if name is None or name not in np.sctypeDict else np.asarray(xs[0].astype(name))


def _fold_range(op: Op, xs: Sequence[Any]) -> Array | None:
    start, stop, step = (x.reshape(()).item() for x in xs)
    return np.arange(start, stop, step, dtype=xs[0].dtype) if step and (stop - start) / step <= _MOST else None


def _fold_full(op: Op, xs: Sequence[Any]) -> Array | None:
    return (
        None
        if np.prod(xs[0]) > _MOST
        else np.full([int(n) for n in xs[0]], np.float32(0) if len(xs) < 2 else xs[1].reshape(())[()])
    )


def _fold_expand(op: Op, xs: Sequence[Any]) -> Array | None:
    shape = np.broadcast_shapes(xs[0].shape, tuple(int(n) for n in xs[1]))
    return np.broadcast_to(xs[0], shape) if np.prod(shape) <= _MOST else None


def _fold_divide(op: Op, xs: Sequence[Any]) -> Array:
    a, b = xs
    return np.asarray(np.trunc(a / b).astype(a.dtype) if a.dtype.kind in "iu" else a / b)


def _fold_mod(op: Op, xs: Sequence[Any]) -> Array:
    return np.asarray((np.fmod if op.attributes.get("fmod") else np.mod)(*xs))


def _fold_prod(op: Op, xs: Sequence[Any]) -> Array:
    axes = _axes(op, xs)
    keep = bool(op.attributes.get("keepdims", 1))
    return np.asarray(np.prod(xs[0], axis=None if axes is None else tuple(axes), keepdims=keep, dtype=xs[0].dtype))


def _plain(function: Callable[..., Any]) -> Callable[[Op, Sequence[Any]], Array | None]:
    return lambda op, xs: np.asarray(function(*xs))


FOLDS: dict[str, Callable[[Op, Sequence[Any]], Array | None]] = {
    "Identity": _plain(lambda x: x), "Neg": _plain(np.negative), "Abs": _plain(np.abs), "Add": _plain(np.add),
    "Sub": _plain(np.subtract), "Mul": _plain(np.multiply), "Div": _fold_divide, "Mod": _fold_mod,
    "Min": _plain(lambda *x: np.minimum.reduce(x)), "Max": _plain(lambda *x: np.maximum.reduce(x)),
    "Sqrt": _plain(np.sqrt), "Floor": _plain(np.floor), "Ceil": _plain(np.ceil), "Reciprocal": _plain(np.reciprocal),
    "Pow": _plain(lambda a, b: np.power(a, b).astype(a.dtype)), "Not": _plain(np.logical_not),
    "And": _plain(np.logical_and), "Or": _plain(np.logical_or), "Equal": _plain(np.equal), "Less": _plain(np.less),
    "Greater": _plain(np.greater), "Where": _plain(np.where), "Slice": _fold_slice, "Reshape": _fold_reshape,
    "Unsqueeze": _fold_unsqueeze, "Squeeze": _fold_squeeze, "Cast": _fold_cast, "Range": _fold_range,
    "ConstantOfShape": _fold_full, "Expand": _fold_expand, "ReduceProd": _fold_prod,
    "CastLike": _plain(lambda a, b: a.astype(b.dtype)), "Size": _plain(lambda x: np.asarray(x.size, np.int64)),
    "Concat": lambda op, xs: np.concatenate(xs, axis=op.attributes.get("axis", 0)),
    "Gather": lambda op, xs: np.asarray(np.take(xs[0], xs[1].astype(int), axis=op.attributes.get("axis", 0))),
    "Transpose": lambda op, xs: np.transpose(xs[0], op.attributes.get("perm")),
}  # fmt: skip
