"""Embeddings: a row for each token.

    Keras  Embedding            embeddings "token dim" (W in Keras 1); quantized in Keras 3, see `quantized.py`
           ReversibleEmbedding  and, unless its weights are tied, reverse_embeddings "dim token"

Sources: keras/src/layers/core/embedding.py, reversible_embedding.py (3.15.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport.features import Value
from wexport.layers import quantized
from wexport.layers.keras import Keras, Slot, Stored, keras, rule
from wexport.layers.registry import BOOL, INT, NUMBER, Flow, computes, equations, flow, kind, optional
from wexport.layers.step import Step, Terms
from wexport.layout import Packed

Array = NDArray[Any]

kind(
    "embedding", maybe={**quantized.MAYBE, "tied": BOOL, "soft_cap": optional(NUMBER)},
    tokens=INT, dim=INT, mask_zero=BOOL,
)  # fmt: skip


@keras("Embedding", "ReversibleEmbedding")
def _embedding(layer: Keras) -> Stored:
    tokens, dim = layer.integer("input_dim"), layer.integer("output_dim")
    zero = layer.flag("mask_zero", default=False)
    how = quantized.policy(layer)
    attributes = {"tokens": tokens, "dim": dim, "mask_zero": zero, **how.attributes()}
    if layer.class_name != "ReversibleEmbedding":
        attributes.pop("quantize_input", None)  # tokens are not rounded; what goes the way back is
    slots = list(_table(layer, how, "embeddings", "embedding", "token dim", dim))
    call: tuple[str, ...] = ("x",)
    if layer.class_name == "ReversibleEmbedding":
        tied = layer.flag("tie_weights", default=True)
        attributes |= {"tied": tied, "soft_cap": layer.get("logit_soft_cap")}
        call = ("x", "reverse")
        if not tied:
            slots += _reverse(layer, how, dim)
            if how.block is not None:  # no array says the group of each position, as the table has one
                attributes["dequantize"] = {**attributes["dequantize"], "axis": "dim"}
    if layer.era.major == 1:
        slots = [Slot("W", slots[0].rule)]
    return Stored("embedding", attributes, tuple(slots), call, mask="make" if zero else "stop")


def _table(layer: Keras, how: quantized.Policy, name: str, role: str, axes: str, dim: int) -> tuple[Slot, ...]:
    low = quantized.lora_slots(how, name, "token", "dim")
    if how.mode in (None, "float8"):
        return (Slot(name, rule(f"{axes} -> {role}: {axes}"), trainable=how.rank is None, tracked=True), *low)
    steps = (Packed("dim"),) if how.mode == "int4" else ()
    table = Slot(
        name, rule(f"{axes} -> {role}: {axes}", *steps, sizes={"dim": dim} if steps else None), trainable=False
    )
    block = how.block is not None
    scale = "token group" if block else "token"
    found = [table, *low, Slot(f"{name}_scale", rule(f"{scale} -> {role}_scale: {scale}"), trainable=False)]
    if block:
        found.append(Slot(f"{name}_zero", rule(f"{scale} -> {role}_zero_point: {scale}"), trainable=False))
        found.append(Slot("g_idx", rule(f"dim -> {role}_group: dim"), trainable=False))
    return tuple(found)


def _reverse(layer: Keras, how: quantized.Policy, dim: int) -> list[Slot]:
    name, role = "reverse_embeddings", "reverse_embedding"
    if how.mode in (None, "float8"):
        return [Slot(name, rule(f"dim token -> {role}: dim token"))]
    steps = (Packed("dim"),) if how.mode == "int4" else ()
    found = [
        Slot(
            name,
            rule(f"dim token -> {role}: dim token", *steps, sizes={"dim": dim} if steps else None),
            trainable=False,
        )
    ]
    scale = "group token" if how.block is not None else "token"
    found.append(Slot(f"{name}_scale", rule(f"{scale} -> {role}_scale: {scale}"), trainable=False))
    if how.block is not None:
        found.append(Slot(f"{name}_zero", rule(f"{scale} -> {role}_zero_point: {scale}"), trainable=False))
    return found


@flow("embedding")
def _embedding_flow(f: Flow) -> Mapping[str, Value]:
    a = f.attributes
    if f.x.shape is None:
        return {"y": f.source(None)}
    if f.args.get("reverse"):
        return {"y": f.source((*f.x.shape[:-1], a["tokens"]))}
    shape = (*f.x.shape, a["dim"])
    found = {"y": f.source(shape, channel=-1, dtype="float32")}
    return {**found, "mask": f.source(f.x.shape, "mask", dtype="bool")}


@equations("embedding")
def _embedding_equations(terms: Terms) -> list[str]:
    table = quantized.kernel_term(terms, "embedding") or terms.ref("embedding")
    mask = ["mask = x != 0"] if terms.attributes["mask_zero"] else []
    if "reverse" not in terms.args:
        return [f"y = {table}[x]", *mask]
    other = quantized.kernel_term(terms, "reverse_embedding") if terms.has("reverse_embedding") else f"{table}.T"
    back = f"{quantized.rounded_term(terms, 'x')} @ {other or terms.ref('reverse_embedding')}"
    cap = terms.attributes.get("soft_cap")
    back = back if cap is None else f"tanh({back} / {cap}) * {cap}"
    return [f"y = {back} if reverse else {table}[x]", *mask]


@computes("embedding")
def _compute_embedding(step: Step) -> Any:
    a = step.attributes
    table = quantized.dequantized(step, "embedding")
    if (low := quantized.low_rank(step)) is not None:
        table = table + low
    if step.args.get("reverse"):
        other = quantized.dequantized(step, "reverse_embedding") if step.has("reverse_embedding") else table.T
        y = quantized.rounded_input(step, step.x) @ other
        cap = a.get("soft_cap")
        return y if cap is None else np.tanh(y / cap) * cap
    x = step.x.astype(np.int64)
    return {"y": table[x], "mask": x != 0}
