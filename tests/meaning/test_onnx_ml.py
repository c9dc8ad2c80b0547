"""Models of ai.onnx.ml: their numbers are tensors, and what they compute is what onnxruntime computes."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx_files import assert_close, computed, exported, f, model, runtime, typed

from wexport.layers.onnx import (
    ATTRIBUTES,
    rooms,  # noqa: F401 - signs them in
)

Array = np.ndarray[Any, Any]
ML = "ai.onnx.ml"
_REFERENCE = re.compile(r"`([^`]+)`")
STRINGS = {"classlabels_strings": ["a", "b", "c"]}


def _model(op: str, x: Array, version: int = 3, **attributes: Any) -> onnx.ModelProto:
    outputs = ["labels", "scores"] if "Classifier" in op else ["y"]
    node = helper.make_node(op, ["x"], outputs, name="it", domain=ML, **attributes)
    labels = TensorProto.STRING if "classlabels_strings" in attributes else TensorProto.INT64
    made = typed(model([node], {"x": x}, outputs, opsets={"": 17, ML: version}), labels=labels)
    if op == "TreeEnsemble" and x.dtype == np.float64:
        typed(made, y=TensorProto.DOUBLE)
    return made


def numbers(values: Array) -> list[float]:
    return [float(v) for v in np.asarray(values).reshape(-1)]


def _linear(classes: int, rows: int, **extra: Any) -> dict[str, Any]:
    names = extra.pop("names", {"classlabels_ints": list(range(3, 3 + classes))})
    return {"coefficients": numbers(f(rows, 4, scale=0.5)), "intercepts": numbers(f(rows, seed=1)), **names, **extra}


def _svm(classes: int, kernel: str, probable: bool = False, **extra: Any) -> dict[str, Any]:
    pairs = classes * (classes - 1) // 2
    found = {
        "coefficients": numbers(f(classes - 1, 3 * classes, seed=1)), "kernel_params": [0.3, 0.2, 3.0],
        "kernel_type": kernel, "rho": numbers(f(pairs, seed=2)), "support_vectors": numbers(f(3 * classes, 4, seed=3)),
        "vectors_per_class": [3] * classes, "classlabels_ints": list(range(classes)), **extra,
    }  # fmt: skip
    if probable:
        found |= {"prob_a": numbers(-np.abs(f(pairs, seed=4))), "prob_b": numbers(f(pairs, seed=5))}
    return found


def forest(mode: str = "BRANCH_LEQ") -> dict[str, Any]:
    """Two trees: a root, a node on its false side, three leaves; and a root with two leaves. Ids are not in order."""
    return {
        "nodes_treeids": [0, 0, 0, 0, 0, 7, 7, 7],
        "nodes_nodeids": [4, 1, 2, 3, 0, 0, 1, 2],
        "nodes_featureids": [1, 0, 2, 0, 0, 3, 0, 0],
        "nodes_modes": [mode, "LEAF", mode, "LEAF", "LEAF", mode, "LEAF", "LEAF"],
        "nodes_values": [0.25, 0.0, -0.5, 0.0, 0.0, 0.5, 0.0, 0.0],
        "nodes_truenodeids": [1, 0, 3, 0, 0, 1, 0, 0],
        "nodes_falsenodeids": [2, 0, 0, 0, 0, 2, 0, 0],
        "nodes_missing_value_tracks_true": [1, 0, 0, 0, 0, 0, 0, 0],
        "nodes_hitrates": [1.0] * 8,
    }


def leaves(word: str, ids: list[int], weights: list[float]) -> dict[str, Any]:
    return {
        f"{word}_treeids": [0, 0, 0, 7, 7], f"{word}_nodeids": [1, 3, 0, 1, 2], f"{word}_ids": ids,
        f"{word}_weights": weights,
    }  # fmt: skip


MIXED, POSITIVE = [0.3, -0.6, 0.9, 0.2, -0.4], [0.1, 0.4, 0.3, 0.2, 0.5]
TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")
ROWS: list[tuple[str, dict[str, Any]]] = [
    *(("LinearClassifier", _linear(3, 3, post_transform=t)) for t in TRANSFORMS[:4]),
    ("LinearClassifier", _linear(2, 1, post_transform="LOGISTIC")),
    ("LinearClassifier", _linear(3, 3, names=STRINGS)),
    ("LinearRegressor", {"coefficients": numbers(f(2, 4)), "intercepts": [0.5, -1.0], "targets": 2}),
    ("LinearRegressor", {"coefficients": numbers(f(4)), "intercepts": [2.0]}),
    *(("SVMClassifier", _svm(n, k)) for n in (2, 3) for k in ("RBF", "POLY", "SIGMOID", "LINEAR")),
    *(("SVMClassifier", _svm(n, "RBF", probable=True)) for n in (2, 3, 4)),
    ("SVMClassifier", {"coefficients": numbers(f(3, 4)), "rho": [0.1, 0.1, 0.1], "kernel_type": "LINEAR",
                       "kernel_params": [0.0, 0.0, 0.0], **STRINGS}),
    *(
        ("SVMClassifier", {"coefficients": numbers(c), "rho": [r], "kernel_type": "LINEAR",
                           "kernel_params": [0.0, 0.0, 0.0], "classlabels_ints": list(range(4, 4 + len(c)))})
        for c in (f(1, 4), f(2, 4), np.abs(f(2, 4)) / 4, f(3, 4)) for r in (-1.0, 0.2)
    ),
    *(
        ("SVMRegressor", {"coefficients": numbers(f(3)), "kernel_params": [0.3, 0.2, 2.0], "kernel_type": k,
                          "n_supports": 3, "rho": [0.4], "support_vectors": numbers(f(3, 4, seed=2)), "one_class": one})
        for k, one in (("RBF", 0), ("POLY", 0), ("SIGMOID", 1))
    ),
    ("SVMRegressor", {"coefficients": numbers(f(4)), "rho": [0.4], "kernel_type": "LINEAR",
                      "kernel_params": [0.0, 0.0, 0.0]}),
    *(("TreeEnsembleRegressor", {**forest(m), **leaves("target", [0, 1, 0, 1, 0], MIXED), "n_targets": 2})
      for m in ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")),
    *(("TreeEnsembleRegressor", {**forest(), **leaves("target", [0] * 5, MIXED), "n_targets": 1,
                                 "aggregate_function": a, "base_values": [0.7]}) for a in ("AVERAGE", "MIN", "MAX")),
    *(("TreeEnsembleClassifier", {**forest(), **leaves("class", [0, 1, 2, 1, 0], POSITIVE), **STRINGS,
                                  "post_transform": t}) for t in TRANSFORMS[:4]),
    ("TreeEnsembleClassifier", {**forest(), **leaves("class", [0, 1, 2, 1, 0], MIXED), "base_values": [0.1, 0.2, 0.3],
                                "classlabels_int64s": [5, 6, 7]}),
    *(("TreeEnsembleClassifier", {**forest(), **leaves("class", [n] * 5, w), "classlabels_int64s": [0, 1],
                                  "post_transform": t})
      for n in (0, 1) for w in (POSITIVE, MIXED) for t in ("NONE", "LOGISTIC", "SOFTMAX")),
    ("Scaler", {"offset": numbers(f(4)), "scale": numbers(f(4, seed=1))}),
    ("Scaler", {"offset": [0.5], "scale": [2.0]}),
]  # fmt: skip


# onnxruntime gives no class of the model, or no probabilities
BY_REFERENCE: list[tuple[str, dict[str, Any]]] = [
    *(("LinearClassifier", _linear(2, 1, post_transform=t)) for t in ("SOFTMAX", "SOFTMAX_ZERO")),
    ("TreeEnsembleClassifier", {**forest(), **leaves("class", [0, 1, 0, 1, 0], POSITIVE),
                                "classlabels_int64s": [4, 9]}),
]  # fmt: skip


def _id(value: Any) -> str:
    if isinstance(value, str):
        return value
    words = ("post_transform", "kernel_type", "aggregate_function", "nodes_modes")
    return "-".join(str(value[w][0] if w == "nodes_modes" else value[w]) for w in words if w in value) or "plain"


@pytest.mark.parametrize(("op", "attributes"), [*ROWS, *BY_REFERENCE], ids=_id)
def test_operators(op: str, attributes: dict[str, Any], tmp_path: Path) -> None:
    x = f(12, 4, seed=9)
    x[:2, 1:] = [[0.25, -0.5, 0.5], [0.25, 0.3, 0.5]]  # where a threshold is met
    proto = _model(op, x, **attributes)
    with exported(proto, tmp_path) as bundle:
        by_reference = (op, attributes) in BY_REFERENCE
        wanted = ReferenceEvaluator(proto).run(None, {"x": x}) if by_reference else runtime(proto, {"x": x})
        assert_close(computed(bundle, [x]), wanted)
        stored = {n for n, v in attributes.items() if "classlabels" not in n and isinstance(v, list)} - {"nodes_modes"}
        assert {w.removeprefix("it.") for w in bundle.manifest["weights"]} == stored
        lines = bundle.manifest["equations"]["it"]
        named = {f"it.{n}" for line in lines for n in _REFERENCE.findall(line)}
        assert named == set(bundle.manifest["tensors"])


def _official() -> list[Any]:
    """The onnx package's node tests of these operators."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        found = collect_testcases(None)
    return [c for c in found if all((n.domain, n.op_type) in ATTRIBUTES for n in c.model.graph.node)]


