"""Attention and fused operators: what their tensors are called, and that they compute what onnxruntime computes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator
from onnx_files import assert_close, computed, exported, f, model, runtime, typed

Array = np.ndarray[Any, Any]
MS = "com.microsoft"
_REFERENCE = re.compile(r"`([^`]+)`")
HEADS, DIM = 2, 3
X = f(2, 5, 4, seed=1)
WIDE = HEADS * DIM


def case(
    op: str, inputs: dict[str, Array], stored: dict[str, Array], order: str, outputs: int = 1, domain: str = MS,
    **attributes: Any,
) -> tuple[onnx.ModelProto, dict[str, Array]]:  # fmt: skip
    """A model of one operator called `it`; `order` lists its operands, `-` for one that is left out."""
    names = ["" if n == "-" else n for n in order.split()]
    ends = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(op, names, ends, name="it", domain=domain, **attributes)
    return typed(model([node], inputs, ends, stored, {"": 23, MS: 1})), inputs


def checked(proto: onnx.ModelProto, inputs: dict[str, Array], place: Path, wanted: Any = None) -> dict[str, str]:
    """The axes of its tensors, after its outputs and its equations were compared."""
    with exported(proto, place) as bundle:
        assert_close(computed(bundle, list(inputs.values())), wanted or runtime(proto, inputs))
        own = {n.removeprefix("it.") for n in bundle.manifest["tensors"]}
        lines = bundle.manifest["equations"].get("it", [])
        assert {n for line in lines for n in _REFERENCE.findall(line)} == own
        return {n.removeprefix("it."): t["axes"] for n, t in bundle.manifest["tensors"].items()}


# -- projections in one matrix -----------------------------------------------------------------------------------------

PACKED = {"w": f(4, 3 * WIDE, seed=2), "b": f(3 * WIDE, seed=3)}
MASKS: dict[str, Array] = {
    "keys": np.asarray([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], np.int32),
    "pairs": np.tril(np.ones((2, 5, 5), np.int32)),
    "lengths": np.asarray([3, 5], np.int32),
    "ends": np.asarray([5, 4, 1, 0], np.int32),
}


@pytest.mark.parametrize("mask", [None, *MASKS])
@pytest.mark.parametrize("attributes", [{}, {"unidirectional": 1}, {"scale": 0.3}], ids=str)
def test_packed_attention(mask: str | None, attributes: dict[str, Any], tmp_path: Path) -> None:
    inputs = {"x": X} if mask is None else {"x": X, "m": MASKS[mask]}
    order = "x w b" if mask is None else "x w b m"
    proto, inputs = case("Attention", inputs, PACKED, order, num_heads=HEADS, **attributes)
    axes = checked(proto, inputs, tmp_path)
    parts = ("query", "key", "value")
    assert axes == {f"{p}.kernel": "in head dim" for p in parts} | {f"{p}.bias": "head dim" for p in parts}


@pytest.mark.parametrize(
    ("name", "value", "order", "outputs"),
    [
        ("past", f(2, 2, HEADS, 3, DIM, seed=4), "x w b - past", 2),
        ("add", f(2, HEADS, 5, 5, seed=5), "x w b - - add", 1),
    ],
    ids=["past", "bias"],
)
@pytest.mark.parametrize("unidirectional", [0, 1])
def test_packed_attention_with(
    name: str, value: Array, order: str, outputs: int, unidirectional: int, tmp_path: Path
) -> None:
    attributes = {"num_heads": HEADS, "unidirectional": unidirectional}
    proto, inputs = case("Attention", {"x": X, name: value}, PACKED, order, outputs, **attributes)
    checked(proto, inputs, tmp_path)


def test_the_parts_of_packed_weights(tmp_path: Path) -> None:
    proto, _ = case("Attention", {"x": X}, PACKED, "x w b", num_heads=HEADS)
    with exported(proto, tmp_path) as bundle:
        for i, part in enumerate(("query", "key", "value")):
            columns = slice(i * WIDE, (i + 1) * WIDE)
            np.testing.assert_array_equal(bundle[f"it.{part}.kernel"].reshape(4, WIDE), PACKED["w"][:, columns])
            np.testing.assert_array_equal(bundle[f"it.{part}.bias"].reshape(-1), PACKED["b"][columns])


def test_parts_of_unequal_sizes_stay_whole(tmp_path: Path) -> None:
    weights = {"w": f(4, 2 * WIDE + 4, seed=2), "b": f(2 * WIDE + 4, seed=3)}
    sizes = [WIDE, WIDE, 4]
    proto, inputs = case("Attention", {"x": X}, weights, "x w b", num_heads=HEADS, qkv_hidden_sizes=sizes)
    assert checked(proto, inputs, tmp_path) == {"kernel": "in out", "bias": "out"}


QUERY, KEY, VALUE = f(2, 5, WIDE, seed=6), f(2, 4, WIDE, seed=7), f(2, 4, WIDE, seed=8)


@pytest.mark.parametrize("attributes", [{}, {"scale": 0.3}], ids=str)
def test_multi_head(attributes: dict[str, Any], tmp_path: Path) -> None:
    inputs = {"q": QUERY, "k": KEY, "v": VALUE}
    proto, inputs = case("MultiHeadAttention", inputs, PACKED, "q k v b", num_heads=HEADS, **attributes)
    assert checked(proto, inputs, tmp_path) == {f"{p}.bias": "head dim" for p in ("query", "key", "value")}


def test_multi_head_with_a_mask_and_past(tmp_path: Path) -> None:
    inputs = {"q": QUERY, "k": f(2, 5, WIDE, seed=7), "v": f(2, 5, WIDE, seed=8), "add": f(1, HEADS, 5, 8, seed=9)}
    inputs |= {"pk": f(2, HEADS, 3, DIM, seed=10), "pv": f(2, HEADS, 3, DIM, seed=11)}
    proto, inputs = case("MultiHeadAttention", inputs, {}, "q k v - - add pk pv", 3, num_heads=HEADS)
    assert checked(proto, inputs, tmp_path) == {}


def test_multi_head_packed_values(tmp_path: Path) -> None:
    """onnxruntime computes them on other devices than the CPU: compared with the same values apart."""
    whole = f(2, 5, HEADS, 3, DIM)
    parts = {name: whole[:, :, :, i].reshape(2, 5, WIDE) for i, name in enumerate("qkv")}
    apart, _ = case("MultiHeadAttention", parts, PACKED, "q k v b", num_heads=HEADS)
    proto, inputs = case("MultiHeadAttention", {"q": whole}, PACKED, "q - - b", num_heads=HEADS)
    checked(proto, inputs, tmp_path, runtime(apart, parts))


def test_multi_head_padding(tmp_path: Path) -> None:
    inputs = {"q": QUERY, "k": KEY, "v": VALUE, "m": np.asarray([[1, 1, 0, 0], [1, 1, 1, 1]], np.int32)}
    proto, inputs = case("MultiHeadAttention", inputs, {}, "q k v - m", num_heads=HEADS)
    checked(proto, inputs, tmp_path)


# -- fewer heads of keys, with a cache ---------------------------------------------------------------------------------


def _cache(positions: int, half: int) -> dict[str, Array]:
    angle = np.arange(positions)[:, None] / 10.0 ** np.arange(half)
    return {"cos": np.cos(angle).astype(np.float32), "sin": np.sin(angle).astype(np.float32)}


@pytest.mark.parametrize("rotary", [{}, {"do_rotary": 1}, {"do_rotary": 1, "rotary_interleaved": 1}], ids=str)
@pytest.mark.parametrize("more", [{}, {"softcap": 0.7}, {"local_window_size": 2}], ids=str)
@pytest.mark.parametrize("past", [0, 3])
def test_grouped_queries(past: int, rotary: dict[str, Any], more: dict[str, Any], tmp_path: Path) -> None:
    """4 heads of queries, 2 of keys, of 16 numbers each; a prompt, or one more step."""
    new = 1 if past else 5
    inputs: dict[str, Array] = {"q": f(2, new, 64), "k": f(2, new, 32, seed=1), "v": f(2, new, 32, seed=2)}
    if past:
        inputs |= {"pk": f(2, 2, past, 16, seed=3), "pv": f(2, 2, past, 16, seed=4)}
    stored = {"lengths": np.full(2, past + new - 1, np.int32), "total": np.asarray(past + new, np.int32)}
    order = f"q k v {'pk pv' if past else '- -'} lengths total"
    if rotary:
        stored |= _cache(16, 8)
        order += " cos sin"
    attributes = {"num_heads": 4, "kv_num_heads": 2, **rotary, **more}
    proto, inputs = case("GroupQueryAttention", inputs, stored, order, 3, **attributes)
    axes = checked(proto, inputs, tmp_path)
    assert axes == ({"cos_cache": "position dim", "sin_cache": "position dim"} if rotary else {})


def test_grouped_queries_packed(tmp_path: Path) -> None:
    """Queries, keys and values in one; sequences of two lengths."""
    stored = {"lengths": np.asarray([4, 2], np.int32), "total": np.asarray(5, np.int32)}
    attributes = {"num_heads": 4, "kv_num_heads": 2}
    proto, inputs = case("GroupQueryAttention", {"q": f(2, 5, 128)}, stored, "q - - - - lengths total", 1, **attributes)
    with exported(proto, tmp_path) as bundle:
        (found,), (wanted,) = computed(bundle, list(inputs.values())), runtime(proto, inputs)
        assert_close([found[0], found[1, :3]], [wanted[0], wanted[1, :3]])  # behind their ends anything may stand


# -- rotation ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("domain", ["", MS])
@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("shape", [(2, 5, 16), (2, 2, 5, 8)])
def test_rotary(domain: str, interleaved: int, shape: tuple[int, ...], tmp_path: Path) -> None:
    positions = np.asarray([[0, 1, 2, 3, 4], [3, 4, 5, 6, 7]], np.int64)
    order = "x p cos sin" if domain else "x cos sin p"
    extra = {"num_heads": 2} if len(shape) == 3 else {}
    inputs = {"x": f(*shape), "p": positions}
    case_of = case("RotaryEmbedding", inputs, _cache(8, 4), order, domain=domain, interleaved=interleaved, **extra)
    wanted = None if domain else ReferenceEvaluator(case_of[0]).run(None, inputs)
    axes = checked(*case_of, tmp_path, wanted)
    assert axes == {"cos_cache": "position dim", "sin_cache": "position dim"}


def test_rotary_of_some_features(tmp_path: Path) -> None:
    inputs = {"x": f(2, 2, 5, 12)}
    cache = {k: np.stack([v[:5]] * 2) for k, v in _cache(8, 4).items()}
    proto, inputs = case("RotaryEmbedding", inputs, cache, "x cos sin", domain="", rotary_embedding_dim=8)
    axes = checked(proto, inputs, tmp_path, ReferenceEvaluator(proto).run(None, inputs))
    assert axes["cos_cache"] == "batch position dim"


def test_rotary_from_a_first_position(tmp_path: Path) -> None:
    inputs = {"x": f(2, 5, 16), "p": np.asarray([2], np.int64)}
    proto, inputs = case("RotaryEmbedding", inputs, _cache(8, 4), "x p cos sin", num_heads=2)
    checked(proto, inputs, tmp_path)


# -- sums and embeddings, normalized -----------------------------------------------------------------------------------

NORM = {"g": f(4, seed=2), "b": f(4, seed=3), "bias": f(4, seed=4)}
SKIP = {"x": X, "s": f(2, 5, 4, seed=5)}


def test_skip_layer_norm(tmp_path: Path) -> None:
    proto, inputs = case("SkipLayerNormalization", SKIP, NORM, "x s g b bias", epsilon=1e-3)
    assert checked(proto, inputs, tmp_path) == dict.fromkeys(("scale", "offset", "bias"), "channel")


def test_skip_rms_norm(tmp_path: Path) -> None:
    weights = {k: NORM[k] for k in ("g", "bias")}
    names = ["y0", "", "", "y1"]
    node = helper.make_node("SkipSimplifiedLayerNormalization", ["x", "s", "g", "bias"], names, name="it", domain=MS)
    proto = typed(model([node], SKIP, ["y0", "y1"], weights, {"": 17, MS: 1}))
    assert checked(proto, SKIP, tmp_path) == dict.fromkeys(("scale", "bias"), "channel")


def test_embed_norm(tmp_path: Path) -> None:
    inputs = {"ids": np.asarray([[1, 2, 3], [4, 0, 0]], np.int32), "seg": np.asarray([[0, 0, 1], [1, 0, 0]], np.int32)}
    weights = {"word": f(6, 4), "pos": f(5, 4, seed=1), "type": f(2, 4, seed=2), "g": f(4, seed=3), "b": f(4, seed=4)}
    order = "ids seg word pos type g b"
    proto, inputs = case("EmbedLayerNormalization", inputs, weights, order, 2, epsilon=1e-3)
    typed(proto, y1=onnx.TensorProto.INT32)
    assert checked(proto, inputs, tmp_path) == {
        "embedding": "token dim", "position_embedding": "position dim", "segment_embedding": "segment dim",
        "scale": "channel", "offset": "channel",
    }  # fmt: skip


# -- products ----------------------------------------------------------------------------------------------------------

W = f(4, 3, seed=2)


@pytest.mark.parametrize("attributes", [{}, {"alpha": 0.5}, {"transB": 1, "alpha": 2.0}], ids=str)
def test_fused_matmul(attributes: dict[str, Any], tmp_path: Path) -> None:
    weights = {"w": W.T.copy() if attributes.get("transB") else W}
    proto, inputs = case("FusedMatMul", {"x": X}, weights, "x w", **attributes)
    assert checked(proto, inputs, tmp_path) == {"kernel": "in out"}
    with exported(proto, tmp_path / "again") as bundle:
        np.testing.assert_array_equal(bundle["it.kernel"], W)


@pytest.mark.parametrize("flag", ["transA", "transB", "transBatchA", "transBatchB"])
def test_fused_matmul_of_two_values(flag: str, tmp_path: Path) -> None:
    a, b = f(3, 4, 5), f(3, 5, 6, seed=1)
    swap = {"transA": (0, 2, 1), "transB": (0, 2, 1), "transBatchA": (1, 0, 2), "transBatchB": (1, 0, 2)}[flag]
    inputs = {"a": a.transpose(swap) if flag[-1] == "A" else a, "b": b.transpose(swap) if flag[-1] == "B" else b}
    inputs = {k: np.ascontiguousarray(v) for k, v in inputs.items()}
    proto, inputs = case("FusedMatMul", inputs, {}, "a b", alpha=0.5, **{flag: 1})
    checked(proto, inputs, tmp_path)


@pytest.mark.parametrize(
    ("word", "parameters"),
    [("Relu", {}), ("LeakyRelu", {"activation_alpha": 0.2}),
     ("HardSigmoid", {"activation_alpha": 0.3, "activation_beta": 0.4})],
)  # fmt: skip
def test_fused_gemm(word: str, parameters: dict[str, Any], tmp_path: Path) -> None:
    attributes = {"activation": word, "alpha": 0.5, "beta": 2.0, **parameters}
    proto, inputs = case("FusedGemm", {"x": f(5, 4)}, {"w": W, "b": f(3)}, "x w b", **attributes)
    assert checked(proto, inputs, tmp_path) == {"kernel": "in out", "bias": "out"}


def test_fused_conv(tmp_path: Path) -> None:
    weights = {"w": f(4, 3, 2, 2), "b": f(4, seed=1)}
    attributes = {"activation": "LeakyRelu", "activation_params": [0.3], "pads": [1, 0, 0, 1]}
    proto, inputs = case("FusedConv", {"x": f(1, 3, 5, 6)}, weights, "x w b", **attributes)
    assert checked(proto, inputs, tmp_path) == {"kernel": "height width in out", "bias": "out"}


@pytest.mark.parametrize(
    ("equation", "x", "w", "axes"),
    [
        ("bsi,io->bso", (2, 3, 4), (4, 5), "in_i out_o"),
        ("bsi,ihd->bshd", (2, 3, 4), (4, 2, 3), "in_i out_h out_d"),
        ("bhi,hio->bho", (2, 3, 4), (3, 4, 5), "each_h in_i out_o"),
        ("b s i , o i -> b o s", (2, 3, 4), (5, 4), "out_o in_i"),
    ],
)
@pytest.mark.parametrize("first", [False, True])
def test_einsum_with_a_weight(
    equation: str, x: tuple[int, ...], w: tuple[int, ...], axes: str, first: bool, tmp_path: Path
) -> None:
    if first:
        left, _, right = equation.partition("->")
        a, b = left.split(",")
        equation = f"{b},{a}->{right}"
    inputs, weights = {"x": f(*x)}, {"w": f(*w, seed=1)}
    order = "w x" if first else "x w"
    proto, inputs = case("Einsum", inputs, weights, order, domain="", equation=equation)
    assert checked(proto, inputs, tmp_path) == {"kernel": axes}
    with exported(proto, tmp_path / "again") as bundle:
        np.testing.assert_array_equal(bundle["it.kernel"], weights["w"])
        assert bundle.manifest["layers"]["it"]["kind"] == "einsum_dense"


def test_einsum_of_two_values(tmp_path: Path) -> None:
    inputs = {"x": f(2, 3, 4), "z": f(2, 4, 5)}
    proto, inputs = case("Einsum", inputs, {}, "x z", domain="", equation="bij,bjk->bik")
    assert checked(proto, inputs, tmp_path) == {}


# -- convolutions of their own kind ------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["none", "silu"])
def test_causal_conv(activation: str, tmp_path: Path) -> None:
    inputs, weights = {"x": f(2, 4, 6), "st": f(2, 4, 2, seed=3)}, {"w": f(4, 1, 3, seed=1), "b": f(4, seed=2)}
    node = helper.make_node("CausalConvWithState", ["x", "w", "b", "st"], ["y", "s"], name="it", activation=activation)
    proto = typed(model([node], inputs, ["y", "s"], weights, {"": 27}))
    axes = checked(proto, inputs, tmp_path, ReferenceEvaluator(proto).run(None, inputs))
    assert axes == {"kernel": "length channel", "bias": "channel"}


@pytest.mark.parametrize("stored_offset", [False, True])
def test_deformable_conv(stored_offset: bool, tmp_path: Path) -> None:
    offset, mask = f(1, 16, 4, 4, seed=2), np.abs(f(1, 8, 4, 4, seed=3))
    weights = {"w": f(4, 2, 2, 2, seed=1), "b": f(4, seed=4)} | ({"o": offset} if stored_offset else {})
    inputs = {"x": f(1, 4, 5, 5)} | ({} if stored_offset else {"o": offset}) | {"m": mask}
    attributes = {"group": 2, "offset_group": 2, "kernel_shape": [2, 2]}
    proto, inputs = case("DeformConv", inputs, weights, "x w o b m", domain="", **attributes)
    with exported(proto, tmp_path) as bundle:
        wanted = ReferenceEvaluator(proto).run(None, inputs)
        assert_close(computed(bundle, list(inputs.values())), wanted)
        assert bundle.manifest["tensors"]["it.kernel"]["axes"] == "height width in out"
        assert "it.offset" in bundle.manifest["tensors"] or not stored_offset
