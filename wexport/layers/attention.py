"""Attention.

    Keras  MultiHeadAttention   query, key, value: kernel "in head dim", bias "head dim"; output: kernel
                                "head dim out", bias "out"; with use_gate a gate laid out like the query
           GroupQueryAttention  key and value have "kv_head" instead; query head j uses key head j // (heads / kv_heads)
           Attention            scale "", concat_score_weight "";  AdditiveAttention  scale "dim"

Sources: keras/src/layers/attention (3.15.1, 2.15); Vaswani et al. 2017; Ainslie et al. 2023 (grouped queries);
Luong et al. 2015 (dot), Bahdanau et al. 2015 (additive).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport.features import Value
from wexport.layers import quantized
from wexport.layers.dense import einsum_kernel, einsum_slots
from wexport.layers.keras import Keras, Shapes, Slot, Stored, keras, plain, rule
from wexport.layers.numerics import sigmoid, softmax
from wexport.layers.registry import ANY, BOOL, INT, TEXT, Flow, as_value, computes, equations, flow, kind, optional
from wexport.layers.step import Step, Terms
from wexport.layout import Rule
from wexport.model import Json

Array = NDArray[Any]
_LOGITS = "q @ k.T / sqrt(key_dim)"

# `all_masked`: what weights a query has that may see nothing; "uniform" if not stated, "zero", or "zero_with_scores":
# zero where the call also returns the weights or x has further axes
kind(
    "multi_head_attention", maybe={"parts": ANY, "all_masked": TEXT},
    heads=INT, kv_heads=INT, key_dim=INT, value_dim=INT, gate=BOOL, output_shape=optional(ANY),
    attention_axes=optional(ANY), window=optional(INT),
)  # fmt: skip
kind("attention", score=TEXT, scaled=BOOL, causal=BOOL)

# what a Keras call names its tensors, in the words of a manifest
_CALL = ("query", "value", "key", "query_mask", "value_mask", "key_mask", "mask")
_OLD_CALL = ("query", "value", "key", "mask")
_PARTS = ("query", "key", "value")
_MASKS = ("query_mask", "value_mask", "key_mask", "mask")


# -- many heads --------------------------------------------------------------------------------------------------------


@keras("MultiHeadAttention")
def _multi_head(layer: Keras) -> Stored:
    heads, key_dim = layer.integer("num_heads"), layer.integer("key_dim")
    value_dim = layer.get("value_dim") or key_dim
    axes = {"query": "head", "key": "head", "value": "head", "gate": "head"}
    attributes = {
        "heads": heads,
        "kv_heads": heads,
        "key_dim": key_dim,
        "value_dim": int(value_dim),
        "gate": layer.flag("use_gate", default=False),
        "output_shape": plain(layer.get("output_shape")),
        "attention_axes": plain(layer.get("attention_axes")),
        "window": layer.get("sliding_window"),
    }
    private = layer.era.major < 3
    paths = {p: f"{'_' if private else ''}{p}_dense" for p in ("query", "key", "value", "output")}
    return _projected(layer, attributes, axes, {**paths, "gate": "_gate_dense"})


@keras("GroupQueryAttention", "GroupedQueryAttention")
def _grouped(layer: Keras) -> Stored:
    dim = layer.integer("head_dim")
    attributes = {
        "heads": layer.integer("num_query_heads"),
        "kv_heads": layer.integer("num_key_value_heads"),
        "key_dim": dim,
        "value_dim": dim,
        "gate": layer.flag("use_gate", default=False),
        "output_shape": None,
        "attention_axes": None,
        "window": layer.get("sliding_window"),
    }
    axes = {"query": "head", "key": "kv_head", "value": "kv_head", "gate": "head"}
    return _projected(layer, attributes, axes, {p: f"_{p}_dense" for p in ("query", "key", "value", "gate", "output")})


def _projected(layer: Keras, attributes: dict[str, Json], axes: Mapping[str, str], paths: Mapping[str, str]) -> Stored:
    parts = ["query", "key", *(["gate"] if attributes["gate"] else []), "value"]
    bias = layer.flag("use_bias", default=True)
    slots: list[Slot] = []
    rounded: dict[str, Json] = {}
    for part in [*parts, "output"]:
        child = _projection(layer, part, bias)
        how = quantized.policy(child)
        if how.attributes():
            rounded[part] = how.attributes()
        if part == "output":
            found = _output_slots(child, how, bias)
        else:
            names = {"c": "in", "d": axes[part], "e": "dim"}
            found = einsum_slots(child, how, "cde", "abde", names)
        slots += [s.below(paths[part]).mapped(lambda r, part=part: r.prefixed("part", part)) for s in found]  # type: ignore[misc]
    if rounded:
        attributes = {**attributes, "parts": rounded}
    if layer.era.since(3, 10):  # the Softmax layer does so from then on; without dropout, another function is faster
        attributes = {**attributes, "all_masked": "zero" if layer.get("dropout") else "zero_with_scores"}
    call = _CALL if layer.era.major > 2 else _OLD_CALL
    return Stored(
        "multi_head_attention", attributes, tuple(slots), call, ("y", "scores"), mask="query", takes_mask=True
    )


def _projection(layer: Keras, part: str, bias: bool) -> Keras:
    """A projection as the EinsumDense that it is, with the dtype policy that the layer's map gives it."""
    config: dict[str, Json] = {"equation": "abc,cde->abde", "bias_axes": "de" if bias else None}
    if part == "output":
        config = {"equation": "abcd,cde->abe", "bias_axes": "e" if bias else None}
    dtype = layer.get("dtype")
    inner = dtype.get("config") if isinstance(dtype, Mapping) else None
    policies = inner.get("policy_map") if isinstance(inner, Mapping) else None
    name = "attention_output" if part == "output" else part
    if isinstance(policies, Mapping):
        config["dtype"] = next((p for path, p in policies.items() if str(path).rpartition("/")[2] == name), None)
    return replace(layer, class_name="EinsumDense", config=config, build={})


