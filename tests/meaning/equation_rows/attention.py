"""Attention: masks, grouped heads, caches."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from equation_rows.row import Array, Row, f


def _heads(kv: int, gate: bool, value: int = 3) -> dict[str, tuple[str, Array]]:
    found = {}
    for part, n, dim in (
        ("query", 4, 3),
        ("key", kv, 3),
        ("value", kv, value),
        *([("gate", 4, value)] if gate else []),
    ):
        head = "kv_head" if part in {"key", "value"} and kv != 4 else "head"
        found[f"{part}.kernel"] = (f"in {head} dim", f(5, n, dim))
        found[f"{part}.bias"] = (f"{head} dim", f(n, dim))
    return {**found, "output.kernel": ("head dim out", f(4, value, 6)), "output.bias": ("out", f(6))}


def _attention() -> Iterator[Row]:
    q, v = f(2, 3, 5), f(2, 4, 5)
    masks = {
        "query_mask": np.asarray([[1, 1, 0], [1, 1, 1]], bool),
        "value_mask": np.asarray([[1, 0, 1, 1], [1, 1, 1, 0]], bool),
        "key_mask": np.asarray([[1, 1, 1, 0], [1, 1, 1, 1]], bool),
        "mask": f(2, 3, 4) > -1,
    }
    a = {
        "heads": 4,
        "kv_heads": 4,
        "key_dim": 3,
        "value_dim": 3,
        "gate": False,
        "output_shape": None,
        "attention_axes": None,
        "window": None,
    }
    for kv, gate in ((4, False), (2, True)):
        for name, more in (("plain", {}), *masks.items(), ("all", masks)):
            args = {"query": q, "value": v, **(more if isinstance(more, dict) else {name: more})}
            yield Row(
                "multi_head_attention", {**a, "kv_heads": kv, "gate": gate}, _heads(kv, gate), args, note=f"{kv}-{name}"
            )
    same = {"query": q, "value": q, "key": f(2, 3, 5)}
    yield Row("multi_head_attention", a, _heads(4, False), {**same, "causal": True}, note="causal")
    yield Row("multi_head_attention", {**a, "window": 2, "value_dim": 2}, _heads(4, False, 2), same, note="window")
    none = np.asarray([[True, True, True], [False, False, False]])  # what all queries of the second may see
    for how in ("zero", "zero_with_scores"):
        for scores in ({}, {"returns_scores": True}):
            args = {**same, "key_mask": none, **scores}
            yield Row(
                "multi_head_attention", {**a, "all_masked": how}, _heads(4, False), args, note=f"{how}-{len(args)}"
            )
    x = f(2, 3, 4, 5)
    args = {"query": x, "value": x, "mask": np.asarray([[[True]], [[False]]])}
    other = {**a, "all_masked": "zero_with_scores", "attention_axes": [1, 2]}
    yield Row("multi_head_attention", other, _heads(4, False), args, note="zero-of-four-axes")
    for axes in ([1], [2], [1, 2]):
        yield Row(
            "multi_head_attention",
            {**a, "attention_axes": axes},
            _heads(4, True),
            {"query": x, "value": x + 1},
            note=f"axes-{axes}",
        )
    for score in ("dot", "concat", "additive"):
        own = {"scale": ("dim", f(5)) if score == "additive" else ("", f())}
        own |= {"score_scale": ("", f())} if score == "concat" else {}
        more = {"causal": True, "key": f(2, 4, 5), "value_mask": masks["value_mask"], "query_mask": masks["query_mask"]}
        b = {"score": score, "scaled": True, "causal": False}
        yield Row("attention", b, own, {"query": q, "value": v}, note=score)
        yield Row("attention", b, own, {"query": q, "value": v, **more}, note=f"{score}-masked")
        yield Row("attention", {**b, "causal": True}, own, {"query": q, "value": v}, note=f"{score}-causal")


def _products() -> Iterator[Row]:
    q, k, v = f(2, 3, 8), f(2, 5, 4), f(2, 5, 6)
    a = {"heads": 4, "kv_heads": 2, "scale": None, "causal": True, "softcap": 2.0}
    biases = {
        "query.bias": ("head dim", f(4, 2)),
        "key.bias": ("head dim", f(2, 2)),
        "value.bias": ("head dim", f(2, 3)),
    }
    args = {"query": q, "key": k, "value": v, "past_key": f(2, 2, 3, 2), "past_value": f(2, 2, 3, 3)}
    yield Row("scaled_dot_product", a, biases, args)
    yield Row("scaled_dot_product", {**a, "window": [1, 2], "scale": 0.3}, {}, {**args, "mask": f(3, 8)}, note="window")
    whole = {"kernel": ("in out", f(8, 14)), "bias": ("out", f(14))}
    b = {"heads": 2, "scale": None, "causal": False, "sizes": [4, 4, 6]}
    yield Row(
        "projected_attention", b, whole, {"x": q, "padding": np.asarray([2, 3]), "mask": f(2, 2, 3, 3)}, note="whole"
    )
    g = {**a, "rotary": True, "interleaved": False}
    caches = {"cos_cache": ("position dim", f(9, 2)), "sin_cache": ("position dim", f(9, 2))}
    args = {
        "query": f(2, 1, 16),
        "key": f(2, 1, 8),
        "value": f(2, 1, 8),
        "past_key": f(2, 2, 6, 4),
        "past_value": f(2, 2, 6, 4),
        "lengths": np.asarray([3, 5]),
        "total": np.asarray(6),
    }
    yield Row("grouped_attention", g, caches, args)
    yield Row("grouped_attention", {**g, "interleaved": True, "window": [1, -1]}, caches, args, note="window")
    two = {"query": f(2, 2, 16), "key": f(2, 2, 8), "value": f(2, 2, 8), "past_key": f(2, 2, 6, 4)}
    two |= {"past_value": f(2, 2, 6, 4), "lengths": np.asarray([3, 5]), "total": np.asarray(6)}
    yield Row("grouped_attention", g, caches, two, note="two-keys")
    first = {"query": f(2, 3, 32), "lengths": np.asarray([2, 1]), "total": np.asarray(3)}
    yield Row("grouped_attention", g, caches, first, note="packed")
    for update in ("linear", "gated", "delta", "gated_delta"):
        args = {"query": f(2, 3, 8), "key": f(2, 3, 4), "value": f(2, 3, 6), "past_state": f(2, 2, 2, 3)}
        args |= {"decay": f(2, 3, 4)} if "gated" in update else {}
        args |= {"beta": f(2, 3, 2)} if "delta" in update else {}
        yield Row(
            "linear_attention", {"heads": 4, "kv_heads": 2, "scale": None, "update": update}, {}, args, note=update
        )


def rows() -> Iterator[Row]:
    yield from _attention()
    yield from _products()