OFFICIAL = _official()


@pytest.mark.parametrize("case", OFFICIAL, ids=lambda c: c.name.removeprefix("test_ai_onnx_ml_"))
def test_official_cases(case: Any, tmp_path: Path) -> None:
    ((inputs, wanted),) = case.data_sets
    with exported(case.model, tmp_path) as bundle:
        assert_close(computed(bundle, inputs), wanted)


def test_missing_features(tmp_path: Path) -> None:
    x = f(6, 4, seed=9)
    x[::2, 1], x[1::2, 2] = np.nan, np.nan
    proto = _model("TreeEnsembleRegressor", x, **forest(), **leaves("target", [0] * 5, MIXED), n_targets=1)
    with exported(proto, tmp_path) as bundle:
        assert_close(computed(bundle, [x]), runtime(proto, {"x": x}))


def test_probit(tmp_path: Path) -> None:
    x = np.asarray([[0.3, 0.9], [0.5, 0.2]], np.float32)
    attributes = {"coefficients": [1.0, 0.0, 0.0, 1.0], "intercepts": [0.0, 0.0], "post_transform": "PROBIT"}
    proto = _model("LinearClassifier", x, classlabels_ints=[0, 1], **attributes)
    with exported(proto, tmp_path) as bundle:
        assert_close(computed(bundle, [x]), ReferenceEvaluator(proto).run(None, {"x": x}))