def _output_slots(child: Keras, how: quantized.Policy, bias: bool) -> tuple[Slot, ...]:
    if how.mode is not None or how.rank is not None:
        return einsum_slots(child, how, "cde", "abe", {"c": "head", "d": "dim", "e": "out"})

    def kernel(shape: tuple[int, ...], _: Shapes) -> Rule:
        axes = f"head dim {_outs(len(shape) - 2)}"
        return rule(f"{axes} -> kernel: {axes}")

    def offset(shape: tuple[int, ...], _: Shapes) -> Rule:
        return rule(f"{_outs(len(shape))} -> bias: {_outs(len(shape))}")

    return (Slot("kernel", kernel), *((Slot("bias", offset),) if bias else ()))


def _outs(n: int) -> str:
    return "out" if n == 1 else " ".join(f"out_{i + 1}" for i in range(n))


@flow("multi_head_attention")
def _multi_head_flow(f: Flow) -> Mapping[str, Value]:
    query, value = as_value(f.args.get("query")), as_value(f.args.get("value"))
    if query.shape is None:
        return {"y": f.source(None), "scores": f.source(None, "scores")}
    given = f.attributes["output_shape"]
    last = tuple(given) if isinstance(given, list) else (given or query.shape[-1],)
    keys = value.shape[1:-1] if value.shape else (None,)
    y = f.source((*query.shape[:-1], *last), dtype=query.dtype)
    scores = (*query.shape[:1], f.attributes["heads"], *query.shape[1:-1], *keys)
    return {"y": y, "scores": f.source(scores, "scores", dtype=query.dtype)}


@equations("multi_head_attention")
def _multi_head_equations(terms: Terms) -> list[str]:
    a = terms.attributes
    key = "key" if "key" in terms.args else "value"
    lines = [
        f"{part[0]} = {_projected_term(terms, part, x)}"
        for part, x in zip(_PARTS, ("query", key, "value"), strict=True)
    ]
    if a["gate"]:
        lines.append(f"g = sigmoid({_projected_term(terms, 'gate', 'query')})")
    if a["kv_heads"] != a["heads"]:
        times = a["heads"] // a["kv_heads"]
        lines += [f"k = repeat(k, {times}, over=kv_head)", f"v = repeat(v, {times}, over=kv_head)"]
    masks = [m for m in (*_MASKS, "causal") if m in terms.args]
    scores = _scores_lines(terms, masks) if masks or a.get("window") is not None else [f"scores = softmax({_LOGITS})"]
    gate = " * g" if a["gate"] else ""
    return [
        *lines,
        *scores,
        f"y = {_projected_term(terms, 'output', f'(scores @ v{gate})', (-2, -1))}",
    ]


