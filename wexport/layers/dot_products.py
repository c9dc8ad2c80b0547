"""Attention as one operator: scaled products of queries and keys, and what they pick of the values.

    scaled_dot_product   query, key and value are arguments, `[batch, head, length, dim]` or with the heads packed into
                         the last axis; `query.bias` and so on are added first
    projected_attention  the three are products of x with kernels "in head dim"
    grouped_attention    fewer heads of keys and values, a cache, and rotated positions
    linear_attention     no softmax: a state for each head, which keys write to and queries read
    rotary_embedding     pairs of features turned by an angle for each position

`mask` says which keys a query may see (a bool, or a number to add); `padding` is ONNX Runtime's mask of keys: lengths,
ends and starts, or ones and zeros. `causal`: query i sees the keys up to i, those of the past before them.
Sources: Vaswani et al. 2017; Su et al. 2021 (rotary); Katharopoulos et al. 2020, Yang et al. 2024 (linear, delta rule);
onnx/docs/Operators.md, Attention-25; onnxruntime/docs/ContribOperators.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport.features import Value
from wexport.layers.flows import opaque
from wexport.layers.registry import (
    ANY,
    BOOL,
    INT,
    INTS,
    NUMBER,
    TEXT,
    Flow,
    as_value,
    computes,
    equations,
    flow,
    kind,
    optional,
)  # fmt: skip
from wexport.layers.step import Step, Terms
from wexport.model import Json

Array = NDArray[Any]

_MAYBE: dict[str, Json] = {"window": INTS, "scores": TEXT, "masked": NUMBER, "sizes": ANY}
kind(
    "scaled_dot_product", maybe=_MAYBE,
    heads=optional(INT), kv_heads=optional(INT), scale=optional(NUMBER), causal=BOOL, softcap=NUMBER,
)  # fmt: skip
kind("projected_attention", maybe={**_MAYBE, "dequantize": ANY}, heads=INT, scale=optional(NUMBER), causal=BOOL)
kind(
    "grouped_attention", maybe={"window": INTS},
    heads=INT, kv_heads=INT, scale=optional(NUMBER), causal=BOOL, softcap=NUMBER, rotary=BOOL, interleaved=BOOL,
)  # fmt: skip
kind("linear_attention", heads=INT, kv_heads=INT, scale=optional(NUMBER), update=TEXT)
kind("rotary_embedding", heads=INT, dim=INT, interleaved=BOOL)

opaque("scaled_dot_product", "projected_attention", "grouped_attention", "linear_attention")


@flow("rotary_embedding")
def _rotary_flow(f: Flow) -> Mapping[str, Value]:
    return {"y": f.source(as_value(f.args.get("x")).shape)}


# -- the products ------------------------------------------------------------------------------------------------------


def softmax_of(scores: Array, sinks: float = 0.0) -> Array:
    """Softmax over the last axis; zeros where nothing may be seen."""
    top = scores.max(axis=-1, keepdims=True, initial=-np.inf)
    e = np.exp(scores - np.where(np.isneginf(top), 0, top))
    total = e.sum(axis=-1, keepdims=True) + sinks
    return np.asarray(e / np.where(total == 0, 1, total))


def attend(q: Array, k: Array, v: Array, a: Mapping[str, Any], bias: Any) -> tuple[Array, dict[str, Array]]:
    """The values that queries `[batch, head, length, dim]` pick, and what the choice is made of."""
    times = q.shape[1] // k.shape[1]
    k, v = np.repeat(k, times, axis=1), np.repeat(v, times, axis=1)
    scale = a.get("scale")
    raw = q @ np.swapaxes(k, -1, -2) * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    if a.get("softcap"):
        raw = a["softcap"] * np.tanh(raw / a["softcap"])
    masked = raw + bias
    weights = softmax_of(masked)
    return weights @ v, {"raw": raw, "masked": masked, "weights": weights}


def seen(a: Mapping[str, Any], queries: int, keys: int, before: Any) -> Array:
    """What is added to scores `[..., query, key]`; `before` keys precede the queries (one number, or one a batch)."""
    place = np.arange(queries)[:, None] + np.reshape(before, (-1, 1, 1, 1) if np.ndim(before) else ())
    away = place - np.arange(keys)
    allowed = np.ones(away.shape, bool)
    if a["causal"]:
        allowed &= away >= 0
    left, right = a.get("window") or (-1, -1)
    if left >= 0:
        allowed &= away <= left
    if right >= 0:
        allowed &= -away <= right
    return np.where(allowed, 0.0, -np.inf)


def split_heads(x: Array, heads: int | None) -> Array:
    """`[batch, length, (head dim)]` as `[batch, head, length, dim]`."""
    if x.ndim == 4 or heads is None:
        return x
    return np.swapaxes(x.reshape(*x.shape[:2], heads, -1), 1, 2)


def join_heads(x: Array) -> Array:
    """The inverse of `split_heads`."""
    return np.swapaxes(x, 1, 2).reshape(x.shape[0], x.shape[2], -1)


def _mask(mask: Any, keys: int) -> Any:
    """A mask as what is added to the scores; keys that it does not reach are not seen."""
    if mask is None:
        return 0.0
    mask = np.where(mask, 0.0, -np.inf) if np.asarray(mask).dtype == bool else np.asarray(mask, np.float64)
    missing = keys - mask.shape[-1]
    return np.pad(mask, [(0, 0)] * (mask.ndim - 1) + [(0, missing)], constant_values=-np.inf) if missing > 0 else mask


def _padding(mask: Any, a: Mapping[str, Any], batch: int, queries: int, keys: int) -> Any:
    """ONNX Runtime's mask as what is added to the scores."""
    if mask is None:
        return 0.0
    mask = np.asarray(mask)
    place = np.arange(keys)
    if mask.ndim == 1:
        ends = mask[:batch]
        starts = mask[batch : 2 * batch] if len(mask) == 2 * batch else np.zeros(batch)
        kept: Array = (place < ends[:, None]) & (place >= starts[:, None])
    else:
        kept = mask != 0
    if kept.ndim == 2:
        kept = kept[:, None, None]
    elif kept.ndim == 3:
        kept = kept[:, None]
    else:
        kept = kept[:, :, keys - queries : keys, :keys]
    return np.where(kept, 0.0, a.get("masked", -10000.0))


