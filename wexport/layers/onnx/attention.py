"""Attention and other fused operators, of ONNX and of onnxruntime (com.microsoft).

    Attention (com.microsoft)       weights "in (part head dim)", bias "(part head dim)"; of unequal sizes: whole
    MultiHeadAttention              bias "(part head dim)"
    GroupQueryAttention, RotaryEmbedding  cos_cache, sin_cache "position dim"
    SkipLayerNormalization, SkipSimplifiedLayerNormalization  gamma, beta, bias "channel"
    EmbedLayerNormalization         word_embedding "token dim", position_embedding, segment_embedding; gamma, beta
    CausalConvWithState             weight "channel 1 length", bias "channel"
    DeformConv                      W "out in height width", B "out"

The parts are query, key and value; `in` is of x. Attention, LinearAttention, SwiGLU and TensorScatter have no weights.
Sources: onnx/docs/Operators.md; onnxruntime/docs/ContribOperators.md (1.32).
"""

from __future__ import annotations

from collections.abc import Sequence

from wexport.layers.activation import LINEAR
from wexport.layers.onnx import Argument, Lowered, Node, Operand, Own, UnclearError, onnx
from wexport.layout import Rule
from wexport.model import Json

_MS = "com.microsoft"
_PARTS = ("query", "key", "value")
_SCORES = ("raw", "raw", "masked", "weights")


def _taken(**args: Argument) -> dict[str, Argument]:
    """The arguments that are there."""
    return {role: arg for role, arg in args.items() if arg is not None}


def _weights(pairs: Sequence[tuple[str, Operand | None, str]]) -> tuple[tuple[Own, ...], dict[str, Argument]]:
    """Operands with their axes: weights where they are stored, else arguments."""
    own: list[Own] = []
    args: dict[str, Argument] = {}
    for role, operand, axes in pairs:
        if operand is None:
            continue
        if not operand.stored or operand.rank != len(axes.split()):
            args[role] = operand
            continue
        kept = " ".join(w for w in axes.split() if w != "1")
        own.append(Own(operand, role, Rule.parse(f"{axes} -> {role}: {kept}")))
    return tuple(own), args


def _scale(node: Node) -> float | None:
    """The scale of the products; zero, as none, is one over the root of the dimension."""
    return node.number("scale") or None


def _unused(node: Node, *names: str) -> None:
    for name in names:
        if node.get(name):
            raise UnclearError(f"{node.op}: {name} is not understood")


def _missing(node: Node, *places: int) -> None:
    for i in places:
        if node.operand(i) is not None:
            raise UnclearError(f"{node.op}: its input {i} is not understood")


@onnx("Attention")
def _attention(node: Node) -> Lowered:
    heads, fewer = (node.get(name) or None for name in ("q_num_heads", "kv_num_heads"))
    attributes: dict[str, Json] = {"heads": heads, "kv_heads": fewer, "scale": _scale(node)}
    attributes |= {"causal": bool(node.get("is_causal", 0)), "softcap": float(node.get("softcap", 0.0))}
    attributes["scores"] = _SCORES[int(node.get("qk_matmul_output_mode", 0))]
    window = [int(node.get(f"{side}_window_size", -1)) for side in ("left", "right")]
    if window != [-1, -1]:
        attributes["window"] = window
    args = _taken(
        query=node.need(0), key=node.need(1), value=node.need(2), mask=node.operand(3), past_key=node.operand(4),
        past_value=node.operand(5), lengths=node.operand(6),
    )  # fmt: skip
    return Lowered("scaled_dot_product", attributes, args, (), ("y", "present_key", "present_value", "scores"))


@onnx("LinearAttention")
def _linear_attention(node: Node) -> Lowered:
    attributes: dict[str, Json] = {"heads": int(node.get("q_num_heads")), "kv_heads": int(node.get("kv_num_heads"))}
    attributes |= {"scale": _scale(node), "update": node.word("update_rule", "gated_delta", "linear", "gated", "delta")}
    args = _taken(
        query=node.need(0), key=node.need(1), value=node.need(2), past_state=node.operand(3), decay=node.operand(4),
        beta=node.operand(5),
    )  # fmt: skip
    return Lowered("linear_attention", attributes, args, (), ("y", "present_state"))


# -- onnxruntime's -----------------------------------------------------------------------------------------------------


def _part_rule(rows: str, role: str, heads: int) -> Rule:
    left, right = f"{rows} (part head dim)".strip(), f"{rows} head dim".strip()
    return Rule(left, f"{{part}}.{role}: {right}", {"part": _PARTS}, sizes={"head": heads})