def _scores_lines(terms: Terms, masks: list[str]) -> list[str]:
    seen, how = f"seen({', '.join(masks)})", terms.attributes.get("all_masked")
    if how is None:
        return [f"scores = softmax(where({seen}, {_LOGITS}, -1e9))"]
    zeroed = how == "zero" or "returns_scores" in terms.args
    return [
        f"m = {seen}",
        f"w = softmax(where(m, {_LOGITS}, -1e9))",
        "scores = where(m, w, 0)" if zeroed else "scores = where(m, w, 0) if rank(query) > 3 else w",
    ]


def _projected_term(terms: Terms, part: str, x: str, axes: tuple[int, ...] = (-1,)) -> str:
    inner = terms.below(part, (terms.attributes.get("parts") or {}).get(part) or {})
    kernel = quantized.kernel_term(inner) or inner.ref("kernel")
    return f"{quantized.rounded_term(inner, x, axes)} @ {kernel}{inner.plus('bias')}"


def _project(step: Step, part: str, x: Array) -> Array:
    inner = step.below(part, (step.attributes.get("parts") or {}).get(part) or {})
    kernel = einsum_kernel(inner, "cde", "abde")
    if (low := quantized.low_rank(inner)) is not None:
        kernel = kernel + low
    return inner.bias(np.tensordot(quantized.rounded_input(inner, x), kernel, 1), "bias")


def _scores_mask(step: Step, t: int, s: int, batch: int) -> Array | None:
    """Which key each query may see: [batch, query, key]."""
    masks = []
    for name, axis in (("query_mask", 2), ("value_mask", 1), ("key_mask", 1)):
        if (m := step.args.get(name)) is not None:
            masks.append(np.expand_dims(np.asarray(m, bool), axis))
    if (m := step.args.get("mask")) is not None:
        masks.append(np.asarray(m, bool).reshape(-1, *np.shape(m)[-2:]) if np.ndim(m) != 4 else np.asarray(m, bool))
    row, column = np.arange(t)[:, None], np.arange(s)[None, :]
    if step.args.get("causal"):
        masks.append((row >= column)[None])
    if step.attributes.get("window") is not None:
        masks.append((np.abs(row - column) < step.attributes["window"])[None])
    if not masks:
        return None
    found = masks[0]
    for m in masks[1:]:
        found = found & m
    return found


def _zeroed(step: Step) -> bool:
    """Whether a query that may see nothing sees zeros."""
    how = step.attributes.get("all_masked")
    plain = step.args["query"].ndim == 3 and step.args.get("returns_scores") is None
    return how == "zero" or (how == "zero_with_scores" and not plain)


@computes("multi_head_attention")
def _compute_multi_head(step: Step) -> dict[str, Array]:
    a = step.attributes
    query, value = step.args["query"], step.args["value"]
    key = value if step.args.get("key") is None else step.args["key"]
    q, k, v = _project(step, "query", query), _project(step, "key", key), _project(step, "value", value)
    if a["kv_heads"] != a["heads"]:
        times = a["heads"] // a["kv_heads"]
        k, v = np.repeat(k, times, axis=-2), np.repeat(v, times, axis=-2)
    rank = query.ndim - 2
    axes = [i % query.ndim for i in a["attention_axes"]] if a["attention_axes"] else list(range(1, rank + 1))
    free = [i for i in range(1, rank + 1) if i not in axes]
    lead = [0, *free]

    def flat(z: Array) -> Array:
        moved = np.transpose(z, [*lead, rank + 1, *axes, rank + 2])
        return moved.reshape(*moved.shape[: len(lead) + 1], -1, z.shape[-1])

    logits = flat(q) @ np.swapaxes(flat(k), -1, -2) / math.sqrt(a["key_dim"])
    mask = _scores_mask(step, logits.shape[-2], logits.shape[-1], len(query))
    if mask is not None:
        if mask.ndim == 3:
            mask = mask.reshape(mask.shape[0], *(1,) * (logits.ndim - 3), *mask.shape[1:])
        logits = np.where(mask, logits, -1e9)
    weights = softmax(logits, -1)
    if mask is not None and _zeroed(step):
        weights = np.where(mask, weights, 0)
    seen = weights @ flat(v)
    spatial = [query.shape[i] for i in axes]
    seen = seen.reshape(*(query.shape[i] for i in lead), a["heads"], *spatial, -1)
    order = {**{d: i for i, d in enumerate(lead)}, **{d: len(lead) + 1 + i for i, d in enumerate(axes)}}
    seen = np.transpose(seen, [*(order[d] for d in range(rank + 1)), len(lead), seen.ndim - 1])
    if a["gate"]:
        seen = seen * sigmoid(_project(step, "gate", query))
    out = step.below("output", (a.get("parts") or {}).get("output") or {})
    kernel = einsum_kernel(out, "cde", "abe")
    y = out.bias(np.tensordot(quantized.rounded_input(out, seen, (-2, -1)), kernel, 2), "bias")
    return {"y": y, "scores": weights}