# -- one operator, no kernels ------------------------------------------------------------------------------------------


@equations("scaled_dot_product")
def _product_equations(terms: Terms) -> list[str]:
    """Heads that are packed into the last axis are split first; packed arguments are taken apart by `parts`."""
    a = terms.attributes
    names = {"q": "query", "k": "key", "v": "value"}
    given = [name for name in names.values() if name in terms.args]
    biases = [terms.ref(f"{n}.bias") for n in names.values() if terms.has(f"{n}.bias")]
    if terms.has("bias"):
        biases = [f"split({terms.ref('bias')}, {tuple(a['sizes'])})"]
    lines = [f"q, k, v = parts({', '.join(given + [f'bias={b}' for b in _tuple(biases)])})"]
    for k, past in (("k", "past_key"), ("v", "past_value")):
        if past in terms.args:
            lines.append(f"{k} = concat({past}, {k}, axis=2)")
    return [*lines, *_chosen(terms, ("mask", "padding", "lengths"), "past_key")]


def _tuple(biases: list[str]) -> list[str]:
    return [f"({', '.join(biases)})"] if len(biases) > 1 else biases


def _chosen(terms: Terms, masks: tuple[str, ...], past: str, axis: int = 2) -> list[str]:
    a = terms.attributes
    scale = a.get("scale")
    score = "q @ k.T / sqrt(dim(q))" if scale is None else f"{scale} * (q @ k.T)"
    if a.get("softcap"):
        score = f"{a['softcap']} * tanh({score} / {a['softcap']})"
    given = [m for m in masks if m in terms.args]
    before = f", past=length({past}, {axis})" if past in terms.args else ""
    if given or a["causal"] or a.get("window"):
        score = f"hidden({', '.join([score, *given])}{before})"
    return [f"y = join(softmax({score}) @ v)"]


