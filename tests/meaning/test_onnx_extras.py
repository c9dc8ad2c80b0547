"""Operators that no official case covers: what onnxruntime's optimizer and quantizer write, sequences, old scans."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from cases import DATA
from onnx import TensorProto, helper
from onnx_files import Array, assert_close, computed, exported, f, model, runtime, typed

from wexport.errors import UsageError
from wexport.evaluate import unsupported

MS = "com.microsoft"
IMAGE = f(2, 4, 5, 6, seed=1)
SQUARE = f(2, 3, 3, seed=2) + 2 * np.eye(3, dtype=np.float32)


def checked(proto: onnx.ModelProto, inputs: dict[str, Array], place: Path) -> dict[str, str]:
    """The axes of the tensors below the layer `it`, after the outputs were compared with onnxruntime's."""
    with exported(proto, place) as bundle:
        assert_close(computed(bundle, list(inputs.values())), runtime(proto, inputs))
        return {n.removeprefix("it."): t["axes"] for n, t in bundle.manifest["tensors"].items()}


def one(
    op: str, inputs: dict[str, Array], stored: dict[str, Array], order: str, outputs: int = 1, **attributes: Any
) -> onnx.ModelProto:
    """A model of one of onnxruntime's operators, called `it`."""
    names, ends = ["" if n == "-" else n for n in order.split()], [f"y{i}" for i in range(outputs)]
    node = helper.make_node(op, names, ends, name="it", domain=MS, **attributes)
    return typed(model([node], inputs, ends, stored, {"": 17, MS: 1}))


OPERATORS: dict[str, tuple[str, dict[str, Array], dict[str, Array], str, dict[str, Any]]] = {
    "gelu with a bias": ("FastGelu", {"x": f(2, 3, 4)}, {"b": f(4, seed=1)}, "x b", {}),
    "sum before the activation": (
        "FusedConv", {"x": IMAGE, "z": f(2, 3, 5, 6, seed=3)}, {"w": f(3, 4, 3, 3, seed=4, scale=0.2), "b": f(3)},
        "x w b z", {"pads": [1, 1, 1, 1], "activation": "Relu"},
    ),
    "sum behind single channels": (
        "FusedConv", {"x": IMAGE, "z": f(2, 4, 5, 6, seed=3)}, {"w": f(4, 1, 3, 3, seed=4), "b": f(4)},
        "x w b z", {"pads": [1, 1, 1, 1], "group": 4, "activation": "Relu"},
    ),
    "turned product": ("TransposeMatMul", {"x": f(2, 4, 3), "y": f(2, 4, 5, seed=1)}, {}, "x y", {"transA": 1}),
    "triangle": ("Trilu", {"x": f(2, 3, 4)}, {"k": np.asarray(1)}, "x k", {"upper": 0}),
    "samples": ("GridSample", {"x": IMAGE, "g": f(2, 3, 2, 2, seed=5)}, {}, "x g", {"padding_mode": "border"}),
    "inverse": ("Inverse", {"x": SQUARE}, {}, "x", {}),
    "distances": ("CDist", {"x": f(3, 4), "y": f(5, 4, seed=1)}, {}, "x y", {"metric": "euclidean"}),
    "squared distances": ("CDist", {"x": f(3, 4), "y": f(5, 4, seed=1)}, {}, "x y", {"metric": "sqeuclidean"}),
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATORS)
def test_operators(name: str, tmp_path: Path) -> None:
    op, inputs, stored, order, attributes = OPERATORS[name]
    checked(one(op, inputs, stored, order, **attributes), inputs, tmp_path)


HEADS, DIM = 2, 3
WIDE = 3 * HEADS * DIM


