"""Models that are no networks: linear ones, support vectors, trees; and layers on few bits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from equation_rows.row import LINEAR, Array, Row, f

_TRANSFORMS = ("NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO", "PROBIT")


def _linear() -> Iterator[Row]:
    for word in _TRANSFORMS:
        for units, classes in ((3, [4, 5, 6]), (1, [4, 5]), (1, ["yes"]), (1, []), (3, ["a", "b", "c"])):
            own = {"kernel": ("in out", f(4, units)), "bias": ("out", f(units))}
            x = f(5, 4) / 20 if word == "PROBIT" else f(5, 4)
            a = {"units": units, "classes": classes, "post_transform": word}
            yield Row("linear_classifier", a, own, {"x": x}, note=f"{word}-{classes}")
    yield Row("linear_regressor", {"units": 3, "post_transform": "NONE"}, own, {"x": f(4)}, note="one-row")


def _vectors() -> Iterator[Row]:
    for word in ("LINEAR", "RBF", "POLY", "SIGMOID"):
        for n in (2, 3):
            pairs = n * (n - 1) // 2
            own = {
                "coefficients": ("row vector", f(n - 1, 3 * n)), "support_vectors": ("vector feature", f(3 * n, 4)),
                "kernel_params": ("parameter", np.asarray([0.3, 0.2, 3.0])), "rho": ("pair", f(pairs)),
                "vectors_per_class": ("class", np.full(n, 3.0)),
            }  # fmt: skip
            a = {"kernel_type": word, "classes": list(range(n)), "post_transform": "NONE"}
            yield Row("svm_classifier", a, own, {"x": f(6, 4)}, note=f"{word}-{n}")
            own |= {"prob_a": ("pair", f(pairs)), "prob_b": ("pair", f(pairs))}
            yield Row(
                "svm_classifier", {**a, "post_transform": "SOFTMAX"}, own, {"x": f(6, 4)}, note=f"{word}-{n}-probable"
            )
        single = {k: own[k] for k in ("support_vectors", "kernel_params")}
        single |= {"coefficients": ("row vector", f(1, 9)), "rho": ("pair", f(1))}
        for one in (False, True):
            b = {"kernel_type": word, "one_class": one, "post_transform": "NONE"}
            yield Row("svm_regressor", b, single, {"x": f(6, 4)}, note=f"{word}-{one}")
    for classes in ([], [4], [4, 8], [4, 8, 9]):
        for weights in (f(max(len(classes), 1), 4), np.abs(f(max(len(classes), 1), 4)) / 4):
            bare = {"coefficients": ("class feature", weights), "rho": ("pair", f(1))}
            c = {"kernel_type": "LINEAR", "classes": classes, "post_transform": "NONE"}
            note = f"no-vectors-{classes}-{weights.min() > 0}"
            yield Row("svm_classifier", c, bare, {"x": f(12, 4)}, note=note)
    alone = {"coefficients": ("class feature", f(1, 4)), "rho": ("pair", f(1))}
    yield Row("svm_regressor", {**b, "kernel_type": "LINEAR"}, alone, {"x": f(6, 4)}, note="no-vectors")


def _whole(word: str, *values: float) -> tuple[str, Array]:
    return word, np.asarray(values, np.float64)


def _old_forest(mode: str) -> dict[str, tuple[str, Array]]:
    """Two trees, of five nodes and three; ids are not in order."""
    return {
        "nodes_treeids": _whole("node", 0, 0, 0, 0, 0, 7, 7, 7),
        "nodes_nodeids": _whole("node", 4, 1, 2, 3, 0, 0, 1, 2),
        "nodes_featureids": _whole("node", 1, 0, 2, 0, 0, 3, 0, 0),
        "nodes_values": _whole("node", 0.25, 0, -0.5, 0, 0, 0.5, 0, 0),
        "nodes_truenodeids": _whole("node", 1, 0, 3, 0, 0, 1, 0, 0),
        "nodes_falsenodeids": _whole("node", 2, 0, 0, 0, 0, 2, 0, 0),
        "nodes_missing_value_tracks_true": _whole("node", 1, 0, 0, 0, 0, 0, 0, 0),
        "nodes_hitrates": ("node", np.ones(8)),
    }


def _leaves(word: str, ids: list[int], weights: Array) -> dict[str, tuple[str, Array]]:
    return {
        f"{word}_treeids": _whole("leaf", 0, 0, 0, 7, 7), f"{word}_nodeids": _whole("leaf", 1, 3, 0, 1, 2),
        f"{word}_ids": _whole("leaf", *ids), f"{word}_weights": ("leaf", weights),
    }  # fmt: skip


def _trees() -> Iterator[Row]:
    x = f(8, 4)
    x[0, 1] = x[1, 2] = np.nan
    for mode in ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"):
        modes = [mode, "LEAF", mode, "LEAF", "LEAF", mode, "LEAF", "LEAF"]
        own = {**_old_forest(mode), **_leaves("target", [0, 1, 0, 1, 1], f(5)), "base_values": ("target", f(2))}
        for how in ("SUM", "AVERAGE", "MIN", "MAX"):
            a = {"nodes_modes": modes, "targets": 2, "aggregate": how, "post_transform": "NONE"}
            yield Row("tree_ensemble_regressor", a, own, {"x": x}, note=f"{mode}-{how}")
    modes = [{"BRANCH_NEQ": "BRANCH_LEQ"}.get(m, m) for m in modes]
    for word in ("NONE", "LOGISTIC", "SOFTMAX"):
        for ids in ([0, 1, 2, 1, 0], [0] * 5, [1] * 5, [0, 1, 0, 1, 1]):
            for names in (["a", "b"], [3, 4, 5], [7]):
                if max(ids) >= max(len(names), 2) or (len(names) == 1 and max(ids)):
                    continue
                for weights in (f(5), np.abs(f(5)) / 4):
                    own = {**_old_forest("BRANCH_LEQ"), **_leaves("class", ids, weights)}
                    a = {"nodes_modes": modes, "classes": names, "post_transform": word}
                    yield Row(
                        "tree_ensemble_classifier", a, own, {"x": x}, note=f"{word}-{ids}-{names}-{weights.min() > 0}"
                    )


def _few_bits() -> Iterator[Row]:
    x = np.random.default_rng(3).integers(0, 255, (2, 3, 4, 6)).astype(np.uint8)
    own: dict[str, tuple[str, Array]] = {}
    for name, scale, zero in (("input", 0.02, 120.0), ("output", 0.015, 100.0)):
        own |= {
            f"{name}_scale": ("", np.asarray(np.float32(scale), np.float64)),
            f"{name}_zero_point": ("", np.asarray(zero)),
        }
    form = {"data_format": "channels_first"}
    windows = {"size": [2, 3], "strides": [1, 2], "padding": [[1, 0], [0, 1]]}
    for inner in (
        {"kind": "global_average_pool", "keepdims": True, **form}, {"kind": "average_pool", **windows, **form},
        {"kind": "average_pool", **windows, **form, "include_padding": True},
        {"kind": "activation", "activation": {"name": "sigmoid"}},
    ):  # fmt: skip
        yield Row("quantized", {"layer": inner, "type": "uint8"}, own, {"x": x}, note=f"{inner['kind']}-{len(inner)}")
    kernel = {"kernel": ("in out", np.round(f(6, 4) * 50)), "bias": ("out", np.round(f(4) * 1000))}
    kernel |= {
        "kernel_scale": ("out", np.abs(f(4)).astype(np.float32).astype(np.float64) / 100),
        "kernel_zero_point": ("out", np.round(f(4))),
    }
    dense = {"kind": "dense", "units": 4, "activation": LINEAR}
    for more in (
        {"type": "uint8", "integer_bias": True},
        {"integer_bias": False},
        {"type": "int8", "integer_bias": True, "factor": 0.5},
    ):
        yield Row("quantized", {"layer": dense, **more}, {**own, **kernel}, {"x": x}, note=f"dense-{more}")
    a: dict[str, Any] = {"type": "int4", "axis": 1, "block": 2}
    blocked = {"scale": ("axis_1 axis_2", np.abs(f(2, 3)) + 0.1), "zero_point": ("axis_1 axis_2", np.round(f(2, 3)))}
    yield Row("quantize", a, blocked, {"x": f(2, 6) * 3}, note="blocks")
    yield Row("dequantize", {"axis": 1, "block": 2}, blocked, {"x": np.round(f(2, 6) * 3)}, note="blocks")
    for saturate in (True, False):
        b = {"type": "float8_e4m3fn", "saturate": saturate, "axis": 1}
        yield Row("quantize", b, {"scale": ("channel", np.abs(f(3)) + 0.1)}, {"x": f(2, 3)}, note=f"float8-{saturate}")


def rows() -> Iterator[Row]:
    for part in (_linear, _vectors, _trees, _few_bits):
        yield from part()
