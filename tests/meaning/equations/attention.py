"""Heads, masks, positions and caches of attention."""

from __future__ import annotations

from typing import Any

import numpy as np

from equations.values import Array, Call, Value, value


def split_heads(x: Array, heads: int | None) -> Array:
    """`[batch, place, (head dim)]` as `[batch, head, place, dim]`."""
    if heads is None or x.ndim == 4:
        return x
    y = np.stack(np.split(x, heads, axis=-1), axis=1)
    return np.asarray(y)


def _heads(call: Call, parts: Any) -> Any:
    return tuple(value(split_heads(p.data, call.entry["heads"])) for p in parts)


def _split(call: Call, x: Value, sizes: tuple[int, ...]) -> Any:
    ends = np.cumsum(sizes)
    return tuple(
        value(x.data[..., end - n : end], (*x.names[:-1], ())) for n, end in zip(sizes, ends.tolist(), strict=True)
    )


def _join(call: Call, x: Value) -> Value:
    """The inverse of heads, where the query came without."""
    if call.args.get("query") is not None and np.ndim(call.args["query"]) == 4:
        return value(x.data)
    return value(np.concatenate([x.data[:, h] for h in range(x.data.shape[1])], axis=-1))


def _parts(call: Call, *given: Value, bias: Any = None) -> Any:
    """Query, key and value, which may be packed into one argument, with heads and with their biases."""
    a, xs = call.entry, [g.data for g in given]
    heads, fewer = a["heads"], a["kv_heads"]
    query = xs[0]
    if query.ndim == 5:  # [batch, place, head, part, dim]
        xs = [np.swapaxes(query[:, :, :, i], 1, 2) for i in range(3)]
    elif len(xs) == 2 and xs[1].ndim == 5:
        xs = [query, *(np.swapaxes(xs[1][:, :, :, i], 1, 2) for i in range(2))]
    elif len(xs) == 1:
        dim = query.shape[-1] // (heads + 2 * fewer)
        xs = np.split(query, [heads * dim, (heads + fewer) * dim], axis=-1)
    found = []
    for number, (x, n) in enumerate(zip(xs, (heads, fewer, fewer), strict=True)):
        cached = number > 0 and x.ndim == 4 and query.ndim == 3  # keys of another sequence, which have theirs already
        x = split_heads(x, n)
        if bias is not None and not cached:
            x = x + bias[number].data.reshape(1, x.shape[1], 1, -1)
        found.append(value(x))
    return tuple(found)


def _pairs(call: Call, a: Value, b: Value) -> Value:
    """The sum of every row of a and every row of b."""
    return value(a.data[..., :, None, :] + b.data[..., None, :, :])