def _tensor(name: str, values: Any, dtype: Any) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(values, dtype), name)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("aggregate", [0, 1, 2, 3])
def test_trees_with_sets(dtype: Any, aggregate: int, tmp_path: Path) -> None:
    """Two trees, one of them a leaf; a node that asks whether a feature is in a set."""
    x = f(8, 4, seed=9).astype(dtype)
    x[:, 2] = [1, 2, 3, 4, 1, 2, 3, 4]
    attributes = {
        "nodes_splits": _tensor("s", [0.1, np.nan, 0.0], dtype), "nodes_modes": _tensor("m", [0, 6, 0], np.uint8),
        "membership_values": _tensor("v", [1, 3, np.nan], dtype), "leaf_targetids": [0, 1, 1, 0],
        "leaf_weights": _tensor("w", [0.5, -1.0, 2.0, 4.0], dtype), "nodes_featureids": [0, 2, 0],
        "nodes_truenodeids": [0, 1, 3], "nodes_falsenodeids": [1, 2, 3], "nodes_trueleafs": [1, 1, 1],
        "nodes_falseleafs": [0, 1, 1], "tree_roots": [0, 2], "n_targets": 2, "aggregate_function": aggregate,
    }  # fmt: skip
    proto = _model("TreeEnsemble", x, 5, **attributes)
    with exported(proto, tmp_path) as bundle:
        assert_close(computed(bundle, [x]), runtime(proto, {"x": x}))
        assert bundle.manifest["tensors"]["it.leaf_weights"]["dtype"] == ("F32" if dtype is np.float32 else "F64")
        assert bundle.manifest["tensors"]["it.tree_roots"]["axes"] == "tree"