def bytes_of(*shape: int, seed: int = 0, kind: Any = np.uint8) -> Array:
    low, high = (0, 256) if kind is np.uint8 else (-128, 128)
    return np.random.default_rng(seed).integers(low, high, shape).astype(kind)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_of_integers(columns: bool, masked: bool, signed: bool, tmp_path: Path) -> None:
    kind, n = np.int8 if signed else np.uint8, WIDE if columns else 1
    stored: dict[str, Array] = {"w": bytes_of(4, WIDE, seed=1, kind=kind), "b": f(WIDE, scale=0.2)}
    scale = np.abs(f(n, seed=2, scale=0.004)) + np.float32(0.002)
    zero = bytes_of(n, seed=3, kind=kind) // 16
    stored |= {"ws": scale if columns else scale[0], "wz": zero if columns else zero[0]}
    inputs: dict[str, Array] = {
        "x": bytes_of(2, 5, 4),
        "xs": np.asarray(0.02, np.float32),
        "xz": np.asarray(120, np.uint8),
    }
    order = "x w b xs ws - xz wz"
    if masked:
        inputs["m"], order = np.asarray([3, 5], np.int32), "x w b xs ws m xz wz"
    axes = checked(one("QAttention", inputs, stored, order, num_heads=HEADS), inputs, tmp_path)
    assert axes["query.kernel"] == "in head dim"
    assert axes["value.kernel_scale" if columns else "kernel_scale"] == ("head dim" if columns else "")


def test_embeddings_of_integers(tmp_path: Path) -> None:
    stored: dict[str, Array] = {}
    for i, (name, shape) in enumerate({"w": (9, 4), "p": (7, 4), "s": (2, 4), "g": (4,), "o": (4,)}.items()):
        stored[name] = bytes_of(*shape, seed=i)
        stored[f"{name}s"], stored[f"{name}z"] = np.asarray(0.01 + 0.002 * i, np.float32), np.asarray(100 + i, np.uint8)
    inputs: dict[str, Array] = {"ids": np.asarray([[1, 8, 2], [0, 3, 3]], np.int32)}
    inputs["kinds"] = np.asarray([[0, 0, 1], [1, 1, 1]], np.int32)
    order = "ids kinds w p s g o - ws ps ss gs os wz pz sz gz oz"
    proto = one("QEmbedLayerNormalization", inputs, stored, order, 2, epsilon=1e-5)
    axes = checked(typed(proto, y1=TensorProto.INT32), inputs, tmp_path)
    assert (axes["embedding"], axes["scale"], axes["scale_scale"]) == ("token dim", "channel", "")


def port(name: str, *shape: Any) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


@pytest.mark.parametrize("lengths", [None, [2, 4, 1]])
@pytest.mark.parametrize("backwards", [False, True])
def test_scan_over_batches(lengths: list[int] | None, backwards: bool, tmp_path: Path) -> None:
    """The Scan of opset 8."""
    nodes = [helper.make_node("Add", ["s", "t"], ["u"]), helper.make_node("Mul", ["u", "t"], ["v"])]
    body = helper.make_graph(nodes, "body", [port("s", 2), port("t", 2)], [port("u", 2), port("v", 2)])
    inputs = {"first": f(3, 2), "x": f(3, 4, 2, seed=1)}
    if lengths is not None:
        inputs["n"] = np.asarray(lengths)
    scan = helper.make_node(
        "Scan", ["" if lengths is None else "n", "first", "x"], ["last", "all"], body=body, num_scan_inputs=1,
        **({"directions": [1]} if backwards else {}),
    )  # fmt: skip
    proto = typed(model([scan], inputs, ["last", "all"], None, {"": 8}))
    proto.ir_version = 3
    checked(proto, inputs, tmp_path)


def test_map_of_a_sequence(tmp_path: Path) -> None:
    """An item of two sequences and a value from outside become items of two."""
    nodes = [helper.make_node("Add", ["a", "b"], ["c"]), helper.make_node("Mul", ["a", "w"], ["d"])]
    body = helper.make_graph(nodes, "body", [port("a"), port("b")], [port("c", None), port("d", None)])
    outer = [
        helper.make_node("SequenceConstruct", ["x", "y"], ["one"]),
        helper.make_node("SequenceConstruct", ["y", "x"], ["two"]),
        helper.make_node("SequenceMap", ["one", "two"], ["sums", "products"], body=body),
        helper.make_node("ConcatFromSequence", ["sums"], ["p"], axis=0),
        helper.make_node("ConcatFromSequence", ["products"], ["q"], axis=0),
    ]
    inputs = {"x": f(3), "y": f(3, seed=1)}
    proto = typed(model(outer, inputs, ["p", "q"], {"w": f(3, seed=2)}, {"": 17}))
    with exported(proto, tmp_path) as bundle:
        p, q = computed(bundle, list(inputs.values()))
    x, y = inputs.values()
    np.testing.assert_allclose(p, np.tile(x + y, 2), rtol=1e-6)
    np.testing.assert_allclose(q, np.concatenate([x, y]) * np.tile(f(3, seed=2), 2), rtol=1e-6)


