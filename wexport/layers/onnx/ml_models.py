"""Operators of ai.onnx.ml that are models: their weights are attributes, lists of numbers in a row.

    LinearRegressor, LinearClassifier  coefficients "(out in)", intercepts "out"
    SVMRegressor, SVMClassifier        support_vectors "(vector feature)", coefficients "(row vector)" or, without
                                       support vectors, "(class feature)"; rho, prob_a, prob_b "pair"
    TreeEnsemble...                    nodes_... "node", class_... and target_... "leaf", base_values "target"
    Scaler                             offset, scale "feature"

All but the linear ones' tensors are called what ONNX calls them (a list and its `_as_tensor` form alike). Labels and
the words for modes are attributes of the layer.
Source: onnx/docs/Operators-ml.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from wexport.layers.onnx import Lowered, Node, Operand, Own, UnclearError, holds, onnx
from wexport.layers.onnx.ml import ML
from wexport.layout import Rule
from wexport.model import Json

_NODES = (
    "falsenodeids", "featureids", "hitrates", "hitrates_as_tensor", "missing_value_tracks_true", "nodeids", "treeids",
    "truenodeids", "values", "values_as_tensor",
)  # fmt: skip
_TREE = (*(f"nodes_{n}" for n in _NODES), "base_values", "base_values_as_tensor")
_LEAVES = ("ids", "nodeids", "treeids", "weights", "weights_as_tensor")
_SVM = ("coefficients", "kernel_params", "rho", "support_vectors")
_NEW = (
    "nodes_splits", "nodes_featureids", "nodes_modes", "nodes_truenodeids", "nodes_falsenodeids", "nodes_trueleafs",
    "nodes_falseleafs", "nodes_hitrates", "nodes_missing_value_tracks_true", "leaf_targetids", "leaf_weights",
    "tree_roots", "membership_values",
)  # fmt: skip
for _operator, _names in {
    "LinearRegressor": ("coefficients", "intercepts"),
    "LinearClassifier": ("coefficients", "intercepts"),
    "SVMRegressor": _SVM,
    "SVMClassifier": (*_SVM, "prob_a", "prob_b", "vectors_per_class"),
    "TreeEnsembleClassifier": (*_TREE, *(f"class_{n}" for n in _LEAVES)),
    "TreeEnsembleRegressor": (*_TREE, *(f"target_{n}" for n in _LEAVES)),
    "TreeEnsemble": _NEW,
    "Scaler": ("offset", "scale"),
}.items():
    holds(ML, _operator, *_names)

# what the numbers of TreeEnsemble (version 5) mean
_TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")
_AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")


def _held(node: Node, name: str) -> Operand | None:
    """An attribute that is an array of weights, if it has any elements."""
    found = node.get(name)
    return found if isinstance(found, Operand) and found.shape != (0,) else None


def _whole(node: Node, names: Sequence[str], axis: str) -> list[Own]:
    """Attributes that are one tensor each, along an axis."""
    found = [(name, _held(node, name)) for name in names]
    return [_row(o, name.removesuffix("_as_tensor"), axis) for name, o in found if o is not None]


def _row(operand: Operand, role: str, axis: str) -> Own:
    return Own(operand, role, Rule.parse(f"{axis} -> {role}: {axis}"))


def _table(operand: Operand, role: str, rows: str, columns: str, n: int) -> Own:
    """An array of n rows, one behind the other."""
    count = (operand.shape or (0,))[0] or 0
    if n < 1 or count % n:
        raise UnclearError(f"its {role} are {count} numbers, expected a multiple of {n}")
    return Own(operand, role, Rule(f"({rows} {columns})", f"{role}: {rows} {columns}", sizes={rows: n}))


def _classes(node: Node) -> Json:
    """The labels: whole numbers or strings."""
    return list(next((v for k in ("ints", "int64s", "strings") if (v := node.get(f"classlabels_{k}"))), ()))


def _transform(node: Node) -> str:
    word = node.get("post_transform", "NONE")
    return word if isinstance(word, str) else _TRANSFORMS[word]


# -- linear ------------------------------------------------------------------------------------------------------------


def _linear(node: Node, out: int) -> tuple[Own, ...]:
    kernel, bias = _held(node, "coefficients"), _held(node, "intercepts")
    count = 0 if kernel is None else (kernel.shape or (0,))[0] or 0
    if kernel is None or out < 1 or count % out:
        raise UnclearError(f"{node.op}: {count} coefficients for {out} outputs")
    own = Own(kernel, "kernel", Rule("(out in)", "kernel: in out", sizes={"out": out}), splits=True)
    return (own,) if bias is None else (own, _row(bias, "bias", "out"))


@onnx("LinearRegressor", domain=ML)
def _linear_regressor(node: Node) -> Lowered:
    targets = int(node.get("targets", 1))
    attributes = {"units": targets, "post_transform": _transform(node)}
    return Lowered("linear_regressor", attributes, {"x": node.need(0)}, _linear(node, targets))


@onnx("LinearClassifier", domain=ML)
def _linear_classifier(node: Node) -> Lowered:
    x, bias, kernel = node.need(0), _held(node, "intercepts"), _held(node, "coefficients")
    features = x.shape[-1] if x.shape else None
    if bias is not None:
        rows = (bias.shape or (0,))[0] or 0
    elif features and kernel is not None:
        rows = ((kernel.shape or (0,))[0] or 0) // features
    else:
        raise UnclearError("LinearClassifier: nothing says how many rows of coefficients it has")
    attributes = {"units": rows, "classes": _classes(node), "post_transform": _transform(node)}
    return Lowered("linear_classifier", attributes, {"x": x}, _linear(node, rows), ("labels", "scores"))


# -- support vectors ---------------------------------------------------------------------------------------------------


def _machine(node: Node, vectors: int, classes: int) -> list[Own]:
    """The tensors of a support vector machine; without support vectors it is linear."""
    coefficients, support = _held(node, "coefficients"), _held(node, "support_vectors")
    if coefficients is None:
        raise UnclearError(f"{node.op} without coefficients")
    if vectors and support is not None:
        count = (coefficients.shape or (0,))[0] or 0
        found = [_table(support, "support_vectors", "vector", "feature", vectors)]
        found.append(_table(coefficients, "coefficients", "row", "vector", count // vectors))
    else:
        found = [_table(coefficients, "coefficients", "class", "feature", classes)]
    return [*found, *_whole(node, ("rho", "prob_a", "prob_b"), "pair"), *_whole(node, ("kernel_params",), "parameter")]


def _kernel(node: Node) -> dict[str, Json]:
    return {
        "kernel_type": node.word("kernel_type", "LINEAR", "POLY", "RBF", "SIGMOID"),
        "post_transform": _transform(node),
    }


@onnx("SVMRegressor", domain=ML)
def _svm_regressor(node: Node) -> Lowered:
    attributes = {**_kernel(node), "one_class": bool(node.get("one_class", 0))}
    own = _machine(node, int(node.get("n_supports", 0)), 1)
    return Lowered("svm_regressor", attributes, {"x": node.need(0)}, tuple(own))


@onnx("SVMClassifier", domain=ML)
def _svm_classifier(node: Node) -> Lowered:
    classes, counts = _classes(node), _held(node, "vectors_per_class")
    if counts is not None and counts.known is None:
        raise UnclearError("SVMClassifier: it has too many classes")
    vectors = 0 if counts is None or counts.known is None else int(counts.known.sum())
    own = [*_machine(node, vectors, max(len(classes), 1)), *_whole(node, ("vectors_per_class",), "class")]
    attributes = {**_kernel(node), "classes": classes}
    return Lowered("svm_classifier", attributes, {"x": node.need(0)}, tuple(own), ("labels", "scores"))


# -- trees -------------------------------------------------------------------------------------------------------------


def _forest(node: Node, leaf: str) -> tuple[dict[str, Json], tuple[Own, ...]]:
    nodes = _whole(node, _TREE[:-2], "node")
    leaves = _whole(node, tuple(f"{leaf}_{n}" for n in _LEAVES), "leaf")
    base = _whole(node, _TREE[-2:], leaf)
    attributes = {"nodes_modes": list(node.get("nodes_modes") or ()), "post_transform": _transform(node)}
    return attributes, (*nodes, *leaves, *base)


@onnx("TreeEnsembleClassifier", domain=ML)
def _tree_classifier(node: Node) -> Lowered:
    attributes, own = _forest(node, "class")
    attributes["classes"] = _classes(node)
    return Lowered("tree_ensemble_classifier", attributes, {"x": node.need(0)}, own, ("labels", "scores"))


@onnx("TreeEnsembleRegressor", domain=ML)
def _tree_regressor(node: Node) -> Lowered:
    attributes, own = _forest(node, "target")
    attributes |= {
        "targets": int(node.get("n_targets", 1)),
        "aggregate": node.word("aggregate_function", "SUM", "AVERAGE", "MIN", "MAX"),
    }
    return Lowered("tree_ensemble_regressor", attributes, {"x": node.need(0)}, own)


@onnx("TreeEnsemble", domain=ML)
def _tree_ensemble(node: Node) -> Lowered:
    axes = {"leaf": "leaf", "tree": "tree", "membership": "member"}
    own: list[Own] = []
    for name in _NEW:
        own += _whole(node, (name,), axes.get(name.partition("_")[0], "node"))
    attributes: dict[str, Any] = {"targets": int(node.get("n_targets", 1)), "post_transform": _transform(node)}
    attributes["aggregate"] = _AGGREGATES[int(node.get("aggregate_function", 1))]
    return Lowered("tree_ensemble", attributes, {"x": node.need(0)}, tuple(own))


# -- features ----------------------------------------------------------------------------------------------------------


@onnx("Scaler", domain=ML)
def _scaler(node: Node) -> Lowered:
    return Lowered("scaler", {}, {"x": node.need(0)}, tuple(_whole(node, ("offset", "scale"), "feature")))


@onnx("FeatureVectorizer", domain=ML)
def _vectorizer(node: Node) -> Lowered:
    sizes = node.ints("inputdimensions") or []
    return Lowered("feature_vectorizer", {"sizes": sizes}, {"x": tuple(node.need(i) for i in range(len(node.inputs)))})
