"""Moves of elements with fixed settings, beyond those of `shape` and `ops`.

flatten_at      two axes: all before `axis` together, and all others
depth_to_space  channels (axis 1) that become blocks of positions: `DCR` takes the block from the channels' slower
                axes, `CRD` from the faster ones;  space_to_depth  the way back
spread          zeros, with values at indices, which count the elements or have a column for each axis
dropout         x, and the mask of what is kept: everything
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport.features import Value
from wexport.layers.flows import opaque
from wexport.layers.registry import INT, INTS, TEXT, Flow, computes, equations, flow, kind
from wexport.layers.step import Step, Terms

Array = NDArray[Any]

kind("flatten_at", moves=True, axis=INT)
kind("depth_to_space", "space_to_depth", block=INT, mode=TEXT)
kind("dropout", moves=True)
kind("spread", shape=INTS)

opaque("flatten_at", "depth_to_space", "space_to_depth")


@flow("spread")
def _spread_flow(f: Flow) -> Mapping[str, Value]:
    return {"y": f.source(f.attributes["shape"])}


@computes("spread")
def _compute_spread(step: Step) -> Array:
    values, indices = step.args["values"], np.asarray(step.args["indices"], np.int64)
    y = np.zeros(step.attributes["shape"], values.dtype)
    if indices.ndim == 1:
        y.reshape(-1)[indices] = values
    else:
        y[tuple(indices.T)] = values
    return y


@flow("dropout")
def _dropout_flow(f: Flow) -> Mapping[str, Value]:
    return {"y": f.x, "mask": f.source(f.x.shape, "mask", dtype="bool")}


@equations("dropout")
def _dropout_equations(terms: Terms) -> list[str]:
    return ["y = x"]


@computes("dropout")
def _compute_dropout(step: Step) -> dict[str, Array]:
    return {"y": step.x, "mask": np.ones(np.shape(step.x), bool)}


@computes("flatten_at")
def _compute_flatten(step: Step) -> Array:
    shape, axis = step.x.shape, step.attributes["axis"]
    place = axis + len(shape) if axis < 0 else axis
    return step.x.reshape(math.prod(shape[:place]), math.prod(shape[place:]))


@computes("depth_to_space")
def _compute_depth_to_space(step: Step) -> Array:
    x, b = step.x, step.attributes["block"]
    n, c, h, w = x.shape
    if step.attributes["mode"] == "DCR":
        split = x.reshape(n, b, b, c // (b * b), h, w).transpose(0, 3, 4, 1, 5, 2)
    else:
        split = x.reshape(n, c // (b * b), b, b, h, w).transpose(0, 1, 4, 2, 5, 3)
    return split.reshape(n, c // (b * b), h * b, w * b)


@computes("space_to_depth")
def _compute_space_to_depth(step: Step) -> Array:
    x, b = step.x, step.attributes["block"]
    n, c, h, w = x.shape
    split = x.reshape(n, c, h // b, b, w // b, b)
    order = (0, 3, 5, 1, 2, 4) if step.attributes["mode"] == "DCR" else (0, 1, 3, 5, 2, 4)
    return split.transpose(order).reshape(n, c * b * b, h // b, w // b)