# -- one head, without projections -------------------------------------------------------------------------------------


@keras("Attention")
def _attention(layer: Keras) -> Stored:
    score = str(layer.get("score_mode", default="dot"))
    slots = []
    if layer.flag("use_scale", default=False):
        slots.append(Slot("scale", rule(" -> scale:")))
    if score == "concat":
        slots.append(Slot("concat_score_weight", rule(" -> score_scale:")))
    return _single(layer, score, tuple(slots))


@keras("AdditiveAttention")
def _additive(layer: Keras) -> Stored:
    slots = (Slot("scale", rule("dim -> scale: dim")),) if layer.flag("use_scale", default=True) else ()
    return _single(layer, "additive", slots)


def _single(layer: Keras, score: str, slots: Sequence[Slot]) -> Stored:
    attributes = {
        "score": score,
        "scaled": any(s.name == "scale" for s in slots),
        "causal": layer.flag("causal", default=False),
    }
    return Stored(
        "attention", attributes, tuple(slots), ("query value key",), ("y", "scores"), mask="query", takes_mask=True
    )


@flow("attention")
def _attention_flow(f: Flow) -> Mapping[str, Value]:
    query, value = as_value(f.args.get("query")), as_value(f.args.get("value"))
    if query.shape is None or value.shape is None:
        return {"y": f.source(None), "scores": f.source(None, "scores")}
    y = f.source((*query.shape[:-1], value.shape[-1]), dtype=query.dtype)
    return {"y": y, "scores": f.source((*query.shape[:-1], value.shape[-2]), "scores", dtype=query.dtype)}


@equations("attention")
def _attention_equations(terms: Terms) -> list[str]:
    scale = f"{terms.ref('scale')} * " if terms.has("scale") else ""
    key = "key" if "key" in terms.args else "value"
    if terms.attributes["score"] == "dot":
        score = f"{scale}(query @ {key}.T)"
    elif terms.attributes["score"] == "concat":
        score = f"{terms.ref('score_scale')} * sum(tanh({scale}pairs(query, {key})), over=-1)"
    else:
        score = f"sum({scale}tanh(pairs(query, {key})), over=-1)"
    masks = [m for m in ("value_mask", "causal") if m in terms.args]
    if masks or terms.attributes["causal"]:
        score = f"{score} - 1e9 * (1 - seen({', '.join(masks)}))"
    rows = " * each_row(query_mask)" if "query_mask" in terms.args else ""
    return [f"scores = softmax({score})", f"y = (scores @ value){rows}" if rows else "y = scores @ value"]


@computes("attention")
def _compute_attention(step: Step) -> dict[str, Array]:
    a = step.attributes
    query, value = step.args["query"], step.args["value"]
    key = value if step.args.get("key") is None else step.args["key"]
    scale = step.get("scale") if a["scaled"] else None
    factor: Any = 1.0 if scale is None else scale
    if a["score"] == "dot":
        logits = factor * (query @ np.swapaxes(key, -1, -2))
    else:
        pairs = np.expand_dims(query, -2) + np.expand_dims(key, -3)
        if a["score"] == "concat":
            logits = step.weight("score_scale") * np.tanh(factor * pairs).sum(axis=-1)
        else:
            logits = (factor * np.tanh(pairs)).sum(axis=-1)
    allowed = None
    if (m := step.args.get("value_mask")) is not None:
        allowed = np.expand_dims(np.asarray(m, bool), -2)
    if a["causal"] or step.args.get("causal"):
        lower = np.tril(np.ones(logits.shape[-2:], bool))
        allowed = lower if allowed is None else allowed & lower
    if allowed is not None:
        logits = logits - 1e9 * ~allowed
    weights = softmax(logits, -1)
    y = weights @ value
    if (m := step.args.get("query_mask")) is not None:
        y = y * np.expand_dims(np.asarray(m, bool), -1)
    return {"y": y, "scores": weights}