def _inputs(step: Step) -> list[Array | None]:
    """Query, key and value, which may be packed into one another, with their biases."""
    q, k, v = (step.args.get(name) for name in ("query", "key", "value"))
    if q is not None and q.ndim == 5:  # [batch, length, head, part, dim]
        q, k, v = (np.swapaxes(q[:, :, :, i], 1, 2) for i in range(3))
    elif k is not None and k.ndim == 5:
        k, v = (np.swapaxes(k[:, :, :, i], 1, 2) for i in range(2))
    biases = [step.get(f"{name}.bias") for name in ("query", "key", "value")]
    if (whole := step.get("bias")) is not None:
        biases = list(np.split(whole, np.cumsum(step.attributes["sizes"])[:-1]))
    found: list[Array | None] = []
    for x, bias in zip((q, k, v), biases, strict=True):
        if x is None or bias is None or (x.ndim == 4 and x is not q and step.args["query"].ndim == 3):
            found.append(x)  # keys of another sequence, projected and cached before
        elif x.ndim == 4:
            found.append(x + bias.reshape(x.shape[1], 1, -1))
        else:
            found.append(x + bias.reshape(-1))
    return found


@computes("scaled_dot_product")
def _compute_product(step: Step) -> dict[str, Array]:
    a = step.attributes
    given = _inputs(step)
    flat = step.args["query"].ndim != 4
    q, k, v = (
        split_heads(np.asarray(x), n) for x, n in zip(given, (a["heads"], a["kv_heads"], a["kv_heads"]), strict=True)
    )
    past = [step.args.get(name) for name in ("past_key", "past_value")]
    before: Any = 0 if past[0] is None else past[0].shape[2]
    k, v = (x if p is None else np.concatenate([p, x], axis=2) for x, p in zip((k, v), past, strict=True))
    queries, keys = q.shape[2], k.shape[2]
    bias = _mask(step.args.get("mask"), keys)
    if (lengths := step.args.get("lengths")) is not None:
        lengths = np.asarray(lengths).reshape(-1)
        before = lengths - queries
        bias = bias + np.where(np.arange(keys) < lengths[:, None, None, None], 0.0, -np.inf)
    bias = bias + seen(a, queries, keys, before) + _padding(step.args.get("padding"), a, len(q), queries, keys)
    y, scores = attend(q, k, v, a, bias)
    found = scores[a.get("scores", "raw")]
    return {"y": join_heads(y) if flat else y, "present_key": k, "present_value": v, "scores": found}


# -- with projections --------------------------------------------------------------------------------------------------


@equations("projected_attention")
def _projected_equations(terms: Terms) -> list[str]:
    if terms.has("kernel"):
        sizes = tuple(terms.attributes["sizes"])
        lines = [f"q, k, v = heads(split(x @ {terms.ref('kernel')}{terms.plus('bias')}, {sizes}))"]
    else:
        names = [("q", "query"), ("k", "key"), ("v", "value")]
        lines = [f"{k} = x @ {terms.ref(f'{name}.kernel')}{terms.plus(f'{name}.bias')}" for k, name in names]
    if "x_scale" in terms.args:
        zero = " - x_zero_point" if "x_zero_point" in terms.args else ""
        lines.insert(0, f"x = (x{zero}) * x_scale")
    if "past" in terms.args:
        lines += [f"{k} = concat(past[{i}], {k}, axis=2)" for i, k in enumerate("kv")]
    return [*lines, *_chosen(terms, ("mask", "padding"), "past", 3)]


def _projections(step: Step) -> list[Array]:
    x, a = step.x, step.attributes
    if (scale := step.args.get("x_scale")) is not None:
        zero = step.args.get("x_zero_point")
        x = (x.astype(np.float64) - (0 if zero is None else np.asarray(zero).astype(np.float64))) * scale
    if not step.has("kernel"):
        found = []
        for part in ("query", "key", "value"):
            bias = step.get(f"{part}.bias")
            y = np.tensordot(x, step.weight(f"{part}.kernel"), 1)
            found.append(np.swapaxes(y if bias is None else y + bias, 1, 2))
        return found
    y = step.bias(x @ step.weight("kernel"), "bias")
    return [split_heads(p, a["heads"]) for p in np.split(y, np.cumsum(a["sizes"])[:-1], axis=-1)]


