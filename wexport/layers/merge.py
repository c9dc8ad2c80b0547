"""Merging values: elementwise arithmetic, concatenation, dot products.

    Keras  Add, Subtract, Multiply, Average, Maximum, Minimum, Concatenate, Dot
    Keras 1, 2.0  Merge: mode sum, mul, ave, max, concat, dot, cos (a dot product of normalized vectors)

Arithmetic of the same names between symbolic tensors (`layers/ops.py`) is of the same kinds: they differ in
`broadcast`. Keras' layers align operands of fewer axes behind the batch (`batch`), operators as NumPy does.
`truncate`: quotients of whole numbers are rounded toward zero, remainders have the dividend's sign.
What becomes of masks is in `mask_rule`: `all` of those present, or `any` of all (Keras 3).
Sources: keras/src/layers/merging (3.15.1); keras/layers/merge.py (2.2.4); keras/engine/topology.py, Merge (1.2.2).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport import dtypes
from wexport.features import Dim, Value, concat
from wexport.layers.keras import Keras, Stored, keras, plain, unknown
from wexport.layers.registry import BOOL, INT, INTS, NUMBER, TEXT, Flow, computes, equations, flow, kind
from wexport.layers.step import Step, Terms
from wexport.model import Const, Json

Array = NDArray[Any]

ELEMENTWISE = ("add", "subtract", "multiply", "average", "maximum", "minimum", "divide", "floor_divide", "power", "mod")
kind(*ELEMENTWISE, broadcast=TEXT, maybe={"mask_rule": TEXT, "masked": BOOL, "truncate": BOOL})
kind("concat", moves=True, axis=INT, maybe={"mask_rule": TEXT})
kind("dot", axes=INTS, normalize=BOOL, epsilon=NUMBER, keep=BOOL)

_CLASSES = {
    "Add": "add", "Subtract": "subtract", "Multiply": "multiply", "Average": "average",
    "Maximum": "maximum", "Minimum": "minimum",
}  # fmt: skip


def _merging(layer: Keras, name: str) -> Stored:
    modern = layer.era.major > 2 and layer.era.since(3, 4)
    attributes: dict[str, Json] = {"broadcast": "batch", "mask_rule": "any" if modern else "all"}
    if modern and name in {"multiply", "maximum", "minimum"}:
        attributes["masked"] = True
    return Stored(name, attributes, call=("x*",), mask="merge")


@keras(*_CLASSES)
def _elementwise(layer: Keras) -> Stored:
    return _merging(layer, _CLASSES[layer.class_name])


@keras("Concatenate")
def _concatenate(layer: Keras) -> Stored:
    modern = layer.era.major > 2 and layer.era.since(3, 12)
    attributes = {"axis": int(layer.get("axis", default=-1)), "mask_rule": "any" if modern else "all"}
    return Stored("concat", attributes, call=("x*",), mask="merge")


@keras("Dot")
def _dot(layer: Keras) -> Stored:
    return _dot_of(layer, layer.get("axes", default=-1), layer.flag("normalize", default=False), False)


def _dot_of(layer: Keras, axes: Json, normalize: bool, keep: bool) -> Stored:
    found = plain(axes)
    pair = [int(a) for a in found] if isinstance(found, list) else [int(found)] * 2
    epsilon = 1e-7 if keep else 1e-12
    return Stored("dot", {"axes": pair, "normalize": normalize, "epsilon": epsilon, "keep": keep}, call=("x*",))


@keras("Merge")
def _merge(layer: Keras) -> Stored:
    mode = layer.get("mode", default="sum")
    if layer.get("mode_type", default="raw") != "raw" or not isinstance(mode, str):
        return unknown(layer)
    names = {"sum": "add", "mul": "multiply", "ave": "average", "max": "maximum"}
    if mode in names:
        return _merging(layer, names[mode])
    if mode == "concat":
        attributes = {"axis": int(layer.get("concat_axis", default=-1)), "mask_rule": "all"}
        return Stored("concat", attributes, call=("x*",), mask="merge")
    if mode in {"dot", "cos"}:
        return _dot_of(layer, layer.get("dot_axes", default=-1), mode == "cos", mode == "cos")
    return unknown(layer)


# -- elementwise -------------------------------------------------------------------------------------------------------


def broadcast(shapes: Sequence[tuple[Dim, ...]]) -> tuple[Dim, ...]:
    """The shape that operands have together; an unknown length yields to a known one other than one."""
    rank = max(len(s) for s in shapes)
    padded = [(1,) * (rank - len(s)) + s for s in shapes]
    result: list[Dim] = []
    for dims in zip(*padded, strict=True):
        known = [n for n in dims if n not in (None, 1)]
        result.append(known[0] if known else None if None in dims else 1)
    return tuple(result)


def _aligned(f: Flow) -> list[tuple[Dim, ...]] | None:
    shapes = [v.shape for v in f.values()]
    found = [s for s in shapes if s is not None]
    if len(found) < len(shapes):
        return None
    if f.attributes.get("broadcast") == "batch":
        rank = max(len(s) for s in found)
        found = [s if len(s) == rank or not s else (s[0], *(1,) * (rank - len(s)), *s[1:]) for s in found]
    return found


@flow(*ELEMENTWISE)
def _elementwise_flow(f: Flow) -> Mapping[str, Value]:
    shapes = _aligned(f)
    args = f.args.get("x")
    values = [a for a in (args if isinstance(args, tuple) else (args,)) if isinstance(a, Value)]
    if shapes is None:
        return {"y": f.source(None), "mask": f.source(None, "mask", dtype="bool")}
    shape = broadcast(shapes)
    constants = [a for a in (args if isinstance(args, tuple) else ()) if isinstance(a, Const)]
    types = [*(v.dtype for v in values), *(c.dtype for c in constants)]
    dtype = next((t for t in types if t is not None and dtypes.is_float(t)), types[0] if types else None)
    mask = f.source(shape[:2], "mask", dtype="bool")
    full = [v for v in values if v.shape == shape]
    if len(full) == 1 and all(v.shape == shape or set(v.shape or ()) <= {1} for v in values):  # the others are numbers
        return {"y": full[0], "mask": mask}
    return {"y": f.source(shape, dtype=dtype), "mask": mask}


_FUNCTIONS: dict[str, Callable[[Array, Array], Array]] = {
    "add": np.add, "subtract": np.subtract, "multiply": np.multiply, "average": np.add, "maximum": np.maximum,
    "minimum": np.minimum, "divide": np.divide, "floor_divide": np.floor_divide, "power": np.power, "mod": np.mod,
}  # fmt: skip


def _quotient(a: Array, b: Array) -> Array:
    """A quotient; of whole numbers, without the remainder."""
    if a.dtype.kind == "f" or b.dtype.kind == "f":
        return np.divide(a, b)
    return np.asarray((a - np.fmod(a, b)) // b)


_TRUNCATED: dict[str, Callable[[Array, Array], Array]] = {"divide": _quotient, "mod": np.fmod}


def _operands(step: Step) -> list[Array]:
    xs = [np.asarray(x) for x in step.xs]
    if step.attributes.get("broadcast") == "batch":
        rank = max(x.ndim for x in xs)
        xs = [x.reshape(x.shape[:1] + (1,) * (rank - x.ndim) + x.shape[1:]) if 0 < x.ndim < rank else x for x in xs]
    return xs


def register_elementwise(name: str) -> None:
    """Sign in what an elementwise kind computes."""

    def compute(step: Step) -> dict[str, Array | None]:
        xs, masks = _operands(step), step.args.get("mask")
        given = list(masks) if isinstance(masks, tuple) else [None] * len(xs)
        if step.attributes.get("masked") and any(m is not None for m in given):
            y = _masked(name, xs, given)
        else:
            y = xs[0]
            function = _TRUNCATED[name] if step.attributes.get("truncate") else _FUNCTIONS[name]
            for x in xs[1:]:
                y = function(y, x)
        if name == "average":
            y = y / len(xs)
        return {"y": y, "mask": joined_mask(step.attributes.get("mask_rule"), given)}

    computes(name)(compute)


_SIGNS = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/", "power": "**"}


def _write_elementwise(name: str) -> None:
    """Sign in the equation of an elementwise kind: of operators; Keras' layers, which know masks, have no tensors."""

    def write(terms: Terms) -> list[str]:
        if terms.attributes["broadcast"] != "numpy":
            return []
        values = terms.arg("x")
        sign = _SIGNS.get(name) if len(values) > 1 and not terms.attributes.get("truncate") else None
        text = f" {sign} ".join(values) if sign else f"{name}({', '.join(values)})"
        return [f"y = {text}"]

    equations(name)(write)