@onnx("Attention", domain=_MS)
def _packed_attention(node: Node) -> Lowered:
    _unused(node, "do_rotary", "past_present_share_buffer")
    x, kernel, bias = node.need(0), node.need(1), node.operand(2)
    if not kernel.stored or kernel.rank != 2 or (bias is not None and not bias.stored):
        raise UnclearError("Attention: its weights are computed when the model runs")
    heads, total = int(node.get("num_heads")), (kernel.shape or (0, 0))[1] or 0
    sizes = [int(n) for n in node.get("qkv_hidden_sizes") or [total // 3] * 3]
    attributes: dict[str, Json] = {"heads": heads, "scale": _scale(node), "causal": bool(node.get("unidirectional", 0))}
    attributes["masked"] = float(node.get("mask_filter_value", -10000.0))
    if len(set(sizes)) > 1 or total % (3 * heads):
        attributes["sizes"] = sizes
        rules = [Rule.parse("in out -> kernel: in out"), Rule.parse("out -> bias: out")]
    else:
        rules = [_part_rule("in", "kernel", heads), _part_rule("", "bias", heads)]
    own = [Own(o, role, rule) for o, role, rule in zip((kernel, bias), ("kernel", "bias"), rules, strict=True) if o]
    args = _taken(x=x, padding=node.operand(3), past=node.operand(4), mask=node.operand(5))
    return Lowered("projected_attention", attributes, args, tuple(own), ("y", "present"))


@onnx("MultiHeadAttention", domain=_MS)
def _multi_head(node: Node) -> Lowered:
    _missing(node, 8, 9)
    query, bias, heads = node.need(0), node.operand(3), int(node.get("num_heads"))
    attributes: dict[str, Json] = {"heads": heads, "kv_heads": heads, "scale": _scale(node), "softcap": 0.0}
    attributes |= {"causal": bool(node.get("unidirectional", 0))}
    attributes["masked"] = float(node.get("mask_filter_value", -10000.0))
    own: tuple[Own, ...] = ()
    if bias is not None:
        own = (_packed_bias(node, query, bias, heads, attributes),)
    args = _taken(
        query=query, key=node.operand(1), value=node.operand(2), padding=node.operand(4), mask=node.operand(5),
        past_key=node.operand(6), past_value=node.operand(7),
    )  # fmt: skip
    return Lowered("scaled_dot_product", attributes, args, own, ("y", "present_key", "present_value", "scores"))


def _packed_bias(node: Node, query: Operand, bias: Operand, heads: int, attributes: dict[str, Json]) -> Own:
    total = (bias.shape or (None,))[0]
    shape = query.shape or ()
    hidden = (
        shape[-1] if len(shape) == 3 else shape[2] * shape[4] if len(shape) == 5 and shape[2] and shape[4] else None
    )
    if not bias.stored or total is None or hidden is None:
        raise UnclearError("MultiHeadAttention: its bias' parts are not known")
    if total == 3 * hidden:
        return Own(bias, "bias", _part_rule("", "bias", heads))
    attributes["sizes"] = [hidden, hidden, total - 2 * hidden]
    return Own(bias, "bias", Rule.parse("out -> bias: out"))


@onnx("GroupQueryAttention", domain=_MS)
def _grouped(node: Node) -> Lowered:
    _missing(node, 11, 12, 13, 14, 15, 16)
    _unused(node, "smooth_softmax", "sliding_window_cache", "qk_output")
    attributes: dict[str, Json] = {"heads": int(node.get("num_heads")), "kv_heads": int(node.get("kv_num_heads"))}
    attributes |= {"scale": _scale(node), "softcap": float(node.get("softcap", 0.0))}
    attributes |= {"causal": bool(node.get("causal", 1)), "rotary": bool(node.get("do_rotary", 0))}
    attributes["interleaved"] = bool(node.get("rotary_interleaved", 0))
    if (window := int(node.get("local_window_size", -1))) >= 0:
        attributes["window"] = [window - 1, -1]
    caches = [("cos_cache", node.operand(7), "position dim"), ("sin_cache", node.operand(8), "position dim")]
    own, more = _weights(caches)
    args = _taken(
        query=node.need(0), key=node.operand(1), value=node.operand(2), past_key=node.operand(3),
        past_value=node.operand(4), lengths=node.need(5), total=node.need(6), positions=node.operand(9),
        mask=node.operand(10),
    )  # fmt: skip
    return Lowered("grouped_attention", attributes, {**args, **more}, own, ("y", "present_key", "present_value"))


@onnx("RotaryEmbedding")
def _rotary(node: Node) -> Lowered:
    return _rotation(node, node.operand(3), node.need(1), node.need(2))


@onnx("RotaryEmbedding", domain=_MS)
def _rotary_ms(node: Node) -> Lowered:
    _unused(node, "is_packed_batching")
    if (node.number("scale") or 1.0) != 1.0:
        raise UnclearError("RotaryEmbedding: scale is not understood")
    return _rotation(node, node.need(1), node.need(2), node.need(3))


def _rotation(node: Node, positions: Operand | None, cos: Operand, sin: Operand) -> Lowered:
    attributes = {"heads": int(node.get("num_heads", 0)), "dim": int(node.get("rotary_embedding_dim", 0))}
    attributes["interleaved"] = bool(node.get("interleaved", 0))
    axes = "position dim" if cos.rank == 2 else "batch position dim"
    own, args = _weights([("cos_cache", cos, axes), ("sin_cache", sin, axes)])
    return Lowered("rotary_embedding", attributes, {**_taken(x=node.need(0), positions=positions), **args}, own)


@onnx("SkipLayerNormalization", "SkipSimplifiedLayerNormalization", domain=_MS)
def _skip(node: Node) -> Lowered:
    centered = node.op == "SkipLayerNormalization"
    names = [("scale", 2), *([("offset", 3), ("bias", 4)] if centered else [("bias", 3)])]
    own, args = _weights([(role, node.operand(i), "channel") for role, i in names])
    default = 1e-12 if centered else 1e-6
    attributes: dict[str, Json] = {"epsilon": float(node.get("epsilon", default)), "centered": centered}
    args = {"x": node.need(0), "skip": node.need(1), **args}
    return Lowered("skip_norm", attributes, args, own, ("y", "mean", "inverse_deviation", "sum"))


@onnx("EmbedLayerNormalization", domain=_MS)
def _embed(node: Node) -> Lowered:
    own, args = _weights([
        ("embedding", node.need(2), "token dim"), ("position_embedding", node.need(3), "position dim"),
        ("segment_embedding", node.operand(4), "segment dim"), ("scale", node.need(5), "channel"),
        ("offset", node.need(6), "channel"),
    ])  # fmt: skip
    if args:
        raise UnclearError(f"EmbedLayerNormalization: {', '.join(args)} is computed when the model runs")
    taken = _taken(x=node.need(0), segments=node.operand(1), mask=node.operand(7), positions=node.operand(8))
    attributes = {"epsilon": float(node.get("epsilon", 1e-12))}
    return Lowered("embed_norm", attributes, taken, own, ("y", "mask_index", "sum"))


# -- others ------------------------------------------------------------------------------------------------------------


@onnx("CausalConvWithState")
def _causal(node: Node) -> Lowered:
    word = node.word("activation", "none", "silu", "swish")
    activation = dict(LINEAR) if word == "none" else {"name": "silu"}
    own, args = _weights([("kernel", node.need(1), "channel 1 length"), ("bias", node.operand(2), "channel")])
    if own and own[0].role == "kernel":
        own = (Own(own[0].operand, "kernel", Rule.parse("channel 1 length -> kernel: length channel")), *own[1:])
    args = {**_taken(x=node.need(0), past_state=node.operand(3)), **args}
    return Lowered("causal_conv", {"activation": activation}, args, own, ("y", "present_state"))


@onnx("DeformConv")
def _deformable(node: Node) -> Lowered:
    x, kernel = node.need(0), node.need(1)
    if kernel.rank != 4:
        raise UnclearError("DeformConv: its kernel has other axes than height and width")
    attributes: dict[str, Json] = {
        "strides": node.ints("strides", default=[1, 1]), "padding": node.ints("pads", default=[0] * 4),
        "dilation": node.ints("dilations", default=[1, 1]), "groups": int(node.get("group", 1)),
        "offset_groups": int(node.get("offset_group", 1)),
    }  # fmt: skip
    own, args = _weights([("kernel", kernel, "out in height width"), ("bias", node.operand(3), "out")])
    if own and own[0].role == "kernel":
        own = (Own(kernel, "kernel", Rule.parse("out in height width -> kernel: height width in out")), *own[1:])
    args = {"x": x, **_taken(offset=node.need(2), mask=node.operand(4)), **args}
    return Lowered("deformable_conv", attributes, args, own)


@onnx("SwiGLU")
def _gated(node: Node) -> Lowered:
    return Lowered("gated_silu", {"alpha": float(node.get("alpha", 1.0))}, {"x": (node.need(0), node.need(1))})


@onnx("TensorScatter")
def _scatter(node: Node) -> Lowered:
    attributes: dict[str, Json] = {"axis": int(node.get("axis", -2)), "mode": node.word("mode", "linear", "circular")}
    args = _taken(x=node.need(0), update=node.need(1), places=node.operand(2))
    return Lowered("tensor_scatter", attributes, args)