LSTM = {"x": f(3, 2, 4), "w": f(1, 8, 4), "r": f(1, 8, 2)}
# the inputs, the attributes, and the word that no one knows
WORDS: dict[str, tuple[dict[str, Array], dict[str, Any], str]] = {
    "Resize": ({"x": IMAGE, "r": f(0), "s": np.ones(4, np.float32)}, {"mode": "lanczos"}, "lanczos"),
    "MaxPool": ({"x": IMAGE}, {"kernel_shape": [2, 2], "auto_pad": "SAME"}, "SAME"),
    "Pad": ({"x": IMAGE, "p": np.ones(8, np.int64)}, {"mode": "mirror"}, "mirror"),
    "DepthToSpace": ({"x": IMAGE}, {"blocksize": 2, "mode": "RCD"}, "RCD"),
    "ScatterND": ({"x": f(3), "i": np.asarray([[1]]), "u": f(1)}, {"reduction": "mean"}, "mean"),
    "GridSample": ({"x": IMAGE, "g": f(2, 3, 2, 2)}, {"padding_mode": "wrap"}, "wrap"),
    "LSTM": (LSTM, {"activations": ["Sine", "Tanh", "Tanh"], "hidden_size": 2}, "Sine"),
}


@pytest.mark.parametrize("op", WORDS)
def test_words_of_later_days_are_named_beforehand(op: str, tmp_path: Path) -> None:
    inputs, attributes, word = WORDS[op]
    node = helper.make_node(op, list(inputs), ["y"], name="it", **attributes)
    with exported(typed(model([node], inputs, ["y"], None, {"": 20})), tmp_path) as bundle:
        (reason,) = unsupported(bundle.manifest)
    assert re.match(rf"it \({op}\) is no layer that wexport knows: {op}: .*'{word}'", reason)


def test_what_misfits_is_said_with_its_layer(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["h"]), helper.make_node("MatMul", ["h", "w"], ["y"], name="it")]
    with (
        exported(typed(model(nodes, {"x": f(2, 4)}, ["y"], {"w": f(4, 3)})), tmp_path) as bundle,
        pytest.raises(UsageError, match=r"^it: computing this dense failed for "),
    ):
        computed(bundle, [f(2, 5)])


TEXTS = np.asarray([["The cat sat, the dog ran"], ["far, FAR away"], [""], ["dog-dog_1"]])


TOKENS: list[dict[str, Any]] = [
    {"tokenexp": "[a-zA-Z0-9_]+"}, {"tokenexp": "[a-z]"}, {"tokenexp": "[a-z ]+", "mincharnum": 4},
]  # fmt: skip


@pytest.mark.parametrize("settings", TOKENS, ids=str)
def test_tokens(settings: dict[str, Any], tmp_path: Path) -> None:
    whole = {"mark": 0, "pad_value": "#", "mincharnum": 1, **settings}
    proto = of_texts([helper.make_node("Tokenizer", ["x"], ["y"], domain=MS, **whole)], "y")
    with exported(proto, tmp_path) as bundle:
        (found,), (wanted,) = computed(bundle, [TEXTS]), runtime(proto, {"x": TEXTS})
        assert found.tolist() == wanted.tolist()


def of_texts(nodes: list[onnx.NodeProto], output: str, kind: int = TensorProto.STRING) -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.STRING, TEXTS.shape)
    graph = helper.make_graph(nodes, "g", [x], [helper.make_tensor_value_info(output, kind, None)])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(MS, 1), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


@pytest.mark.parametrize("pattern", ["(a+)+", "[a-z]+|x", "[^a]+", "[a]{9}", ".+"])
def test_patterns_stay_whole(pattern: str, tmp_path: Path) -> None:
    settings = {"mark": 0, "pad_value": "", "mincharnum": 1, "tokenexp": pattern}
    node = helper.make_node("Tokenizer", ["x"], ["y"], name="it", domain=MS, **settings)
    with exported(of_texts([node], "y"), tmp_path) as bundle:
        (reason,) = unsupported(bundle.manifest)
        assert pattern in reason