for _name in ELEMENTWISE:
    register_elementwise(_name)
    _write_elementwise(_name)


def _masked(name: str, xs: Sequence[Array], masks: Sequence[Array | None]) -> Array:
    """Keras 3: what is masked does not take part (merging/base_merge.py, multiply.py)."""
    full = [
        None if m is None else np.broadcast_to(np.expand_dims(m, -1), x.shape) for x, m in zip(xs, masks, strict=True)
    ]
    if name == "multiply":
        y = np.ones_like(xs[0])
        for x, m in zip(xs, full, strict=True):
            y = y * (x if m is None else np.where(m, x, 1))
        if all(m is not None for m in full):
            y = np.where(np.logical_or.reduce([m for m in full if m is not None]), y, 0)
        return y
    y, seen = xs[0], full[0]
    for x, m in zip(xs[1:], full[1:], strict=True):
        other = x if m is None else np.where(m, x, y)
        y = y if seen is None else np.where(seen, y, other)
        seen = seen | m if seen is not None and m is not None else None
        y = _FUNCTIONS[name](y, other)
    return y


def joined_mask(how: str | None, masks: Sequence[Array | None]) -> Array | None:
    """The mask of an elementwise result."""
    present = [np.asarray(m, bool) for m in masks if m is not None]
    if not present or (how == "any" and len(present) < len(masks)):
        return None
    return np.asarray((np.logical_or if how == "any" else np.logical_and).reduce(present))


