"""Support vectors, votes, and trees."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from equations.functions import FUNCTIONS as COMMON
from equations.values import Array, Call, Value, value


def _alike(function: Callable[..., float]) -> Any:
    def apply(call: Call, x: Value, vectors: Value, parameters: Value | None = None) -> Value:
        gamma, offset, degree = (0.0, 0.0, 0.0) if parameters is None else parameters.data[:3].tolist()
        found = [[function(row, v, gamma, offset, degree) for v in vectors.data] for row in x.data]
        return value(np.asarray(found))

    return apply


_KERNELS: dict[str, Callable[..., float]] = {
    "linear": lambda x, v, *_: x @ v,
    "rbf": lambda x, v, gamma, *_: math.exp(-gamma * ((x - v) ** 2).sum()),
    "poly": lambda x, v, gamma, offset, degree: (gamma * (x @ v) + offset) ** int(degree),
    "sigmoid": lambda x, v, gamma, offset, _: math.tanh(gamma * (x @ v) + offset),
}


def _sigmoid(call: Call, x: Value, *rest: Any) -> Value:
    """Of one value the function, of x and vectors the kernel of that name."""
    return _alike(_KERNELS["sigmoid"])(call, x, *rest) if rest else COMMON["sigmoid"](call, x)


def _by_pairs(call: Call, alike: Value, coefficients: Value, counts: Value) -> Value:
    ends = np.cumsum(counts.data.astype(int)).tolist()
    own = [range(end - int(n), end) for n, end in zip(counts.data, ends, strict=True)]
    columns = []
    for i in range(len(own)):
        for j in range(i + 1, len(own)):
            s = sum(alike.data[:, v] * coefficients.data[j - 1, v] for v in own[i])
            columns.append(s + sum(alike.data[:, v] * coefficients.data[i, v] for v in own[j]))
    return value(np.stack(columns, axis=1))


def _votes(call: Call, s: Value, counts: Value) -> Value:
    n = len(counts.data)
    found = np.zeros((len(s.data), n))
    pairs = [(i, j) for i in range(n) for j in range(i + 1, n)]
    for k, (i, j) in enumerate(pairs):
        for row, score in enumerate(s.data[:, k]):
            found[row, i if score > 0 else j] += 1
    return value(found)


def _joined(call: Call, p: Value) -> Value:
    """The classes' probabilities from those of pairs (Wu, Lin & Weng 2004, second method, as LIBSVM iterates)."""
    n = round((1 + math.sqrt(1 + 8 * p.data.shape[1])) / 2)
    return value(np.stack([_of_pairs(row, n) for row in np.clip(p.data, 1e-7, 1 - 1e-7)]))


def _of_pairs(row: Array, n: int) -> Array:
    r = np.zeros((n, n))
    r[np.triu_indices(n, 1)] = row
    r = r + np.tril(1 - r.T, -1)
    q = np.empty((n, n))
    for i in range(n):
        for j in range(n):
            q[i, j] = -r[j, i] * r[i, j] if i != j else sum(r[k, i] ** 2 for k in range(n) if k != i)
    p = np.full(n, 1 / n)
    for _ in range(max(100, n)):
        gradient = q @ p
        if np.abs(gradient - p @ gradient).max() < 0.005 / n:
            break
        for t in range(n):
            gradient = q @ p
            p[t] += (p @ gradient - gradient[t]) / q[t, t]
            p = p / p.sum()
    return p


def _second(call: Call, votes: Value, coefficients: Value, floor: float | None = None) -> Value:
    best, largest = votes.data.argmax(axis=1), votes.data.max(axis=1)
    if coefficients.data.min() >= 0:
        best = np.where(largest >= 0.5, 1, best)
    elif floor is not None:
        best = np.where(largest > floor, 1, best)
    return value(best)


def _both_ways(call: Call, s: Value) -> Value:
    return value(np.concatenate([-s.data, s.data], axis=1)) if s.data.shape[1] == 1 else s


