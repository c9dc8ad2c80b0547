"""Steps around classic models: tables of labels, filled gaps, rows of norm one.

pick_features      columns of the last axis;  a single row becomes a matrix
binarizer          one above the threshold, else zero
vector_normalizer  rows over their largest magnitude (MAX), sum of magnitudes (L1) or root of squares (L2)
imputer            `replaced` elements (NaN among them) become `values`, one for each column or one for all
label_encoder      `keys` become `values`, everything else `default`
one_hot_labels     a new axis with one at the place of the element among `labels`
zip_map            probabilities, whose columns are named by `classes`
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport.features import Value
from wexport.layers.activation import unchanged
from wexport.layers.flows import opaque, typed
from wexport.layers.registry import NUMBER, NUMBERS, TEXT, Flow, computes, flow, kind
from wexport.layers.step import Step

Array = NDArray[Any]

kind("pick_features")
kind("binarizer", threshold=NUMBER)
kind("vector_normalizer", norm=TEXT)
kind("imputer", values=NUMBERS, replaced=NUMBER)
kind("label_encoder", keys=NUMBERS, values=NUMBERS, default={}, type=TEXT)
kind("one_hot_labels", labels=NUMBERS)
kind("zip_map", classes=NUMBERS)

opaque("pick_features")
opaque("one_hot_labels", y="float32")
typed("label_encoder")
flow("vector_normalizer", "imputer", "zip_map")(unchanged)


@flow("binarizer")
def _binarizer_flow(f: Flow) -> Mapping[str, Value]:
    return {"y": f.source(f.x.shape)}


@computes("pick_features")
def _compute_pick(step: Step) -> Array:
    y = step.x[..., np.asarray(step.args["indices"]).reshape(-1).astype(np.int64)]
    return y[None] if y.ndim == 1 else y


@computes("binarizer")
def _compute_binarizer(step: Step) -> Array:
    return (step.x > float(step.attributes["threshold"])).astype(step.x.dtype)


@computes("vector_normalizer")
def _compute_normalizer(step: Step) -> Array:
    x, norm = step.x, step.attributes["norm"]
    size = np.abs(x)
    below = size.max(1) if norm == "MAX" else size.sum(1) if norm == "L1" else np.sqrt((size * size).sum(1))
    return np.asarray(x / np.maximum(below, 1e-30)[:, None])


@computes("imputer")
def _compute_imputer(step: Step) -> Array:
    x, replaced = step.x, float(step.attributes["replaced"])
    hit = np.isnan(x) if np.isnan(replaced) else x == replaced
    return np.where(hit, np.asarray(step.attributes["values"]), x)


@computes("label_encoder")
def _compute_labels(step: Step) -> Array:
    a = step.attributes
    table = dict(zip(map(_key, a["keys"]), a["values"], strict=True))
    found = [table.get(_key(v), a["default"]) for v in np.asarray(step.x).reshape(-1).tolist()]
    dtype = np.str_ if a["type"] == "string" else np.float64 if "float" in a["type"] else np.dtype(a["type"])
    return np.asarray(found, dtype).reshape(np.shape(step.x))


def _key(value: Any) -> Any:
    """A label as a key: NaN equals itself."""
    return "nan" if isinstance(value, float) and value != value else value


@computes("one_hot_labels")
def _compute_one_hot(step: Step) -> Array:
    x = np.asarray(step.x)
    return (x[..., None] == np.asarray(step.attributes["labels"])).astype(np.float64)


@computes("zip_map")
def _compute_zip_map(step: Step) -> Array:
    return step.x