def _turned(call: Call, x: Value, cos: Value, sin: Value) -> Value:
    """Pairs of features turned by an angle for each position."""
    half, entry = cos.data.shape[-1], call.entry
    flat = x.ndim == 3
    y = split_heads(x.data, (entry["heads"] or x.data.shape[-1] // (2 * half)) if flat else None).copy()
    dim = entry.get("dim") or 2 * half
    for i in range(dim // 2):
        p, q = (2 * i, 2 * i + 1) if entry["interleaved"] else (i, i + dim // 2)
        c, s = cos.data[..., None, :, i], sin.data[..., None, :, i]
        y[..., p], y[..., q] = y[..., p] * c - y[..., q] * s, y[..., p] * s + y[..., q] * c
    return value(np.concatenate([y[:, h] for h in range(y.shape[1])], axis=-1) if flat else y)


def _positions(call: Call, x: Value, given: Value | None = None) -> Value:
    """0, 1, 2 ... along x's places; or the given ones, of which there may be only the first."""
    count = np.arange(x.data.shape[2 if x.ndim == 4 else 1])[None]
    if given is None:
        return value(count)
    return value(given.data if given.ndim == 2 else count + given.data.reshape(-1)[0])


def _cached(call: Call, x: Value, at: Value, total: Value, past: Value | None = None) -> Value:
    """A sequence's past up to where the new ones begin, then these; zeros behind."""
    held = 0 if past is None else past.data.shape[2]
    n = int(total.data.reshape(-1)[0])
    y = np.zeros((*x.data.shape[:2], max(n, held), x.data.shape[3]))
    for row, start in enumerate(at.data.reshape(-1).tolist()):
        if past is not None:
            y[row, :, :start] = past.data[row, :, :start]
        y[row, :, start : start + x.data.shape[2]] = x.data[row]
    return value(y[:, :, :n])


def _length(call: Call, x: Value, axis: int) -> Value:
    return value(x.data.shape[axis])


def _dim(call: Call, x: Value) -> Value:
    return value(x.data.shape[-1])


def _rank(call: Call, x: Value) -> Value:
    return value(x.ndim)


# -- functions that know their arguments by name -----------------------------------------------------------------------


def _seen(call: Call, masks: dict[str, Any]) -> Value:
    """Which key each query may see, `[batch, (head,) query, key]`: all masks that are there say so."""
    query, keyed = np.asarray(call.args["query"]), np.asarray(call.args["value"])
    single = call.entry["kind"] == "attention"
    axes = [query.ndim - 2] if single else call.entry["attention_axes"] or range(1, query.ndim - 1)
    t, s = (int(np.prod([x.shape[i] for i in axes])) for x in (query, keyed))
    row, column = np.arange(t)[:, None], np.arange(s)
    allowed = np.ones((1, t, s), bool)
    for name, mask in masks.items():
        if mask is None or name == "causal":
            continue
        m = mask.data.astype(bool)
        by = {"query_mask": m[..., :, None], "key_mask": m[..., None, :], "value_mask": m[..., None, :]}
        m = by.get(name, m)
        allowed = allowed[:, None] & m if m.ndim == 4 and allowed.ndim == 3 else allowed & m
    if masks.get("causal") or call.entry.get("causal"):
        allowed = allowed & (column <= row)
    if call.entry.get("window") is not None:
        allowed = allowed & (np.abs(row - column) < call.entry["window"])
    if single or allowed.ndim == 4:
        return value(allowed)
    free = query.ndim - 2 - len(list(axes))
    return value(allowed.reshape(allowed.shape[0], *(1,) * (1 + free), t, s))


def _hidden(call: Call, given: dict[str, Any], past: Any = None) -> Value:
    """Scores `[batch, head, query, key]` plus what masks add to them."""
    scores = next(iter(given.values())).data
    batch, _, queries, keys = scores.shape
    before = np.zeros(batch, int) if past is None else np.broadcast_to(past.data.reshape(-1), (batch,))
    total = np.zeros((batch, 1, queries, keys))
    mask, padding, lengths = (given.get(n) for n in ("mask", "padding", "lengths"))
    if mask is not None:
        m = mask.data
        m = np.where(m, 0.0, -np.inf) if m.dtype == bool else m
        more = keys - m.shape[-1]  # keys that it does not reach are not seen
        m = np.concatenate([m, np.full((*m.shape[:-1], more), -np.inf)], axis=-1) if more > 0 else m
        total = total + m
    if lengths is not None:
        ends = lengths.data.reshape(-1)
        before = ends - queries
        total = total + np.where(np.arange(keys) < ends[:, None, None, None], 0.0, -np.inf)
    if padding is not None:
        total = total + _padding(padding.data, batch, queries, keys, call.entry.get("masked", -10000.0))
    left, right = call.entry.get("window") or (-1, -1)
    for b, i, j in np.ndindex(batch, queries, keys):
        back = before[b] + i - j  # how far the key lies behind the query
        if (call.entry["causal"] and back < 0) or (left >= 0 and back > left) or (right >= 0 and -back > right):
            total[b, :, i, j] = -np.inf
    return value(scores + total)


def _padding(m: Array, batch: int, queries: int, keys: int, low: float) -> Array:
    if m.ndim == 1:  # ends of the sequences, then perhaps their beginnings
        starts = m[batch:] if len(m) == 2 * batch else np.zeros(batch)
        place = np.arange(keys)
        kept = (place < m[:batch, None]) & (place >= starts[:, None])
    else:
        kept = m != 0
    shape = {2: lambda k: k[:, None, None], 3: lambda k: k[:, None]}
    four = shape.get(kept.ndim, lambda k: k[:, :, keys - queries : keys, :keys])
    return np.where(four(kept), 0.0, low)


def _begins(call: Call, given: dict[str, Any]) -> Value:
    """Where each sequence's new keys begin, a column: behind its own past, if there is one."""
    k, new = given["k"], given["k"].data.shape[2]
    total = int(given["total"].data.reshape(-1)[0])
    past = given.get("past_key")
    if past is None or past.data.shape[2] == 0 or total <= new:
        return value(np.zeros((len(k.data), 1), int))
    return value((given["lengths"].data.reshape(-1).astype(int) + 1 - new)[:, None])


FUNCTIONS: dict[str, Any] = {
    "heads": _heads, "split": _split, "join": _join, "parts": _parts, "pairs": _pairs, "turned": _turned,
    "places": _positions, "cached": _cached, "length": _length, "dim": _dim, "rank": _rank,
}  # fmt: skip
BY_NAME: dict[str, Any] = {"seen": _seen, "hidden": _hidden, "begins": _begins}