def test_words_that_are_counted(tmp_path: Path) -> None:
    """A file of scikit-learn's: small letters, words, counts, their weights. Its runtime wants a locale for the first
    step, which a machine may not have: it gets small letters."""
    proto = onnx.load(DATA / "onnx" / "D_sklearn" / "tfidf.onnx")
    texts = np.asarray(["The cat sat, the dog", "far ran FAR", "nothing of it", "dog"])
    with exported(proto, tmp_path) as bundle:
        (found,) = computed(bundle, [texts])
    node = next(n for n in proto.graph.node if n.op_type == "StringNormalizer")
    node.CopyFrom(helper.make_node("Identity", node.input, node.output))
    (wanted,) = runtime(proto, {proto.graph.input[0].name: np.char.lower(texts)})
    assert_close([found], [wanted])
    assert found[0].any()


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_maxima_of_regions(scale: float, tmp_path: Path) -> None:
    regions = [[0, 1, 1, 4, 3], [1, 0, 0, 5, 4], [1, 3, 2, 3, 2], [0, 4, 3, 9, 9], [0, 2.4, 1.6, 3.2, 4.4]]
    inputs = {"x": IMAGE, "r": np.asarray(regions, np.float32)}
    node = helper.make_node("MaxRoiPool", ["x", "r"], ["y"], pooled_shape=[2, 3], spatial_scale=scale)
    checked(typed(model([node], inputs, ["y"], None, {"": 17})), inputs, tmp_path)


def plain(
    op: str, inputs: dict[str, Array], stored: dict[str, Array], order: str, **attributes: Any
) -> onnx.ModelProto:
    """A model of one of ONNX' operators."""
    node = helper.make_node(op, ["" if n == "-" else n for n in order.split()], ["y"], name="it", **attributes)
    return typed(model([node], inputs, ["y"], stored, {"": 17}))


LINE, KERNEL = {"x": f(1, 2, 3)}, {"w": f(2, 2, 2, seed=1)}
SMALL = {"x": f(1, 1, 2, 5)}
# what random graphs have found
FOUND: dict[str, tuple[onnx.ModelProto, dict[str, Array]]] = {
    "a size that is larger than the whole": (
        plain("ConvTranspose", LINE, KERNEL, "x w", strides=[3], output_shape=[10]), LINE),
    "a size that is smaller, more cut off in front": (
        plain("ConvTranspose", LINE, KERNEL, "x w", strides=[2], output_shape=[5], auto_pad="SAME_LOWER"), LINE),
    "a size of a whole that has more behind": (
        plain("ConvTranspose", LINE, KERNEL, "x w", strides=[2], output_padding=[1], output_shape=[4]), LINE),
    "the same length": (plain("ConvTranspose", LINE, KERNEL, "x w", strides=[1], auto_pad="SAME_UPPER"), LINE),
    "slopes of a batch": (plain("PRelu", {"x": f(2, 1)}, {"s": f(2, 1, seed=1)}, "x s"), {"x": f(2, 1)}),
    "slopes of channels": (plain("PRelu", {"x": f(2, 3, 4)}, {"s": f(3, 1, seed=1)}, "x s"), {"x": f(2, 3, 4)}),
    "all axes from one on": (
        plain("LayerNormalization", {"x": f(2, 3, 4)}, {"s": f(3, 4, seed=1)}, "x s", axis=1), {"x": f(2, 3, 4)}),
    "an axis of one element": (
        plain("Resize", SMALL, {"s": np.asarray([1, 1, 0.5, 0.5], np.float32)}, "x - s", mode="cubic",
              coordinate_transformation_mode="pytorch_half_pixel"), SMALL),
    "places that are nearly even": (
        plain("Resize", SMALL, {"s": np.asarray([1, 1, 1, 0.6], np.float32)}, "x - s", mode="nearest",
              coordinate_transformation_mode="half_pixel", nearest_mode="floor"), SMALL),
}  # fmt: skip


@pytest.mark.parametrize("shapes", ["told", "of free lengths", "unknown"])
@pytest.mark.parametrize("name", FOUND)
def test_what_random_graphs_have_found(name: str, shapes: str, tmp_path: Path) -> None:
    proto, inputs = FOUND[name]
    known = onnx.ModelProto()
    known.CopyFrom(proto)
    for port in known.graph.input if shapes != "told" else ():
        if shapes == "unknown":
            port.type.tensor_type.ClearField("shape")
            continue
        for i, dim in enumerate(port.type.tensor_type.shape.dim):
            dim.dim_param = f"n{i}"
    checked(known, inputs, tmp_path)
