"""Elements taken or put by positions that are computed; positions below zero count from the end.

    gather_elements, scatter_elements   a position along `axis` for every element
    gather_nd, scatter_nd               the last axis of `indices` is a position in x; `batch_dims` axes go along
    one_hot_values                      values [off, on] at `depth` positions of a new axis
    compress                            what `condition` says, along an axis or of all elements in a row (axis null)
    nonzero                             the positions of what is not zero: an axis, a row
    unique                              different elements (or slices along an axis), sorted or by their first places
    reverse_sequence                    the first `lengths` steps of every sequence turned around
    non_max_suppression                 boxes by falling scores, without those that overlap a better one

`reduction` says what becomes of what stood there: none, add, mul, max or min.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport.features import Value
from wexport.layers.flows import opaque
from wexport.layers.registry import BOOL, INT, TEXT, Flow, computes, flow, kind, optional
from wexport.layers.step import Step

Array = NDArray[Any]

kind("gather_elements", axis=INT)
kind("scatter_elements", axis=INT, reduction=TEXT)
kind("gather_nd", batch_dims=INT)
kind("scatter_nd", reduction=TEXT)
kind("one_hot_values", axis=INT)
kind("compress", axis=optional(INT))
kind("nonzero")
kind("unique", axis=optional(INT), sorted=BOOL)
kind("reverse_sequence", time_axis=INT, batch_axis=INT)
kind("non_max_suppression", centered=BOOL)

opaque("gather_elements", "gather_nd", "one_hot_values", "compress")
opaque("nonzero", "non_max_suppression", y="int64")
opaque("unique", indices="int64", inverse="int64", counts="int64")


@flow("scatter_elements", "scatter_nd")
def _scatter_flow(f: Flow) -> Mapping[str, Value]:
    return {"y": f.source(f.x.shape)}


@flow("reverse_sequence")
def _reverse_flow(f: Flow) -> Mapping[str, Value]:
    return {"y": f.x.untraced()}


_PUT: dict[str, Callable[..., Any]] = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}


def _indices(step: Step, name: str = "indices") -> Array:
    return np.asarray(step.args[name]).astype(np.int64)


def _put(x: Array, place: tuple[Array, ...], values: Array, reduction: str) -> Array:
    y = np.array(x)
    if reduction == "none":
        y[place] = values
    else:
        _PUT[reduction].at(y, place, values)  # type: ignore[attr-defined]
    return y


@computes("gather_elements")
def _compute_gather_elements(step: Step) -> Array:
    x, axis = step.x, step.attributes["axis"]
    indices = _indices(step)
    return x[_along(indices, indices % x.shape[axis], axis)]


def _along(shape_of: Array, positions: Array, axis: int) -> tuple[Array, ...]:
    place: list[Array] = list(np.indices(shape_of.shape, sparse=True))
    place[axis] = positions
    return tuple(place)


@computes("scatter_elements")
def _compute_scatter_elements(step: Step) -> Array:
    x, axis = np.asarray(step.x), step.attributes["axis"]
    indices = _indices(step)
    place = _along(indices, indices % x.shape[axis], axis)
    place = tuple(np.broadcast_to(p, indices.shape) for p in place)
    return _put(x, place, np.asarray(step.args["updates"]), step.attributes["reduction"])


@computes("gather_nd")
def _compute_gather_nd(step: Step) -> Array:
    x, b = step.x, step.attributes["batch_dims"]
    indices = _indices(step)
    along: Sequence[Array] = np.indices(indices.shape[:b], sparse=True) if b else ()
    batch = [i.reshape(i.shape + (1,) * (indices.ndim - 1 - b)) for i in along]
    return x[(*batch, *np.moveaxis(indices, -1, 0))]


@computes("scatter_nd")
def _compute_scatter_nd(step: Step) -> Array:
    place = tuple(np.moveaxis(_indices(step), -1, 0))
    return _put(step.x, place, np.asarray(step.args["updates"]), step.attributes["reduction"])


@computes("one_hot_values")
def _compute_one_hot(step: Step) -> Array:
    depth = int(np.asarray(step.args["depth"]).reshape(-1)[0])
    off, on = np.asarray(step.args["values"]).reshape(-1)
    x = np.asarray(step.x)
    hit = (np.where(x < 0, x + depth, x))[..., None] == np.arange(depth)
    return np.moveaxis(np.where(hit, on, off), -1, step.attributes["axis"])


@computes("compress")
def _compute_compress(step: Step) -> Array:
    return np.compress(np.asarray(step.args["condition"], bool), step.x, axis=step.attributes["axis"])


@computes("nonzero")
def _compute_nonzero(step: Step) -> Array:
    x = np.asarray(step.x)
    return np.asarray(np.nonzero(np.atleast_1d(x)), np.int64) if x.ndim else np.zeros((0, int(bool(x))), np.int64)


@computes("unique")
def _compute_unique(step: Step) -> dict[str, Array]:
    axis = step.attributes["axis"]
    y, first, inverse, counts = np.unique(step.x, True, True, True, axis=axis)
    inverse = inverse.reshape(-1)
    if not step.attributes["sorted"]:
        order = np.argsort(first, kind="stable")
        y, first, counts = np.take(y, order, axis or 0), first[order], counts[order]
        inverse = np.argsort(order)[inverse]
    return {"y": y, "indices": first, "inverse": inverse, "counts": counts}


@computes("reverse_sequence")
def _compute_reverse(step: Step) -> Array:
    a = step.attributes
    x = np.moveaxis(step.x, (a["batch_axis"], a["time_axis"]), (0, 1))
    y = np.array(x)
    for i, n in enumerate(_indices(step, "lengths")):
        y[i, :n] = x[i, :n][::-1]
    return np.moveaxis(y, (0, 1), (a["batch_axis"], a["time_axis"]))


# -- boxes -------------------------------------------------------------------------------------------------------------


@computes("non_max_suppression")
def _compute_suppression(step: Step) -> Array:
    boxes, scores = step.x, np.asarray(step.args["scores"])
    most = int(_number(step, "max_per_class", 0))
    overlap, least = _number(step, "overlap", 0), _number(step, "threshold", None)
    corners = _corners(boxes, step.attributes["centered"])
    found = []
    for b, c in itertools.product(range(scores.shape[0]), range(scores.shape[1])):
        order = np.argsort(-scores[b, c], kind="stable")
        if least is not None:
            order = order[scores[b, c][order] > least]
        found += [(b, c, i) for i in _kept(corners[b], order, overlap, most)]
    return np.asarray(found, np.int64).reshape(-1, 3)


def _number(step: Step, name: str, default: Any) -> Any:
    found = step.args.get(name)
    return default if found is None else np.asarray(found).reshape(-1)[0]


def _corners(boxes: Array, centered: bool) -> Array:
    """Boxes as [y1, x1, y2, x2] with the lower corner first."""
    if centered:
        x, y, w, h = np.moveaxis(boxes, -1, 0)
        return np.stack([y - h / 2, x - w / 2, y + h / 2, x + w / 2], -1)
    a, b = boxes[..., :2], boxes[..., 2:]
    return np.concatenate([np.minimum(a, b), np.maximum(a, b)], -1)


def _kept(boxes: Array, order: Array, overlap: float, most: int) -> list[int]:
    kept: list[int] = []
    for i in order:
        if len(kept) >= most:
            break
        if all(_shared(boxes[i], boxes[j]) <= overlap for j in kept):
            kept.append(int(i))
    return kept


def _shared(a: Array, b: Array) -> float:
    """The intersection of two boxes over their union."""
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    common = float(np.prod(np.maximum(sides, 0)))
    union = float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2])) - common
    return common / union if union > 0 else 0.0
