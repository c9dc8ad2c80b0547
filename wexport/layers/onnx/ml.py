"""Operators of ai.onnx.ml that have no weights: labels, norms, gaps.

CategoryMapper is a LabelEncoder between whole numbers and strings. ZipMap makes dictionaries of probabilities; here
they stay a matrix, and the classes are an attribute.
Source: onnx/docs/Operators-ml.md.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from wexport.layers.onnx import Lowered, Node, UnclearError, onnx
from wexport.layers.onnx.elementwise import TYPES
from wexport.model import Json

ML = "ai.onnx.ml"


def _listed(node: Node, *names: str) -> tuple[list[Json], str] | None:
    """The first of these attributes that is there, and in which type it is given."""
    for name in names:
        found: Any = node.get(name)
        if found is not None and np.size(found):
            given = found.dtype.name if isinstance(found, np.ndarray) else ""
            word = "string" if "string" in name else "float32" if "float" in name else "int64"
            known = given if given in TYPES.values() else word if not given else "string"
            return np.asarray(found).reshape(-1).tolist(), known
    return None


@onnx("ArrayFeatureExtractor", domain=ML)
def _pick(node: Node) -> Lowered:
    return Lowered("pick_features", {}, {"x": node.need(0), "indices": node.need(1)})


@onnx("Binarizer", domain=ML)
def _binarizer(node: Node) -> Lowered:
    return Lowered("binarizer", {"threshold": float(node.get("threshold", 0.0))}, {"x": node.need(0)})


@onnx("Normalizer", domain=ML)
def _normalizer(node: Node) -> Lowered:
    return Lowered("vector_normalizer", {"norm": node.word("norm", "MAX", "L1", "L2")}, {"x": node.need(0)})


@onnx("Imputer", domain=ML)
def _imputer(node: Node) -> Lowered:
    found = _listed(node, "imputed_value_floats", "imputed_value_int64s")
    if found is None:
        raise UnclearError("Imputer without values")
    name = "replaced_value_float" if found[1] == "float32" else "replaced_value_int64"
    return Lowered("imputer", {"values": found[0], "replaced": node.get(name, 0)}, {"x": node.need(0)})


@onnx("LabelEncoder", domain=ML)
def _labels(node: Node) -> Lowered:
    words = ("strings", "int64s", "floats", "tensor")
    keys = _listed(node, *(f"keys_{w}" for w in words))
    values = _listed(node, *(f"values_{w}" for w in words))
    if keys is None and node.get("classes_strings") is not None:  # version 1: a string's place, or the string there
        names = list(node.get("classes_strings"))
        return _classes(node, names, list(range(len(names))))
    if keys is None or values is None:
        raise UnclearError("LabelEncoder without keys or values")
    fallback = {"string": "_Unused", "float32": -0.0, "int64": -1}.get(values[1], 0)
    name = {"string": "default_string", "float32": "default_float", "int64": "default_int64"}.get(values[1], "")
    default = node.get("default_tensor")
    default = node.get(name, fallback) if default is None else np.asarray(default).reshape(-1)[0].item()
    attributes = {"keys": keys[0], "values": values[0], "default": default, "type": values[1]}
    return Lowered("label_encoder", attributes, {"x": node.need(0)})


@onnx("CategoryMapper", domain=ML)
def _categories(node: Node) -> Lowered:
    return _classes(node, list(node.get("cats_strings", ())), list(node.get("cats_int64s", ())))


def _classes(node: Node, names: list[str], numbers: list[int]) -> Lowered:
    """Strings to numbers or back, by the operand's type."""
    kind = node.need(0).dtype
    if kind is None:
        raise UnclearError(f"{node.op} of an operand whose type is not known")
    back = kind != "string"
    attributes = {
        "keys": numbers if back else names,
        "values": names if back else numbers,
        "default": node.get("default_string", "_Unused") if back else node.get("default_int64", -1),
        "type": "string" if back else "int64",
    }
    return Lowered("label_encoder", attributes, {"x": node.need(0)})


@onnx("OneHotEncoder", domain=ML)
def _one_hot(node: Node) -> Lowered:
    found = _listed(node, "cats_int64s", "cats_strings")
    if found is None:
        raise UnclearError("OneHotEncoder without categories")
    return Lowered("one_hot_labels", {"labels": found[0]}, {"x": node.need(0)})


@onnx("ZipMap", domain=ML)
def _zip_map(node: Node) -> Lowered:
    found = _listed(node, "classlabels_int64s", "classlabels_strings")
    return Lowered("zip_map", {"classes": [] if found is None else found[0]}, {"x": node.need(0)})