@computes("projected_attention")
def _compute_projected(step: Step) -> dict[str, Array]:
    a = step.attributes
    q, k, v = _projections(step)
    past = step.args.get("past")
    before = 0 if past is None else past.shape[3]
    if past is not None:
        k, v = (np.concatenate([p, x], axis=2) for p, x in zip(past, (k, v), strict=True))
    queries, keys = q.shape[2], k.shape[2]
    bias = seen(a, queries, keys, before) + _padding(step.args.get("padding"), a, len(q), queries, keys)
    y, _ = attend(q, k, v, a, bias + _mask(step.args.get("mask"), keys))
    return {"y": join_heads(y), "present": np.stack([k, v])} if k.shape == v.shape else {"y": join_heads(y)}


# -- rotation ----------------------------------------------------------------------------------------------------------


def rotated(x: Array, cos: Array, sin: Array, dim: int, interleaved: bool) -> Array:
    """x `[batch, head, length, dim]` with its first `dim` features turned; cos, sin `[batch or 1, length, dim / 2]`."""
    cos, sin = cos[:, None], sin[:, None]
    turned, rest = x[..., :dim], x[..., dim:]
    a, b = (turned[..., 0::2], turned[..., 1::2]) if interleaved else np.split(turned, 2, axis=-1)
    real, imaginary = cos * a - sin * b, sin * a + cos * b
    if interleaved:
        return np.concatenate([np.stack([real, imaginary], axis=-1).reshape(turned.shape), rest], axis=-1)
    return np.concatenate([real, imaginary, rest], axis=-1)


def angles(step: Step, positions: Any, length: int) -> tuple[Array, Array]:
    """Cosines and sines for every position, `[batch or 1, length, dim / 2]`."""
    cos, sin = np.asarray(step.operand("cos_cache")), np.asarray(step.operand("sin_cache"))
    if positions is None:
        return cos, sin
    place = np.asarray(positions).astype(np.int64)
    place = place if place.ndim == 2 else (place.reshape(-1)[:1] + np.arange(length))[None]  # or only a first position
    return cos[place], sin[place]


@equations("rotary_embedding")
def _rotary_equations(terms: Terms) -> list[str]:
    cos, sin = terms.ref("cos_cache"), terms.ref("sin_cache")
    place = "[places(x, positions)]" if "positions" in terms.args else ""
    return [f"y = turned(x, {cos}{place}, {sin}{place})"]