# -- concatenation -----------------------------------------------------------------------------------------------------


@flow("concat")
def _concat_flow(f: Flow) -> Mapping[str, Value]:
    y = concat(f.values(), f.attributes["axis"])
    return {"y": y, "mask": f.source(y.shape and y.shape[:2], "mask", dtype="bool")}


@equations("concat")
def _concat_equations(terms: Terms) -> list[str]:
    return [f"y = concat({', '.join(terms.arg('x'))})"]


@computes("concat")
def _compute_concat(step: Step) -> dict[str, Array | None]:
    xs, masks = step.xs, step.args.get("mask")
    axis = step.attributes["axis"]
    y = np.concatenate(xs, axis=axis)
    if not isinstance(masks, tuple) or all(m is None for m in masks):
        return {"y": y}
    wide = []
    for x, m in zip(xs, masks, strict=True):
        if m is None:
            wide.append(np.ones(x.shape, bool))
        else:
            wide.append(np.broadcast_to(np.expand_dims(np.asarray(m, bool), -1), x.shape) if m.ndim < x.ndim else m)
    whole = np.concatenate(wide, axis=axis)
    joined = np.any if step.attributes.get("mask_rule") == "any" else np.all
    return {"y": y, "mask": np.asarray(joined(whole, axis=-1))}


# -- dot products ------------------------------------------------------------------------------------------------------


@flow("dot")
def _dot_flow(f: Flow) -> Mapping[str, Value]:
    a, b = f.values()
    if not a.shape or not b.shape:
        return {"y": f.source(None)}
    i, j = (x % v.rank for x, v in zip(f.attributes["axes"], (a, b), strict=True))
    shape = [n for v, own in ((a, i), (b, j)) for k, n in enumerate(v.shape or ()) if k not in (0, own)]
    kept = (1,) if f.attributes["keep"] else ()
    return {"y": f.source((*broadcast([a.shape[:1], b.shape[:1]]), *kept, *(shape or [1])))}


@computes("dot")
def _compute_dot(step: Step) -> Array:
    a, b = step.xs
    i, j = (k % v.ndim for k, v in zip(step.attributes["axes"], (a, b), strict=True))
    if step.attributes["normalize"] and not step.attributes["keep"]:
        a, b = (
            v / np.sqrt(np.maximum((v * v).sum(axis=k, keepdims=True), step.attributes["epsilon"]))
            for v, k in ((a, i), (b, j))
        )
    letters = "abcdefghijklmnopqrstuvw"
    left = ["z", *letters[: a.ndim - 1]]
    right = ["z", *letters[a.ndim - 1 : a.ndim + b.ndim - 2]]
    right[j] = left[i]
    out = [
        "z",
        *(c for k, c in enumerate(left) if k not in (0, i)),
        *(c for k, c in enumerate(right) if k not in (0, j)),
    ]
    text = f"{''.join(left)},{''.join(right)}->{''.join(out)}"
    y = np.einsum(text, a, b)
    if step.attributes["normalize"] and step.attributes["keep"]:
        below = np.sqrt(np.einsum(text, a, a) * np.einsum(text, b, b))  # as Keras 1 has it: of whole products
        y = y / np.maximum(below, step.attributes["epsilon"])
    y = y[:, None] if y.ndim == 1 else y
    return y[:, None] if step.attributes["keep"] else y
