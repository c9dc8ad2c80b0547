"""Operations of elements, normalizations, features, trees."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from equation_rows.row import Array, Row, f

_ACTIVATIONS: list[dict[str, Any]] = [
    {"name": "relu"}, {"name": "bounded_relu", "max_value": 1.0, "alpha": 0.1, "threshold": 0.2},
    {"name": "bounded_relu", "max_value": None, "alpha": 0.1, "threshold": 0.2},
    {"name": "clip", "low": -0.5, "high": 0.7}, {"name": "leaky_relu", "alpha": 0.3},
    {"name": "thresholded_relu", "threshold": 0.4}, {"name": "elu", "alpha": 1.5}, {"name": "selu"},
    {"name": "selu", "alpha": 1.2, "scale": 0.9}, {"name": "celu", "alpha": 0.6}, {"name": "gelu", "approximate": True},
    {"name": "gelu", "approximate": False}, {"name": "silu"}, {"name": "silu", "beta": 1.7}, {"name": "mish"},
    {"name": "sigmoid"}, {"name": "log_sigmoid"}, {"name": "hard_sigmoid", "slope": 0.2, "offset": 0.5},
    {"name": "hard_silu"}, {"name": "sparse_sigmoid"}, {"name": "tanh"},
    {"name": "affine", "slope": 2.0, "offset": 0.1},
    {"name": "scaled_tanh", "alpha": 1.3, "beta": 0.8}, {"name": "hard_tanh"}, {"name": "tanh_shrink"},
    {"name": "soft_shrink", "threshold": 0.5}, {"name": "hard_shrink", "threshold": 0.5},
    {"name": "shrink", "threshold": 0.4, "bias": 0.2}, {"name": "softplus"}, {"name": "sparse_plus"},
    {"name": "squareplus", "b": 4.0}, {"name": "softsign"}, {"name": "exponential"}, {"name": "softmax", "axis": -1},
    {"name": "softmax", "axis": 1}, {"name": "softmax", "axis": {"from": 1}}, {"name": "log_softmax", "axis": -1},
    {"name": "log_softmax", "axis": {"from": 1}}, {"name": "hardmax", "axis": 1},
    {"name": "hardmax", "axis": {"from": 1}},
    {"name": "sparsemax", "axis": -1}, {"name": "sparsemax", "axis": 1, "cumulated": True}, {"name": "glu", "axis": -1},
]  # fmt: skip


def _elementwise() -> Iterator[Row]:
    values, w = (f(2, 3), f(2, 3)), {"operand": ("axis_1 axis_2", np.abs(f(2, 3)))}
    for kind in (
        "add",
        "subtract",
        "multiply",
        "divide",
        "average",
        "maximum",
        "minimum",
        "power",
        "mod",
        "floor_divide",
    ):
        x = (np.abs(values[0]), w["operand"][1])
        yield Row(kind, {"broadcast": "numpy"}, w, {"x": x}, {"x": (None, "operand")})
    whole = {"operand": ("axis_1", np.asarray([3, -2, 2]))}
    for kind in ("divide", "mod"):
        x = (np.asarray([-7, 7, -8]), whole["operand"][1])
        yield Row(kind, {"broadcast": "numpy", "truncate": True}, whole, {"x": x}, {"x": (None, "operand")}, "whole")
    for word in ("logical_and", "logical_or", "logical_xor"):
        x = (np.asarray([True, True, False]), np.asarray([True, False, False]))
        yield Row(
            "compare", {"function": word}, {"operand": ("axis_1", x[1])}, {"x": x}, {"x": (None, "operand")}, word
        )
    for word in ("equal", "greater", "greater_equal", "less", "less_equal", "not_equal"):
        x = (np.asarray([1.0, 2.0, 3.0]), np.asarray([3.0, 2.0, 1.0]))
        own = {"operand": ("axis_1", x[1])}
        yield Row("compare", {"function": word}, own, {"x": x}, {"x": (None, "operand")}, word)
    yield Row("where", {}, w, {"condition": f(2, 3) > 0, "x": values[0], "y": w["operand"][1]}, {"y": ("operand",)})
    yield Row("einsum", {"equation": "ab,cb->ac"}, w, {"x": (values[0], w["operand"][1])}, {"x": (None, "operand")})
    yield Row("gated_silu", {"alpha": 1.3}, {}, {"x": values}, {"x": (None, None)})
    how = {"transposed": [True, False], "batch_transposed": [True, False], "alpha": 0.5, "beta": 2.0}
    x = (f(3, 4, 2), f(4, 3, 5))
    yield Row("matmul", how, {"bias": ("axis_1", f(5))}, {"x": x, "bias": f(5)}, {"x": (None, None)}, "alpha")


def _norms() -> Iterator[Row]:
    channel = {"scale": ("channel", f(3)), "offset": ("channel", f(3))}
    moving = {"mean": ("channel", f(3)), "variance": ("channel", np.abs(f(3)))}
    for statistics in ("stored", "batch", "sample"):
        for axis in ([-1], [1]):
            if statistics == "sample" and axis == [1]:
                continue
            a = {"axis": axis, "epsilon": 0.1, "statistics": statistics}
            x = f(2, 4, 3) if axis == [-1] else f(2, 3, 4)
            yield Row("batch_norm", a, {**channel, **moving}, {"x": x}, note=f"{statistics}-{axis}")
    two = {"scale": ("axis_1 axis_2", f(4, 3)), "offset": ("axis_1 axis_2", f(4, 3))}
    yield Row("layer_norm", {"axis": [2, 1], "epsilon": 0.1, "centered": True}, two, {"x": f(2, 4, 3)}, note="two-axes")
    yield Row(
        "layer_norm",
        {"axis": [-1], "epsilon": 0.1, "centered": False},
        {"scale": channel["scale"]},
        {"x": f(2, 4, 3)},
        note="scaled",
    )
    yield Row(
        "layer_norm", {"axis": [1], "epsilon": 0.1, "centered": True}, channel, {"x": f(2, 3, 3)}, note="inner-axis"
    )
    yield Row(
        "rms_norm", {"axis": [1], "epsilon": 0.1}, {"scale": channel["scale"]}, {"x": f(2, 3, 3)}, note="inner-axis"
    )
    yield Row("unit_norm", {"axis": [1, 2], "epsilon": 1e-12}, {}, {"x": f(2, 3, 3)})
    for groups in (2, -1):
        yield Row(
            "group_norm",
            {"axis": 1, "groups": groups, "epsilon": 0.1},
            {"scale": ("channel", f(4)), "offset": ("channel", f(4))},
            {"x": f(2, 4, 3)},
            note=str(groups),
        )
    own = {"scale": ("group", f(2)), "offset": ("group", f(2))}
    yield Row(
        "group_norm",
        {"axis": 1, "groups": 2, "epsilon": 0.1, "affine": "group"},
        own,
        {"x": f(2, 4, 3)},
        note="of-groups",
    )
    yield Row("instance_norm", {"axis": 1, "epsilon": 0.1}, channel, {"x": f(2, 3, 3, 2)})
    stated = {"axis": [1, 2], "mean": None, "variance": None, "epsilon": 1e-7}
    own = {"mean": ("axis_1 axis_2", f(4, 3)), "variance": ("axis_1 axis_2", np.abs(f(4, 3)))}
    for invert in (False, True):
        yield Row("normalization", {**stated, "invert": invert}, own, {"x": f(2, 4, 3)}, note=f"stored-{invert}")
    given = {"axis": [-1], "invert": False, "mean": [0.1, 0.2, 0.3], "variance": [1.0, 2.0, 0.0], "epsilon": 1e-7}
    yield Row("normalization", given, {}, {"x": f(2, 4, 3)}, note="stated")


def _features() -> Iterator[Row]:
    words = {"vocabulary": ["a", "b", "c"], "output_mode": "tf_idf", "depth": 4, "idf": None}
    own = {"idf": ("token", np.abs(f(4)))}
    text = np.asarray([["a", "x", "a"], ["c", "b", "y"]])
    yield Row("lookup", {**words, "invert": False, "mask_token": None, "oov_tokens": 1}, own, {"x": text})
    how = {"standardize": "lower_and_strip_punctuation", "split": "whitespace", "ngrams": None, "output_length": None}
    yield Row("text_vectorization", {**words, **how}, own, {"x": np.asarray([["A, x! a"], ["c b b y."]])})
    own = {"summary": ("row entry", np.asarray([[-1.0, 0.0, 0.5, 2.0, 3.0], [2.0, 1.0, 4.0, 1.0, 2.0]]))}
    for mode in ("int", "one_hot"):
        a = {"boundaries": None, "bins": 4, "output_mode": mode}
        yield Row("discretization", a, own, {"x": f(4, 3) * 2}, note=mode)
    a = {"boundaries": [-1.0, 0.0, 1.0], "bins": None, "output_mode": "int", "truncates": True}
    yield Row("discretization", a, {}, {"x": f(4, 3) * 2}, note="truncates")
    own = {"kernel": ("in out", f(3, 4)), "kernel_scale": ("", np.asarray(1.7)), "bias": ("out", f(4))}
    yield Row("fourier_features", {"units": 4, "scale": None}, own, {"x": f(2, 3)})
    table = {"embedding": ("token dim", f(6, 3))}
    a = {"tokens": 6, "dim": 3, "mask_zero": False, "tied": True, "soft_cap": 1.5}
    for reverse, x in ((True, f(2, 4, 3)), (False, np.asarray([[1, 2], [5, 0]]))):
        yield Row("embedding", a, table, {"x": x, "reverse": reverse}, note=f"reverse-{reverse}")
        own = {**table, "reverse_embedding": ("dim token", f(3, 6))}
        yield Row("embedding", {**a, "tied": False}, own, {"x": x, "reverse": reverse}, note=f"untied-{reverse}")
    own = {
        n: (f"{w} dim", f(k, 3))
        for n, w, k in (
            ("embedding", "token", 6),
            ("position_embedding", "position", 5),
            ("segment_embedding", "segment", 2),
        )
    }
    own |= {"scale": ("channel", f(3)), "offset": ("channel", f(3))}
    ids = {"x": np.asarray([[1, 2, 5], [3, 0, 1]]), "segments": np.asarray([[0, 1, 1], [0, 0, 1]])}
    yield Row("embed_norm", {"epsilon": 0.1}, own, ids)
    yield Row(
        "embed_norm",
        {"epsilon": 0.1},
        own,
        {"x": ids["x"], "positions": np.asarray([[2, 3, 1], [0, 1, 4]])},
        note="positions",
    )
    for kind in ("identity", "dropout"):
        yield Row(kind, {}, {}, {"x": f(2, 3)})
    yield Row("masking", {"value": 0.0}, {}, {"x": np.asarray([[[0.0, 0.0], [0.0, 1.0]]])})
    for how in _ACTIVATIONS:
        note = "-".join(map(str, how.values()))
        yield Row(
            "activation", {"activation": how}, {}, {"x": np.concatenate([f(2, 3, 4), [[[0.0] * 4] * 3]])}, note=note
        )
        if how["name"] not in {"glu"} and "axis" not in how:
            yield Row(
                "dense",
                {"units": 4, "activation": how},
                {"kernel": ("in out", f(3, 4)), "bias": ("out", f(4))},
                {"x": f(2, 3)},
                note=note,
            )


def _forest() -> Iterator[Row]:
    def whole(*values: float) -> Array:
        return np.asarray(values, np.float64)

    nodes = {
        "tree_roots": ("tree", whole(0, 2)),
        "nodes_featureids": ("node", whole(1, 0, 2)),
        "nodes_modes": ("node", whole(0, 6, 3)),
        "nodes_splits": ("node", whole(0.1, 0, -0.2)),
        "nodes_truenodeids": ("node", whole(1, 0, 3)),
        "nodes_falsenodeids": ("node", whole(2, 1, 4)),
        "nodes_trueleafs": ("node", whole(0, 1, 1)),
        "nodes_falseleafs": ("node", whole(1, 1, 1)),
        "nodes_hitrates": ("node", whole(1, 1, 1)),
        "membership_values": ("member", whole(1, 3, np.nan)),
        "leaf_targetids": ("leaf", whole(0, 1, 0, 1, 1)),
        "leaf_weights": ("leaf", f(5)),
        "nodes_missing_value_tracks_true": ("node", whole(1, 0, 0)),
    }
    x = np.asarray([[1.0, 0.0, 0.3], [2.0, -1.0, -0.9], [3.0, np.nan, 0.1], [0.0, 2.0, np.nan]])
    for how in ("SUM", "AVERAGE", "MIN", "MAX"):
        yield Row(
            "tree_ensemble", {"targets": 2, "aggregate": how, "post_transform": "NONE"}, nodes, {"x": x}, note=how
        )


def _spectrograms() -> Iterator[Row]:
    kernels = {f"{p}_kernel": ("frame frequency", f(4, 5)) for p in ("real", "imag")}
    how = {"frame_length": 4, "frame_step": 3, "padding": "same", "expand_dims": False, "data_format": "channels_last"}
    for mode in ("stft", "log", "magnitude", "psd", "real", "imag", "angle"):
        own = {name: k for name, k in kernels.items() if mode not in {"real", "imag"} or name.startswith(mode)}
        yield Row("spectrogram", {"config": {**how, "mode": mode}}, own, {"x": f(2, 11, 2)}, note=mode)
    for more in ({"expand_dims": True}, {"data_format": "channels_first"}, {"padding": "valid", "frame_step": None}):
        x = f(2, 2, 11) if "data_format" in more else f(2, 11, 2)
        yield Row("spectrogram", {"config": {**how, "mode": "psd", **more}}, kernels, {"x": x}, note=str(more))


def rows() -> Iterator[Row]:
    for part in (_elementwise, _norms, _features, _forest, _spectrograms):
        yield from part()