def test_features_side_by_side(tmp_path: Path) -> None:
    """A dense kernel behind a vectorizer reads its two inputs."""
    a, b = f(3, 2), f(3, 4, seed=1)
    nodes = [
        helper.make_node("FeatureVectorizer", ["a", "b"], ["v"], domain=ML, inputdimensions=[2, 4]),
        helper.make_node("LinearRegressor", ["v"], ["y"], name="it", domain=ML, coefficients=numbers(f(3, 6, seed=2)),
                         intercepts=[1.0, 2.0, 3.0], targets=3),
    ]  # fmt: skip
    proto = typed(model(nodes, {"a": a, "b": b}, ["y"], opsets={"": 17, ML: 3}))
    with exported(proto, tmp_path) as bundle:
        kernel = np.asarray(f(3, 6, seed=2)).T
        np.testing.assert_array_equal(bundle["it.from.a"], kernel[:2])
        np.testing.assert_array_equal(bundle["it.from.b"], kernel[2:])
        assert_close(computed(bundle, [a, b]), [np.concatenate([a, b], 1) @ kernel + [1, 2, 3]])


def test_names_and_axes(tmp_path: Path) -> None:
    x = f(2, 4)
    attributes = _svm(3, "RBF", probable=True)
    with exported(_model("SVMClassifier", x, **attributes), tmp_path) as bundle:
        axes = {n.removeprefix("it."): t["axes"] for n, t in bundle.manifest["tensors"].items()}
        assert axes == {
            "support_vectors": "vector feature", "coefficients": "row vector", "rho": "pair", "prob_a": "pair",
            "prob_b": "pair", "kernel_params": "parameter", "vectors_per_class": "class",
        }  # fmt: skip
        wanted = np.asarray(attributes["support_vectors"], np.float32).reshape(9, 4)
        np.testing.assert_array_equal(bundle["it.support_vectors"], wanted)
        assert bundle.manifest["tensors"]["it.vectors_per_class"]["dtype"] == "I64"
    kernel = f(3, 4, scale=0.5)
    with exported(_model("LinearClassifier", x, **_linear(3, 3)), tmp_path / "linear") as bundle:
        np.testing.assert_array_equal(bundle["it.kernel"], kernel.T)
        assert bundle.manifest["tensors"]["it.kernel"]["axes"] == "in out"
        assert bundle.manifest["layers"]["it"]["classes"] == [3, 4, 5]


def test_nodes_of_one_name_are_two(tmp_path: Path) -> None:
    x = f(2, 4)
    nodes = [helper.make_node("Scaler", [i], [o], name="s", domain=ML, scale=[v]) for i, o, v in
             (("x", "m", 2.0), ("m", "y", 3.0))]  # fmt: skip
    proto = typed(model(nodes, {"x": x}, ["y"], opsets={"": 17, ML: 3}))
    with exported(proto, tmp_path) as bundle:
        assert len(bundle.manifest["tensors"]) == 2
        assert_close(computed(bundle, [x]), [x * 6])
