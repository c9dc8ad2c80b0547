"""Operators with inputs: what the moved settings of old and new opsets are, and edges that no official case has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto


@dataclass(frozen=True)
class Row:
    """An operator of an opset, its attributes and its inputs; None is one that is left out."""

    op: str
    opset: int
    inputs: Sequence[Any]
    attributes: dict[str, Any] = field(default_factory=dict)
    outputs: int = 1
    domain: str = ""
    kind: str | None = None  # what it becomes if all is known
    tolerance: float | None = None
    runtime: bool = False  # compared with onnxruntime: the reference knows only the operator's newest form

    @property
    def id(self) -> str:
        words = "-".join(
            f"{k}={str(v)[:30]}" for k, v in self.attributes.items() if not isinstance(v, onnx.TensorProto)
        )
        shapes = "x".join("none" if v is None else str(np.shape(v)).replace(" ", "") for v in self.inputs)
        return f"{self.op}-{self.opset}-{shapes}-{words}"


_RANDOM = np.random.default_rng(7)


def f(*shape: int) -> Any:
    return _RANDOM.normal(size=shape).astype(np.float32)


def i64(*values: Any) -> Any:
    return np.asarray(values, np.int64)


def scalar(value: Any, dtype: Any = np.int64) -> Any:
    return np.asarray(value, dtype)


FAR = 2**63 - 1
X, IMAGE, COUNTS = f(2, 3, 4), f(1, 2, 5, 6), np.arange(-6, 6, dtype=np.int32).reshape(3, 4)
ONES = f(2, 1, 3, 1)


def _softmaxes() -> Iterator[Row]:
    for op in ("Softmax", "LogSoftmax", "Hardmax"):
        for axis in (0, 1, 2, -1, -2):
            yield Row(op, 11, [X], {"axis": axis}, kind="activation", runtime=True)
            yield Row(op, 13, [X], {"axis": axis}, kind="activation")
        yield Row(op, 11, [f(3, 4)], kind="activation", runtime=True)
        yield Row(op, 13, [X], kind="activation")


def _reductions() -> Iterator[Row]:
    ops = (
        "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSumExp",
        "ReduceSumSquare",
    )  # fmt: skip
    for op in ops:
        yield Row(op, 11, [X], {"axes": [1], "keepdims": 0}, kind="reduce")
        yield Row(op, 11, [X], {"axes": [0, -1]}, kind="reduce")
        yield Row(op, 18, [X, i64(1, 2)], {"keepdims": 0}, kind="reduce")
        yield Row(op, 18, [X], {}, kind="reduce")
        yield Row(op, 18, [X, i64()], {"noop_with_empty_axes": 1}, kind="reduce")
    yield Row("ReduceSum", 13, [COUNTS, i64(0)], {"keepdims": 1}, kind="reduce")
    yield Row("ReduceLogSum", 18, [np.abs(X), i64(-1)], {}, kind="reduce")
    for last in (0, 1):
        tied = np.asarray([[1, 3, 3, 2], [5, 5, 0, 5]], np.float32)
        yield Row("ArgMax", 13, [tied], {"axis": 1, "select_last_index": last, "keepdims": 0}, kind="reduce")
        yield Row("ArgMin", 13, [tied], {"axis": -1, "select_last_index": last}, kind="reduce")
    yield Row("ArgMax", 11, [X], kind="reduce")


def _moved_settings() -> Iterator[Row]:
    yield Row("Squeeze", 11, [ONES], {"axes": [1]}, kind="squeeze")
    yield Row("Squeeze", 11, [ONES], kind="squeeze")
    yield Row("Squeeze", 13, [ONES, i64(-1, 1)], kind="squeeze")
    yield Row("Unsqueeze", 11, [X], {"axes": [0, 2]}, kind="expand_dims")
    yield Row("Unsqueeze", 13, [X, i64(-1, 0)], kind="expand_dims")
    yield Row("Clip", 6, [X], {"min": -0.5, "max": 0.25}, kind="clip")
    yield Row("Clip", 6, [X], {"max": 0.25}, kind="clip")
    yield Row("Clip", 6, [X], kind="identity")
    yield Row("Clip", 13, [X, scalar(-0.5, np.float32)], kind="clip")
    yield Row("Clip", 13, [X, None, scalar(0.5, np.float32)], kind="clip")
    yield Row("Clip", 13, [X, scalar(0.5, np.float32), scalar(-0.5, np.float32)], kind="clip")
    yield Row("Clip", 13, [COUNTS, scalar(-2, np.int32), scalar(3, np.int32)], kind="clip")
    yield Row("Slice", 9, [X], {"starts": [1, 0], "ends": [2, -1], "axes": [1, 2]}, kind="slice")
    yield Row("Slice", 9, [X], {"starts": [0, 1], "ends": [FAR, 3]}, kind="slice")
    yield Row("Slice", 13, [X, i64(1), i64(FAR), i64(-1)], kind="slice")
    yield Row("Slice", 13, [X, i64(FAR), i64(-FAR), i64(2), i64(-1)], kind="slice")
    yield Row("Slice", 13, [X, i64(-1, 0), i64(0, 3), i64(1, 2), i64(-1, 2)], kind="slice")
    yield Row("Slice", 13, [X, i64(5), i64(9), i64(1)], kind="slice")
    yield Row("Slice", 13, [X, i64(0, 1), i64(1, 2)], kind="slice")
    yield Row("Split", 11, [X], {"axis": 2, "split": [1, 3]}, outputs=2, kind="split")
    yield Row("Split", 11, [X], {"axis": -1}, outputs=2, kind="split")
    yield Row("Split", 13, [X, i64(1, 0, 3)], {"axis": 2}, outputs=3, kind="split")
    yield Row("Split", 13, [X], {"axis": 2}, outputs=4, kind="split")
    yield Row("Split", 18, [f(7, 2)], {"num_outputs": 3}, outputs=3, kind="split")
    yield Row("Split", 18, [f(2, 8)], {"num_outputs": 3, "axis": 1}, outputs=3, kind="split")
    for mode in ("constant", "reflect", "edge"):
        pads = [0, 1, 0, 0, 2, 1]
        yield Row("Pad", 2, [X], {"pads": pads, "mode": mode}, kind="pad_all", runtime=True)
        yield Row("Pad", 13, [X, i64(*pads)], {"mode": mode}, kind="pad_all")
    yield Row("Pad", 2, [X], {"pads": [0, 0, 1, 0, 0, 2], "value": 2.5}, kind="pad_all", runtime=True)
    yield Row("Pad", 13, [X, i64(0, 0, 1, 0, 0, 2), scalar(-np.inf, np.float32)], kind="pad_all")
    yield Row("Pad", 13, [X, i64(0, -1, 1, 0, 0, -2)], kind="pad_all", runtime=True)
    yield Row("Pad", 18, [X, i64(1, 2), scalar(3.0, np.float32), i64(-1)], kind="pad_all")
    yield Row("Pad", 19, [X, i64(0, 1, 2, 0, 1, 1)], {"mode": "wrap"}, kind="pad_all")
    yield Row("Dropout", 10, [X], {"ratio": 0.5}, kind="identity")
    yield Row("Dropout", 10, [X], outputs=2, kind="dropout")
    yield Row("Dropout", 13, [X, scalar(0.5, np.float32)], kind="identity")
    yield Row("TopK", 10, [X, i64(2)], {"axis": 1}, outputs=2, kind="top_k", runtime=True)
    yield Row("TopK", 11, [COUNTS % 3, i64(3)], {"axis": -1}, outputs=2, kind="top_k", runtime=True)
    yield Row("TopK", 11, [COUNTS % 3, i64(3)], {"largest": 0}, outputs=2, kind="top_k", runtime=True)
    yield Row("CumSum", 14, [X, scalar(1)], {"reverse": 1, "exclusive": 1}, kind="cumulative_sum")


def _shapes() -> Iterator[Row]:
    for shape, kind in {
        (2, 12): "reshape", (-1, 12): "reshape", (0, -1): "reshape", (0, 0, 2, 2): "reshape", (6, 4): "reshape_all",
        (-1,): "reshape_all", (-1, 4): "reshape_all", (1, 0, -1): "reshape_all", (4, 3, 2): "reshape_all",
    }.items():  # fmt: skip
        yield Row("Reshape", 13, [X, i64(*shape)], kind=kind)
    yield Row("Reshape", 14, [f(0, 3), i64(3, 0)], {"allowzero": 1}, kind="reshape_all")
    yield Row("Reshape", 13, [f(1), np.zeros(0, np.int64)], kind="reshape_all")
    for axis, kind in {
        0: "flatten_at",
        1: "flatten",
        2: "flatten_at",
        3: "flatten_at",
        -1: "flatten_at",
        -2: "flatten",
    }.items():
        yield Row("Flatten", 11, [X], {"axis": axis}, kind=kind)
    yield Row("Expand", 13, [f(3, 1), i64(2, 1, 4)], kind="expand")
    yield Row("Expand", 13, [f(2, 3), i64(1, 1)], kind="expand")
    yield Row("Tile", 13, [X, i64(1, 2, 2)], kind="tile")
    yield Row("Transpose", 13, [X], kind="transpose")
    yield Row("Transpose", 13, [X], {"perm": [0, 2, 1]}, kind="transpose")
    for axis in (1, -1):
        yield Row("Concat", 13, [X, X, X], {"axis": axis}, kind="concat")
    for mode in ("DCR", "CRD"):
        yield Row("DepthToSpace", 13, [f(2, 8, 2, 3)], {"blocksize": 2, "mode": mode}, kind="depth_to_space")
    yield Row("SpaceToDepth", 13, [f(2, 2, 4, 6)], {"blocksize": 2}, kind="space_to_depth")
    yield Row("Shape", 13, [X], kind="shape")
    yield Row("Shape", 15, [X], {"start": -2, "end": 2}, kind="shape")
    yield Row("Size", 13, [X], kind="size")
    for value in (np.asarray([7], np.int64), np.asarray([1.5], np.float32), np.asarray([True])):
        yield Row("ConstantOfShape", 9, [i64(2, 3)], {"value": onnx.numpy_helper.from_array(value)}, kind="fill")
    yield Row("ConstantOfShape", 9, [i64(2)], kind="fill")
    yield Row("Range", 11, [scalar(1), scalar(10), scalar(3)], kind="range")
    yield Row("Range", 11, [scalar(1.0, np.float32), scalar(-1.0, np.float32), scalar(-0.5, np.float32)], kind="range")
    yield Row("EyeLike", 9, [f(3, 4)], {"k": -1, "dtype": TensorProto.INT64}, kind="eye_like")
    yield Row("EyeLike", 9, [f(3, 4)], {"k": 1}, kind="eye_like")
    yield Row("Trilu", 14, [X, scalar(1)], {"upper": 0}, kind="triangle")
    yield Row("Trilu", 14, [X], kind="triangle")


def _indices() -> Iterator[Row]:
    yield Row("Gather", 13, [X, i64([0, -1], [1, 2])], {"axis": 1}, kind="gather")
    yield Row("Gather", 13, [X, scalar(-1)], {"axis": 2}, kind="slice")
    yield Row("GatherElements", 13, [X, np.tile(i64(0, -1), (2, 3, 1))], {"axis": 2}, kind="gather_elements")
    yield Row("GatherND", 13, [X, i64([0, 1], [1, -1])], kind="gather_nd")
    yield Row("GatherND", 13, [X, i64([1], [-1])], {"batch_dims": 1}, kind="gather_nd")
    for how in ("none", "add", "mul", "max", "min"):
        yield Row("ScatterND", 18, [f(4, 3), i64([1], [-1]), f(2, 3)], {"reduction": how}, kind="scatter_nd")
        data = [f(3, 4), i64([0, -1, 1]), f(1, 3)]
        yield Row("ScatterElements", 18, data, {"axis": 1, "reduction": how}, kind="scatter_elements")
    yield Row("ScatterND", 18, [f(4), i64([1], [1]), f(2)], {"reduction": "add"}, kind="scatter_nd")
    yield Row("Scatter", 9, [f(3, 4), i64([0, 2, 1]), f(1, 3)], {"axis": 1}, kind="scatter_elements", runtime=True)
    for axis in (-1, 0, 1):
        depth, values = scalar(4), np.asarray([2, 5], np.float32)
        yield Row(
            "OneHot", 11, [i64(1, -1, 9), depth, values], {"axis": axis} if axis < 1 else {}, kind="one_hot_values"
        )
    yield Row("Compress", 11, [X, np.asarray([True, False, True])], {"axis": 1}, kind="compress")
    yield Row("Compress", 11, [X, np.asarray([True, False, True])], kind="compress")
    yield Row("NonZero", 13, [COUNTS % 2], kind="nonzero")
    yield Row("Unique", 11, [i64(3, 1, 3, 2, 1)], {"sorted": 0}, outputs=4, kind="unique")
    yield Row("Unique", 11, [i64(3, 1, 3, 2, 1)], outputs=2, kind="unique")
    lengths = {"time_axis": 0, "batch_axis": 1}
    yield Row("ReverseSequence", 10, [f(4, 3, 2), i64(1, 4, 2)], lengths, kind="reverse_sequence")
    yield Row("Where", 9, [X > 0, X, scalar(0, np.float32)], kind="where")
    yield Row("Einsum", 12, [X, f(4, 5)], {"equation": "b i j, j k -> b i k"}, kind="einsum")
    yield Row("Det", 11, [f(2, 3, 3)], kind="determinant")


def _elements() -> Iterator[Row]:
    for op in ("Add", "Sub", "Mul", "Div", "Pow"):
        yield Row(op, 14, [np.abs(X) + 1, f(3, 1)])
    whole = [np.asarray([7, -7, 7, -7], np.int64), np.asarray([2, 2, -2, -2], np.int64)]
    yield Row("Div", 14, whole, kind="divide")
    yield Row("Mod", 13, whole, kind="mod")
    yield Row("Mod", 13, whole, {"fmod": 1}, kind="mod")
    yield Row("Mod", 13, [X, np.abs(f(4))], {"fmod": 1}, kind="mod")
    yield Row("Pow", 15, [COUNTS, scalar(2.0, np.float32)], kind="power")
    for op in ("Max", "Min", "Sum", "Mean"):
        yield Row(op, 13, [X, f(4), f(2, 1, 1)])
        yield Row(op, 13, [X])
    yield Row("Round", 11, [np.asarray([0.5, 1.5, -2.5, 2.4], np.float32)], kind="unary")
    yield Row("Not", 1, [X > 0], kind="unary")
    yield Row("IsInf", 10, [np.asarray([np.inf, -np.inf, 1], np.float32)], {"detect_negative": 0}, kind="is_inf")
    yield Row("BitShift", 11, [np.asarray([1, 8], np.uint8), np.asarray([3, 2], np.uint8)], {"direction": "LEFT"})
    yield Row("BitwiseNot", 18, [COUNTS], kind="bitwise")
    yield Row("Cast", 13, [X * 3], {"to": TensorProto.INT32}, kind="cast")
    yield Row("Cast", 13, [X], {"to": TensorProto.BOOL}, kind="cast")
    yield Row("Cast", 13, [X * 1000], {"to": TensorProto.FLOAT16}, kind="cast")
    yield Row("CastLike", 15, [X, COUNTS], kind="cast")
    for op, attributes in [
        ("HardSigmoid", {}), ("HardSigmoid", {"alpha": 1 / 6}), ("LeakyRelu", {}), ("Elu", {"alpha": 2.0}),
        ("Selu", {}),
        ("Selu", {"alpha": 2.0, "gamma": 3.0}), ("Celu", {"alpha": 0.5}), ("ThresholdedRelu", {"alpha": 0.5}),
        ("Shrink", {"lambd": 0.5}), ("Shrink", {"lambd": 0.5, "bias": 0.5}), ("Shrink", {"lambd": 0.5, "bias": 0.25}),
    ]:  # fmt: skip
        yield Row(op, 12, [X], attributes, kind="activation")
    for how in ("none", "tanh"):
        yield Row("Gelu", 20, [X], {"approximate": how}, kind="activation")
    for alpha in (1.0, 1.5):
        yield Row("Swish", 24, [X], {"alpha": alpha}, kind="activation")
    microsoft = {"domain": "com.microsoft", "runtime": True}
    yield Row("Gelu", 1, [X], kind="activation", **microsoft)
    yield Row("FastGelu", 1, [X], kind="activation", **microsoft)
    yield Row("QuickGelu", 1, [X], {"alpha": 1.702}, kind="activation", **microsoft)
    yield Row("BiasGelu", 1, [X, f(4)], kind="bias_gelu", **microsoft)


def _maps() -> Iterator[Row]:
    for op, kind in {"MaxPool": "max_pool", "AveragePool": "average_pool", "LpPool": "lp_pool"}.items():
        for how in (
            {"kernel_shape": [2, 3]}, {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
            {"kernel_shape": [3, 2], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
            {"kernel_shape": [2, 2], "strides": [2, 2], "auto_pad": "SAME_LOWER"},
            {"kernel_shape": [2, 2], "strides": [2, 3], "auto_pad": "VALID"},
            {"kernel_shape": [2, 2], "pads": [0, 1, 1, 0]},
        ):  # fmt: skip
            yield Row(op, 11, [IMAGE], how, kind=kind, runtime=True)
    for op, kind in {"MaxPool": "max_pool", "AveragePool": "average_pool"}.items():
        how = {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}
        yield Row(op, 11, [f(1, 2, 5, 7)], how, kind=kind, runtime=True)
        yield Row(op, 11, [f(1, 2, 5, 7)], {**how, "pads": [1, 0, 0, 1]}, kind=kind, runtime=True)
        yield Row(
            op, 19, [f(2, 2, 9)], {"kernel_shape": [3], "dilations": [2], "strides": [2]}, kind=kind, runtime=True
        )
        yield Row(op, 11, [f(1, 1, 4, 4, 4)], {"kernel_shape": [2, 2, 2]}, kind=kind, runtime=True)
    padded = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]}
    yield Row("AveragePool", 11, [IMAGE], {**padded, "count_include_pad": 1}, kind="average_pool", runtime=True)
    for order in (0, 1):
        two = {**padded, "storage_order": order}
        yield Row("MaxPool", 12, [f(2, 2, 5, 6)], two, outputs=2, kind="max_pool", runtime=True)
    for op in ("GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool"):
        yield Row(op, 2 if "Lp" in op else 9, [IMAGE], runtime=True)
    squares = {"size": 4, "alpha": 0.1, "bias": 0.5}  # the reference goes along the batch: as many items as channels
    yield Row("LRN", 13, [f(7, 7, 2, 2)], squares, kind="local_response_norm")
    yield Row("LRN", 13, [f(2, 7, 2, 2)], {"size": 3}, kind="local_response_norm", runtime=True)
    for p in (1, 2):
        yield Row("LpNormalization", 1, [X], {"axis": 1, "p": p}, kind="lp_normalize", runtime=True)
    yield Row("MeanVarianceNormalization", 13, [IMAGE], kind="mean_variance_norm")
    yield Row("MeanVarianceNormalization", 13, [f(2, 3, 5, 6)], {"axes": [1, 2]}, kind="mean_variance_norm")


def _resizings() -> Iterator[Row]:
    none, double = np.zeros(0, np.float32), np.asarray([1, 1, 2, 3], np.float32)
    odd = np.asarray([1, 1, 0.625, 1.75], np.float32)
    for mode in ("nearest", "linear"):
        yield Row("Upsample", 7, [IMAGE], {"mode": mode, "scales": double.tolist()}, kind="upsample", runtime=True)
        yield Row("Upsample", 9, [IMAGE, double], {"mode": mode}, kind="upsample", runtime=True)
        yield Row("Upsample", 9, [IMAGE, np.maximum(1, odd)], {"mode": mode}, runtime=True)
        half = np.asarray([1, 1, 0.5, 1.75], np.float32)  # between elements, onnxruntime rounds up when x shrinks
        yield Row("Resize", 10, [IMAGE, half], {"mode": mode}, kind="interpolate", runtime=True)
    for places in ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"):
        for mode in ("nearest", "linear", "cubic"):
            how = {"mode": mode, "coordinate_transformation_mode": places}
            yield Row("Resize", 13, [IMAGE, none, odd], how, kind="interpolate")
            yield Row("Resize", 13, [IMAGE, none, none, i64(1, 2, 4, 9)], how, kind="interpolate")
    for rounding in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"):
        how = {"nearest_mode": rounding, "coordinate_transformation_mode": "half_pixel"}
        yield Row("Resize", 13, [IMAGE, none, double], how)
        yield Row("Resize", 13, [IMAGE, none, odd], how, kind="interpolate")
    for mode in ("nearest", "linear"):
        yield Row("Resize", 13, [IMAGE, none, double], {"mode": mode}, kind="upsample")
    tenth = np.asarray([1, 1, 0.7, 0.3], np.float32)  # ten times 0.7 are seven, in single precision
    yield Row("Resize", 13, [f(1, 1, 10, 10), none, tenth], {"mode": "linear"}, runtime=True, tolerance=1e-5)
    yield Row("Resize", 13, [f(1, 2, 5), none, np.asarray([1, 1, 2], np.float32)], kind="interpolate")
    yield Row("Resize", 18, [IMAGE, none, none, i64(7, 4)], {"axes": [3, 2], "mode": "linear"}, kind="interpolate")
    yield Row("Resize", 18, [IMAGE, none, odd], {"mode": "cubic", "antialias": 1}, kind="interpolate", tolerance=1e-5)
    yield Row("Resize", 13, [IMAGE, none, odd], {"mode": "cubic", "exclude_outside": 1}, kind="interpolate")


def _regions() -> Iterator[Row]:
    places = np.asarray([[0, 0, 9, 9], [1.5, -3, 4, 6.5], [2, 2, 2, 2], [5, 7, 30, 12]], np.float32)
    inputs = [f(2, 3, 10, 12), places, i64(0, 1, 1, 0)]
    shape = {"output_height": 3, "output_width": 2}
    for samples in (0, 2):
        how = {**shape, "sampling_ratio": samples, "spatial_scale": 0.5}
        yield Row("RoiAlign", 10, inputs, how, kind="roi_align", runtime=True)
        yield Row("RoiAlign", 16, inputs, how, kind="roi_align", runtime=True)
    window = {"kernel_shape": [2, 2], "strides": [2, 2]}
    pooled = [f(1, 1, 2, 2), i64([[[0, 3], [9, 15]]])]
    yield Row("MaxUnpool", 11, pooled, window, kind="max_unpool", runtime=True)
    yield Row("MaxUnpool", 11, [*pooled, i64(1, 1, 5, 5)], window, kind="max_unpool")


def _classic() -> Iterator[Row]:
    ml: dict[str, Any] = {"domain": "ai.onnx.ml"}
    for norm in ("MAX", "L1", "L2"):
        yield Row("Normalizer", 1, [f(3, 4)], {"norm": norm}, kind="vector_normalizer", **ml)
    yield Row("Binarizer", 1, [f(3, 4)], {"threshold": 0.25}, kind="binarizer", **ml)
    gaps = np.asarray([[1, np.nan], [np.nan, 2]], np.float32)
    filled = {"imputed_value_floats": [5.0, 6.0], "replaced_value_float": float("nan")}
    yield Row("Imputer", 1, [gaps], filled, kind="imputer", **ml)
    yield Row("Imputer", 1, [i64([1, 2], [2, 1])], {"imputed_value_int64s": [9], "replaced_value_int64": 2}, **ml)
    yield Row("ArrayFeatureExtractor", 1, [f(3, 4), i64(3, 0)], kind="pick_features", **ml)
    words = np.asarray(["b", "a", "z"])
    named = {"keys_strings": ["a", "b"], "values_int64s": [1, 2], "default_int64": -7}
    yield Row("LabelEncoder", 2, [words], named, kind="label_encoder", **ml)
    numbers = {"keys_int64s": [1, 2], "values_floats": [0.5, 1.5], "default_float": 9.0}
    yield Row("LabelEncoder", 2, [i64(2, 1, 3)], numbers, kind="label_encoder", **ml)
    named = {"keys_int64s": [1, 2], "values_strings": ["one", "two"], "default_string": "many"}
    yield Row("LabelEncoder", 2, [i64(2, 1, 3)], named, kind="label_encoder", **ml)
    yield Row("OneHotEncoder", 1, [i64(2, 1, 3)], {"cats_int64s": [1, 2], "zeros": 1}, kind="one_hot_labels", **ml)
    pairs = {"cats_strings": ["a", "b"], "cats_int64s": [1, 2], "default_int64": -1}
    yield Row("CategoryMapper", 1, [words], pairs, kind="label_encoder", runtime=True, **ml)


ROWS = [
    *_softmaxes(), *_reductions(), *_moved_settings(), *_shapes(), *_indices(), *_elements(), *_maps(), *_resizings(),
    *_regions(), *_classic(),
]  # fmt: skip
