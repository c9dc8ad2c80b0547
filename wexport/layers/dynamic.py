"""Operations of `ops` whose settings are computed when the model runs: the setting is an argument.

    dynamic_reshape      shape; one -1 is worked out; `zero_copies`: 0 keeps x's length at that place
    dynamic_slice        starts, ends, axes, steps (the last two may be missing)
    dynamic_split        sizes along `axis`
    dynamic_tile         times;  dynamic_pad  pads (all before, then all after), value, axes
    dynamic_squeeze, dynamic_expand_dims, dynamic_reduce  axes

Also kinds of which a setting is an attribute where it is known, and else the argument of the same name:

    expand        x repeated to a shape that it is broadcast with
    fill          a value of a type, of a shape;  range  start, limit, delta
    eye_like      ones on the k-th diagonal;  triangle  the upper or lower one, from the k-th diagonal on
    shape, size   the lengths of x's axes, from `start` to `end`, and their product
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport.features import Value
from wexport.layers.flows import opaque, typed
from wexport.layers.merge import broadcast
from wexport.layers.ops import REDUCE
from wexport.layers.registry import ANY, BOOL, INT, INTS, TEXT, Flow, computes, flow, kind, optional
from wexport.layers.step import Step
from wexport.layers.totals import padded

Array = NDArray[Any]

kind("dynamic_reshape", moves=True, zero_copies=BOOL)
kind("dynamic_slice", "dynamic_squeeze", "dynamic_expand_dims", moves=True)
kind("dynamic_tile")
kind("dynamic_split", moves=True, axis=INT)
kind("dynamic_pad", mode=TEXT)
kind("dynamic_reduce", function=TEXT, keepdims=BOOL, empty_is_none=BOOL)
kind("expand", moves=True, maybe={"shape": INTS})
kind("fill", maybe={"shape": INTS}, value=ANY, type=TEXT)
kind("range", type=TEXT)
kind("eye_like", k=INT, type=TEXT)
kind("triangle", maybe={"k": INT}, upper=BOOL)
kind("shape", moves=True, start=INT, end=optional(INT))
kind("size")

opaque(
    "dynamic_reshape", "dynamic_slice", "dynamic_tile", "dynamic_squeeze", "dynamic_expand_dims", "dynamic_split",
    "dynamic_pad", "dynamic_reduce", "triangle",
)  # fmt: skip
opaque("shape", "size", y="int64")
typed("fill", "range", "eye_like")


def setting(step: Step, name: str) -> Any:
    """A setting: an attribute, or (computed) an argument."""
    return step.attributes[name] if name in step.attributes else step.args.get(name)


def whole(found: Any) -> list[int] | None:
    """A setting that is a list of whole numbers, or missing."""
    return None if found is None else [int(n) for n in np.asarray(found).reshape(-1)]


def given(found: Any) -> list[int]:
    """A setting that is a list of whole numbers."""
    return whole(found) or []


@computes("dynamic_reshape")
def _compute_reshape(step: Step) -> Array:
    x, shape = step.x, given(step.args["shape"])
    if step.attributes["zero_copies"]:
        shape = [x.shape[i] if n == 0 else n for i, n in enumerate(shape)]
    return x.reshape(shape)


@computes("dynamic_slice")
def _compute_slice(step: Step) -> Array:
    starts, ends = given(step.args["starts"]), given(step.args["ends"])
    axes = whole(step.args.get("axes")) or range(len(starts))
    steps = whole(step.args.get("steps")) or [1] * len(starts)
    index = [slice(None)] * step.x.ndim
    for axis, *item in zip(axes, starts, ends, steps, strict=True):
        index[axis] = slice(*item)
    return step.x[tuple(index)]


@computes("dynamic_split")
def _compute_split(step: Step) -> dict[str, Array]:
    edges = np.cumsum(given(step.args["sizes"]))[:-1]
    pieces = np.split(step.x, edges, axis=step.attributes["axis"])
    return {("y" if i == 0 else f"y_{i}"): p for i, p in enumerate(pieces)}


@computes("dynamic_tile")
def _compute_tile(step: Step) -> Array:
    return np.tile(step.x, given(step.args["times"]))


@computes("dynamic_pad")
def _compute_pad(step: Step) -> Array:
    x, flat, value = step.x, given(step.args["pads"]), step.args.get("value")
    axes = whole(step.args.get("axes"))
    pads = [[0, 0] for _ in range(x.ndim)]
    n = len(flat) // 2
    for i, axis in enumerate(range(n) if axes is None else axes):
        pads[axis] = [flat[i], flat[n + i]]
    return padded(x, pads, step.attributes["mode"], 0 if value is None else np.asarray(value).reshape(-1)[0])


@computes("dynamic_squeeze")
def _compute_squeeze(step: Step) -> Array:
    return np.squeeze(step.x, tuple(given(step.args["axes"])))


@computes("dynamic_expand_dims")
def _compute_expand_dims(step: Step) -> Array:
    return np.expand_dims(step.x, tuple(given(step.args["axes"])))


@computes("dynamic_reduce")
def _compute_reduce(step: Step) -> Array:
    a, axes = step.attributes, given(step.args["axes"])
    along = tuple(axes) if axes or a["empty_is_none"] else None
    return np.asarray(REDUCE[a["function"]](step.x, axis=along, keepdims=a["keepdims"]))


# -- settings that may be known ----------------------------------------------------------------------------------------


@flow("expand")
def _expand_flow(f: Flow) -> Mapping[str, Value]:
    target = f.attributes.get("shape")
    if target is None or f.x.shape is None:
        return {"y": f.source(None)}
    shape = broadcast([f.x.shape, tuple(target)])
    return {"y": f.x if shape == f.x.shape else f.source(shape)}


@computes("expand")
def _compute_expand(step: Step) -> Array:
    shape = np.broadcast_shapes(step.x.shape, tuple(given(setting(step, "shape"))))
    return np.broadcast_to(step.x, shape)


@computes("fill")
def _compute_fill(step: Step) -> Array:
    a = step.attributes
    value = float(a["value"]) if isinstance(a["value"], str) else a["value"]
    return np.full(given(setting(step, "shape")), value, np.float64 if "float" in a["type"] else a["type"])


@computes("range")
def _compute_range(step: Step) -> Array:
    start, limit, delta = (np.asarray(step.args[k]).reshape(-1)[0] for k in ("start", "limit", "delta"))
    count = max(int(np.ceil((limit - start) / delta)), 0)
    return np.asarray(start + np.arange(count) * delta)


@computes("eye_like")
def _compute_eye(step: Step) -> Array:
    a = step.attributes
    rows, columns = step.x.shape
    return np.eye(rows, columns, k=a["k"], dtype=np.float64 if "float" in a["type"] else a["type"])


@computes("triangle")
def _compute_triangle(step: Step) -> Array:
    k = setting(step, "k")
    offset = 0 if k is None else int(np.asarray(k).reshape(-1)[0])
    return (np.triu if step.attributes["upper"] else np.tril)(step.x, offset)


@computes("shape")
def _compute_shape(step: Step) -> Array:
    x = np.asarray(step.x)
    return np.asarray(x.shape[step.attributes["start"] : step.attributes["end"]], np.int64)


@computes("size")
def _compute_size(step: Step) -> Array:
    return np.asarray(np.asarray(step.x).size, np.int64)