def _softmax_zero(call: Call, s: Value) -> Value:
    """Softmax over what is not zero; zeros keep near to zero."""
    top = s.data.max(axis=-1, keepdims=True)
    e = np.where(np.abs(s.data) > 1e-7, np.exp(s.data - top), s.data * np.exp(-top))
    total = e.sum(axis=-1, keepdims=True)
    return value(np.where(total == 0, 0.5, e / np.where(total == 0, 1, total)))


def _probit(call: Call, p: Value) -> Value:
    """The inverse of the normal distribution function, by Winitzki's approximation."""
    x = 2 * p.data - 1
    with np.errstate(all="ignore"):
        log = np.log(1 - x * x)
        v = 2 / (np.pi * 0.147) + log / 2
        return value(np.where(np.isneginf(log), 0, 1.41421356 * np.sign(x) * np.sqrt(np.sqrt(v**2 - log / 0.147) - v)))


# -- trees -------------------------------------------------------------------------------------------------------------

_ASKS: dict[str, Callable[[float, float], bool]] = {
    "BRANCH_LEQ": lambda x, v: x <= v, "BRANCH_LT": lambda x, v: x < v, "BRANCH_GTE": lambda x, v: x >= v,
    "BRANCH_GT": lambda x, v: x > v, "BRANCH_EQ": lambda x, v: x == v, "BRANCH_NEQ": lambda x, v: x != v,
}  # fmt: skip
_WORDS = [*_ASKS, "BRANCH_MEMBER", "LEAF"]


def _descend(
    call: Call, x: Value, trees: Value, nodes: Value, features: Value, modes: list[str], values: Value, yes: Value,
    no: Value, missing: Value | None = None,
) -> Value:  # fmt: skip
    """The leaf that each row reaches in each tree, [row, tree], as a number of a node."""
    of = {(int(t), int(n)): i for i, (t, n) in enumerate(zip(trees.data, nodes.data, strict=True))}
    roots: dict[int, int] = {}
    for i, tree in enumerate(trees.data.astype(int).tolist()):
        roots.setdefault(tree, i)
    found = np.empty((len(x.data), len(roots)), int)
    for row, sample in enumerate(x.data.tolist()):
        for column, tree in enumerate(sorted(roots)):
            i = roots[tree]
            seen_before = set()
            while modes[i] != "LEAF":
                assert i not in seen_before, "a tree that goes round"
                seen_before.add(i)
                seen = sample[int(features.data[i])]
                true = _ASKS[modes[i]](seen, values.data[i])
                if math.isnan(seen):
                    true = missing is not None and missing.data[i] >= 1
                i = of[tree, int((yes if true else no).data[i])]
            found[row, column] = i
    return value(found)


def _total(how: str, rows: int, targets: int, trees: int, given: list[tuple[int, int, float]]) -> Value:
    """What the leaves say, added up (or their mean, least, largest) for each row and target; zero where none does."""
    cells: dict[tuple[int, int], list[float]] = {}
    for row, target, weight in given:
        cells.setdefault((row, target), []).append(weight)
    functions: dict[str, Callable[[list[float]], float]] = {
        "sum": sum,
        "average": lambda w: sum(w) / trees,
        "min": min,
        "max": max,
    }
    found = np.zeros((rows, targets))
    for place, weights in cells.items():
        found[place] = functions[how](weights)
    return value(found)


def _of_leaves(how: str) -> Any:
    def apply(call: Call, leaf: Value, trees: Value, nodes: Value, ids: Value, weights: Value) -> Value:
        own = {n: call.tensors[f"nodes_{n}"].data.astype(int).tolist() for n in ("treeids", "nodeids")}
        entries: dict[tuple[int, int], list[int]] = {}
        for k, key in enumerate(zip(trees.data.astype(int).tolist(), nodes.data.astype(int).tolist(), strict=True)):
            entries.setdefault(key, []).append(k)
        given = []
        for row, reached in enumerate(leaf.data.tolist()):
            for i in reached:
                mine = entries.get((own["treeids"][i], own["nodeids"][i]), [])
                given += [(row, int(ids.data[k]), float(weights.data[k])) for k in mine]
        targets = call.entry.get("targets") or max(len(call.entry["classes"]), 1)
        return _total(how, len(leaf.data), targets, leaf.data.shape[1], given)

    return apply


