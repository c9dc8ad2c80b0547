"""Layers that stand for several: sums that are normalized, embeddings that are added, convolutions with a state.

    skip_norm            s = x + skip + bias, and its layer (`centered`) or RMS normalization
    embed_norm           token, position and segment embeddings added, and normalized
    causal_conv          a depthwise convolution over the steps up to each one; the last steps are handed on
    deformable_conv      a convolution whose every window's elements lie `offset` beside their places, times `mask`
    gated_silu           a * sigmoid(alpha * a) * b
    tensor_scatter       a cache into which an update is written from each sequence's position on
Sources: onnxruntime/docs/ContribOperators.md; onnx/docs/Operators.md; Dai et al. 2017, Zhu et al. 2019 (deformable).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport.features import Value
from wexport.layers.flows import opaque
from wexport.layers.numerics import sigmoid
from wexport.layers.registry import (
    ACTIVATION,
    ANY,
    BOOL,
    INT,
    INTS,
    NUMBER,
    TEXT,
    Flow,
    computes,
    equations,
    flow,
    kind,
)  # fmt: skip
from wexport.layers.step import Step, Terms, unread

Array = NDArray[Any]

kind("skip_norm", epsilon=NUMBER, centered=BOOL)
kind("embed_norm", maybe={"dequantize": ANY}, epsilon=NUMBER)
kind("causal_conv", activation=ACTIVATION)
kind("deformable_conv", strides=INTS, padding=INTS, dilation=INTS, groups=INT, offset_groups=INT)
kind("gated_silu", alpha=NUMBER)
kind("tensor_scatter", axis=INT, mode=TEXT)

opaque("embed_norm", "causal_conv", "deformable_conv", "tensor_scatter")


@flow("skip_norm", "gated_silu")
def _alike(f: Flow) -> Mapping[str, Value]:
    return {role: f.source(f.x.shape if role in {"y", "sum"} else None, role) for role in f.names}


# -- sums, normalized --------------------------------------------------------------------------------------------------


def _normal(terms: Terms, epsilon: Any, centered: bool = True) -> str:
    over = "over=-1"
    text = f"s / sqrt(mean(s * s, {over}) + {epsilon})"
    if centered:
        text = f"(s - mean(s, {over})) / sqrt(variance(s, {over}) + {epsilon})"
    scaled = f"{text} * {terms.ref('scale')}" if terms.takes("scale") else text
    return f"y = {scaled}{terms.plus('offset')}"


@equations("skip_norm")
def _skip_equations(terms: Terms) -> list[str]:
    a = terms.attributes
    return [f"s = x + skip{terms.plus('bias')}", _normal(terms, a["epsilon"], a["centered"])]


def _normalized(step: Step, s: Array, centered: bool) -> dict[str, Array]:
    mean = s.mean(axis=-1, keepdims=True)
    below = np.mean(s * s, axis=-1, keepdims=True) if not centered else s.var(axis=-1, keepdims=True)
    inverse = 1 / np.sqrt(below + step.attributes["epsilon"])
    y = (s - mean if centered else s) * inverse
    scale = step.operand("scale")
    y = step.bias(y if scale is None else y * scale, "offset")
    return {"y": y, "mean": mean, "inverse_deviation": inverse, "sum": s}


@computes("skip_norm")
def _compute_skip(step: Step) -> dict[str, Array]:
    return _normalized(step, step.bias(step.x + step.args["skip"], "bias"), step.attributes["centered"])


@equations("embed_norm")
def _embed_equations(terms: Terms) -> list[str]:
    place = f"places(x{', positions' if 'positions' in terms.args else ''})"
    parts = [f"{terms.ref('embedding')}[x]", f"{terms.ref('position_embedding')}[{place}]"]
    seen = "segments" in terms.args
    if seen:
        parts.append(f"{terms.ref('segment_embedding')}[segments]")
    rest = "" if seen else unread(terms, "segment_embedding")
    return [f"s = {' + '.join(parts)}{rest}", _normal(terms, terms.attributes["epsilon"])]


@computes("embed_norm")
def _compute_embed(step: Step) -> dict[str, Array]:
    tokens = step.x.astype(np.int64)
    positions = step.args.get("positions")
    place = np.arange(tokens.shape[1])[None] if positions is None else np.asarray(positions).astype(np.int64)
    s = step.weight("embedding")[tokens] + step.weight("position_embedding")[place]
    if (segments := step.args.get("segments")) is not None:
        s = s + step.weight("segment_embedding")[np.asarray(segments).astype(np.int64)]
    mask = step.args.get("mask")
    count = np.zeros(len(tokens)) if mask is None else (np.asarray(mask) != 0).sum(axis=1)
    found = _normalized(step, s, centered=True)
    return {"y": found["y"], "mask_index": count.astype(np.int32), "sum": s}


# -- convolutions ------------------------------------------------------------------------------------------------------


@equations("causal_conv")
def _causal_equations(terms: Terms) -> list[str]:
    past = ", past_state" if "past_state" in terms.args else ""
    inner = f"causal_conv(x, {terms.ref('kernel')}{past}){terms.plus('bias')}"
    return [f"y = {terms.activation('activation', inner)}"]


@computes("causal_conv")
def _compute_causal(step: Step) -> dict[str, Array]:
    """x `[batch, channel, length]`, kernel `[length, channel]`."""
    x = step.x
    kernel = np.asarray(step.operand("kernel"))
    kernel = kernel if step.has("kernel") else kernel[:, 0].T
    k = len(kernel)
    past = step.args.get("past_state")
    long = np.concatenate([np.zeros((*x.shape[:2], k - 1)) if past is None else past, x], axis=2)
    y = sum(long[:, :, i : i + x.shape[2]] * kernel[i][:, None] for i in range(k))
    bias = step.operand("bias")
    y = np.asarray(y) if bias is None else y + bias[:, None]
    return {"y": step.activate("activation", np.asarray(y)), "present_state": long[:, :, long.shape[2] - (k - 1) :]}


@equations("deformable_conv")
def _deformable_equations(terms: Terms) -> list[str]:
    mask = ", mask" if "mask" in terms.args else ""
    return [f"y = deformable_conv(x, {terms.ref('kernel')}, offset{mask}){terms.plus('bias')}"]


@computes("deformable_conv")
def _compute_deformable(step: Step) -> Array:
    """x `[batch, in, height, width]`; offset `[batch, (group place axis), height, width]`."""
    a, x = step.attributes, step.x
    kernel = np.asarray(step.operand("kernel"))
    kernel = np.transpose(kernel, (3, 2, 0, 1)) if step.has("kernel") else kernel  # [out, in, height, width]
    rows, columns = kernel.shape[2:]
    offset = np.asarray(step.operand("offset"))
    n, _, high, wide = offset.shape
    offset = offset.reshape(n, a["offset_groups"], rows * columns, 2, high, wide)
    mask = step.operand("mask")
    mask = np.ones(offset.shape[:3] + offset.shape[4:]) if mask is None else mask.reshape(offset[:, :, :, 0].shape)
    grid = [np.arange(m) * s - p for m, s, p in zip((high, wide), a["strides"], a["padding"], strict=False)]
    taken = np.empty((n, x.shape[1], rows * columns, high, wide))
    each = x.shape[1] // a["offset_groups"]
    for place, (i, j) in enumerate(itertools.product(range(rows), range(columns))):
        for g in range(a["offset_groups"]):
            y = grid[0][:, None] + i * a["dilation"][0] + offset[:, g, place, 0]
            z = grid[1] + j * a["dilation"][1] + offset[:, g, place, 1]
            own = slice(g * each, (g + 1) * each)
            taken[:, own, place] = _between(x[:, own], y, z) * mask[:, g, place][:, None]
    parts = zip(np.split(taken, a["groups"], axis=1), np.split(kernel, a["groups"], axis=0), strict=True)
    y = np.concatenate([np.einsum("bipyz,oip->boyz", t, k.reshape(*k.shape[:2], -1)) for t, k in parts], axis=1)
    bias = step.operand("bias")
    return y if bias is None else y + bias[:, None, None]


def _between(x: Array, y: Array, z: Array) -> Array:
    """x `[batch, channel, height, width]` at places `[batch, ...]` between its elements; zeros around it."""
    total: Any = 0.0
    batch = np.arange(len(x))[:, None, None]
    for low in itertools.product((0, 1), repeat=2):
        row, column = np.floor(y) + low[0], np.floor(z) + low[1]
        weight = (1 - np.abs(y - row)) * (1 - np.abs(z - column))
        inside = (row >= 0) & (row < x.shape[2]) & (column >= 0) & (column < x.shape[3])
        index = [np.clip(v, 0, n - 1).astype(np.int64) for v, n in ((row, x.shape[2]), (column, x.shape[3]))]
        total = total + np.moveaxis(x[batch, :, index[0], index[1]], -1, 1) * (weight * inside)[:, None]
    return np.asarray(total)


# -- others ------------------------------------------------------------------------------------------------------------


@equations("gated_silu")
def _gated_equations(terms: Terms) -> list[str]:
    a, b = terms.arg("x")
    return [f"y = {a} * sigmoid({terms.attributes['alpha']} * {a}) * {b}"]


@computes("gated_silu")
def _compute_gated(step: Step) -> Array:
    a, b = step.xs
    return a * sigmoid(step.attributes["alpha"] * a) * b


@computes("tensor_scatter")
def _compute_scatter(step: Step) -> Array:
    axis = step.attributes["axis"]
    cache, update = (np.moveaxis(v, axis, 1) for v in (step.x, step.args["update"]))
    places = step.args.get("places")
    first = np.zeros(len(cache), np.int64) if places is None else np.asarray(places).reshape(-1).astype(np.int64)
    index = first[:, None] + np.arange(update.shape[1])
    index = index % cache.shape[1] if step.attributes["mode"] == "circular" else index
    found = cache.copy()
    found[np.arange(len(cache))[:, None], index] = update
    return np.moveaxis(found, 1, axis)
