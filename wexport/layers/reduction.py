"""What runs along axes: the largest elements, running products, normalizations without weights.

top_k               the k largest (or smallest) elements along an axis, in order, and where they stood;
                    `k` is an attribute, or an argument where it is computed
cumulative_product  as `cumulative_sum`
lp_normalize        x over its p-norm along an axis; zero where that is zero
mean_variance_norm  (x - mean) / (standard deviation + 1e-9) over axes
determinant         of the last two axes' matrices;  inverse  of each of them
distances           of every row of x from every row of another matrix, `squared` or not
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport.layers.activation import unchanged
from wexport.layers.dynamic import setting
from wexport.layers.flows import opaque
from wexport.layers.registry import BOOL, INT, INTS, NUMBER, computes, flow, kind
from wexport.layers.step import Step
from wexport.layers.totals import cumulated

Array = NDArray[Any]

kind("top_k", maybe={"k": INT}, axis=INT, largest=BOOL)
kind("cumulative_product", axis=INT, exclusive=BOOL, reverse=BOOL)
kind("lp_normalize", axis=INT, p=INT)
kind("mean_variance_norm", axes=INTS, epsilon=NUMBER)
kind("determinant", "inverse")
kind("distances", squared=BOOL)

opaque("top_k", indices="int64")
opaque("determinant", "inverse", "distances")
flow("cumulative_product", "lp_normalize", "mean_variance_norm")(unchanged)


@computes("top_k")
def _compute_top_k(step: Step) -> dict[str, Array]:
    a, x = step.attributes, step.x
    k = int(np.asarray(setting(step, "k")).reshape(-1)[0])
    if a["largest"]:  # ties: the first one counts, so the order is turned, not the sign
        backwards = np.argsort(np.flip(x, a["axis"]), axis=a["axis"], kind="stable")
        order = x.shape[a["axis"]] - 1 - np.flip(backwards, a["axis"])
    else:
        order = np.argsort(x, axis=a["axis"], kind="stable")
    indices = np.take(order, range(k), a["axis"])
    return {"y": np.take_along_axis(x, indices, a["axis"]), "indices": indices}


@computes("cumulative_product")
def _compute_product(step: Step) -> Array:
    return cumulated(np.cumprod, step.x, step.attributes)


@computes("lp_normalize")
def _compute_lp(step: Step) -> Array:
    x, p = step.x, step.attributes["p"]
    norm = (np.abs(x) ** p).sum(axis=step.attributes["axis"], keepdims=True) ** (1 / p)
    return np.asarray(x / np.where(norm == 0, 1, norm))


@computes("mean_variance_norm")
def _compute_mvn(step: Step) -> Array:
    axes = tuple(step.attributes["axes"])
    mean, deviation = step.x.mean(axis=axes, keepdims=True), step.x.std(axis=axes, keepdims=True)
    return np.asarray((step.x - mean) / (deviation + step.attributes["epsilon"]))


@computes("determinant")
def _compute_determinant(step: Step) -> Array:
    return np.asarray(np.linalg.det(step.x))


@computes("inverse")
def _compute_inverse(step: Step) -> Array:
    return np.asarray(np.linalg.inv(step.x))


@computes("distances")
def _compute_distances(step: Step) -> Array:
    apart = step.x[:, None] - np.asarray(step.args["other"])[None]
    squared = (apart * apart).sum(axis=-1)
    return np.asarray(squared if step.attributes["squared"] else np.sqrt(squared))