def _descend_numbered(
    call: Call, x: Value, roots: Value, features: Value, modes: Value, splits: Value, yes: Value, yes_leaf: Value,
    no: Value, no_leaf: Value, missing: Value | None = None, sets: Value | None = None,
) -> Value:  # fmt: skip
    """The number of the leaf that each row reaches in each tree."""
    members: dict[int, set[float]] = {}
    if sets is not None:
        runs: list[set[float]] = [set()]
        for v in sets.data.tolist():
            if math.isnan(v):
                runs.append(set())
            else:
                runs[-1].add(v)
        asking = [i for i, m in enumerate(modes.data.astype(int).tolist()) if _WORDS[m] == "BRANCH_MEMBER"]
        members = dict(zip(asking, runs, strict=False))
    found = np.empty((len(x.data), len(roots.data)), int)
    for row, sample in enumerate(x.data.tolist()):
        for column, root in enumerate(roots.data.astype(int).tolist()):
            i, at_leaf, seen_before = root, False, set()
            while not at_leaf:
                assert i not in seen_before, "a tree that goes round"
                seen_before.add(i)
                seen, word = sample[int(features.data[i])], _WORDS[int(modes.data[i])]
                true = seen in members[i] if word == "BRANCH_MEMBER" else _ASKS[word](seen, splits.data[i])
                if math.isnan(seen):
                    true = missing is not None and missing.data[i] >= 1
                to, leaf = (yes, yes_leaf) if true else (no, no_leaf)
                i, at_leaf = int(to.data[i]), bool(leaf.data[i])
            found[row, column] = i
    return value(found)


def _of_numbered(how: str) -> Any:
    def apply(call: Call, leaf: Value, targets: Value, weights: Value) -> Value:
        given = [
            (row, int(targets.data[i]), float(weights.data[i]))
            for row, own in enumerate(leaf.data.tolist())
            for i in own
        ]
        return _total(how, len(leaf.data), call.entry["targets"], leaf.data.shape[1], given)

    return apply


def _transform(call: Call, s: Array) -> Value:
    word = call.entry["post_transform"].lower()
    return value(s) if word == "none" else FUNCTIONS.get(word, COMMON.get(word))(call, value(s))


def _two_classes(call: Call, s: Value, ids: Value, weights: Value) -> Value:
    """The scores of two classes, of which the leaves may speak for one alone."""
    own = sorted(set(ids.data.astype(int).tolist()))
    if len(own) > 1:
        return _transform(call, s.data)
    score = s.data[:, own[0]]
    if own[0]:
        return _transform(call, np.stack([0 * score, score], axis=1))
    if call.entry["post_transform"] == "LOGISTIC":
        return _transform(call, np.stack([-score, score], axis=1))
    return value(np.stack([1 - score if weights.data.min() >= 0 else -score, score], axis=1))


def _one_of_two(call: Call, s: Value, ids: Value, weights: Value) -> Value:
    own, names = sorted(set(ids.data.astype(int).tolist())), list(call.entry["classes"])
    if len(own) > 1:
        chosen = s.data.argmax(axis=1)
    else:
        chosen = (s.data[:, own[0]] > (0.5 if weights.data.min() >= 0 else 0)).astype(int)
        names = ["" if isinstance(names[0], str) else 0, *names] if len(names) == 1 else names
    return value(np.asarray([names[i] for i in chosen]) if names else chosen)


_HOW = ("sum", "average", "min", "max")
FUNCTIONS: dict[str, Any] = {
    **{name: _alike(f) for name, f in _KERNELS.items()}, "sigmoid": _sigmoid,
    "by_pairs": _by_pairs, "votes": _votes, "joined": _joined, "second": _second, "both_ways": _both_ways,
    "softmax_zero": _softmax_zero, "probit": _probit, "descend": _descend, "descend_numbered": _descend_numbered,
    **{f"{how}_of_leaves": _of_leaves(how) for how in _HOW},
    **{f"{how}_of_numbered": _of_numbered(how) for how in _HOW},
    "two_classes": _two_classes, "one_of_two": _one_of_two,
}  # fmt: skip