@computes("rotary_embedding")
def _compute_rotary(step: Step) -> Array:
    a, x = step.attributes, step.x
    half = np.asarray(step.operand("cos_cache")).shape[-1]
    flat = x.ndim == 3
    heads = a["heads"] or (x.shape[-1] // (2 * half) if flat else None)
    y = split_heads(x, heads)
    cos, sin = angles(step, step.args.get("positions"), y.shape[2])
    y = rotated(y, cos, sin, a["dim"] or 2 * half, a["interleaved"])
    return join_heads(y) if flat else y


# -- grouped, with a cache ---------------------------------------------------------------------------------------------


@equations("grouped_attention")
def _grouped_equations(terms: Terms) -> list[str]:
    """`at` is where each sequence's new keys begin: behind its own past."""
    given = [name for name in ("query", "key", "value") if name in terms.args]
    past = [name for name in ("past_key", "past_value") if name in terms.args]
    lines = [f"q, k, v = parts({', '.join(given)})", f"at = begins({', '.join(['k', 'lengths', 'total', *past[:1]])})"]
    if terms.attributes["rotary"]:
        place = "places(k, positions)" if "positions" in terms.args else "at + places(k)"
        angles = f"{terms.ref('cos_cache')}[{place}], {terms.ref('sin_cache')}[{place}]"
        lines += [f"{v} = turned({v}, {angles})" for v in "qk"]
    for k, old in (("k", "past_key"), ("v", "past_value")):
        lines.append(f"{k} = cached({k}, at, total{f', {old}' if old in terms.args else ''})")
    scale, cap = terms.attributes.get("scale"), terms.attributes.get("softcap")
    score = "q @ k.T / sqrt(dim(q))" if scale is None else f"{scale} * (q @ k.T)"
    score = f"{cap} * tanh({score} / {cap})" if cap else score
    mask = ", mask" if "mask" in terms.args else ""
    return [*lines, f"y = join(softmax(hidden({score}{mask}, past=at)) @ v)"]


@computes("grouped_attention")
def _compute_grouped(step: Step) -> dict[str, Array]:
    """Each sequence's new keys stand behind its own past; what the cache holds behind them is not seen."""
    a = step.attributes
    heads, fewer = a["heads"], a["kv_heads"]
    given = [np.asarray(step.args[name]) for name in ("query", "key", "value") if step.args.get(name) is not None]
    if len(given) == 1:
        dim = given[0].shape[-1] // (heads + 2 * fewer)
        given = np.split(given[0], [heads * dim, (heads + fewer) * dim], axis=-1)
    q, k, v = (split_heads(x, n) for x, n in zip(given, (heads, fewer, fewer), strict=True))
    new = k.shape[2]
    ends = np.asarray(step.args["lengths"]).reshape(-1).astype(int) + 1
    total = int(np.asarray(step.args["total"]).reshape(-1)[0])
    past = [step.args.get(name) for name in ("past_key", "past_value")]
    held = 0 if past[0] is None else past[0].shape[2]
    starts = np.zeros(len(q), int) if total <= new or not held else ends - new
    if a["rotary"]:
        place = starts[:, None] + np.arange(new) if step.args.get("positions") is None else step.args["positions"]
        cos, sin = angles(step, np.clip(place, 0, len(np.asarray(step.operand("cos_cache"))) - 1), new)
        q, k = (rotated(x, cos, sin, 2 * cos.shape[-1], a["interleaved"]) for x in (q, k))
    caches = []
    for x, old in zip((k, v), past, strict=True):
        cache = np.zeros((*x.shape[:2], max(total, held), x.shape[-1]))
        for i, start in enumerate(starts):
            if old is not None and start:
                cache[i, :, :start] = old[i, :, :start]
            cache[i, :, start : start + new] = x[i]
        caches.append(cache)
    bias = seen(a, new, total, starts) + _mask(step.args.get("mask"), total)
    y, _ = attend(q, caches[0][:, :, :total], caches[1][:, :, :total], a, bias)
    return {"y": join_heads(y), "present_key": caches[0], "present_value": caches[1]}


# -- linear ------------------------------------------------------------------------------------------------------------


@equations("linear_attention")
def _linear_equations(terms: Terms) -> list[str]:
    rule, scale = terms.attributes["update"], terms.attributes["scale"]
    state = "exp(decay).T * s_prev" if "gated" in rule else "s_prev"
    value = "beta * (value - key @ m)" if "delta" in rule else "value"
    out = f"o = {scale} * (query @ s)" if scale else "o = query @ s / sqrt(dim(key))"
    lines = [f"m = {state}", f"s = m + key.T @ ({value})", out]
    return ["each step:", *(f"  {line}" for line in lines), "y = every(o)", "present_state = s"]


@computes("linear_attention")
def _compute_linear(step: Step) -> dict[str, Array]:
    a = step.attributes
    heads, fewer = a["heads"], a["kv_heads"]
    q, k, v = (split_heads(step.args[n], m) for n, m in (("query", heads), ("key", fewer), ("value", fewer)))
    decay, beta = (step.args.get(name) for name in ("decay", "beta"))
    decay = None if decay is None else split_heads(decay, fewer)
    beta = None if beta is None else split_heads(beta, beta.shape[-1])
    state = step.args.get("past_state")
    state = np.zeros((len(q), fewer, k.shape[-1], v.shape[-1])) if state is None else state
    scale = a["scale"] or 1 / math.sqrt(k.shape[-1])
    found = []
    for t in range(q.shape[2]):
        value = v[:, :, t]
        if decay is not None:
            state = state * np.exp(decay[:, :, t])[..., None]
        if beta is not None:
            value = beta[:, :, t] * (value - np.einsum("bhdm,bhd->bhm", state, k[:, :, t]))
        state = state + k[:, :, t, :, None] * value[:, :, None, :]
        found.append(np.einsum("bhd,bhdm->bhm", q[:, :, t], np.repeat(state, heads // fewer, axis=1)))
    return {"y": scale * join_heads(np.stack(found, axis=2)), "present_state": state}
