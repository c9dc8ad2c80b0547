"""Ensembles of decision trees.

    tree_ensemble_classifier, tree_ensemble_regressor
        node i of `nodes_treeids` and `nodes_nodeids` asks feature `nodes_featureids` of x by `nodes_modes` and
        `nodes_values`, and goes to `nodes_truenodeids` or `nodes_falsenodeids`; a missing feature is true where
        `nodes_missing_value_tracks_true` says so; a tree starts at its first node. The weights of the leaves reached
        (`class_nodeids`, `target_nodeids`) are added up for each class or target
    tree_ensemble
        the same with numbers of nodes and of leaves, and sets of values (`membership_values`, between NaNs)

Weights that are all of the first of two classes speak for the second: as its probability where all are positive, else
as a score, and against the first.
Source: onnx/docs/Operators-ml.md, with what onnxruntime does where it says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport.features import Value
from wexport.layers.registry import INT, NUMBERS, TEXT, Flow, computes, equations, flow, kind
from wexport.layers.scores import TRANSFORMS, labelled, labels, named, rows_of
from wexport.layers.step import Step, Terms, unread

Array = NDArray[Any]

kind("tree_ensemble_classifier", nodes_modes=NUMBERS, classes=NUMBERS, post_transform=TEXT)
kind("tree_ensemble_regressor", nodes_modes=NUMBERS, targets=INT, aggregate=TEXT, post_transform=TEXT)
kind("tree_ensemble", targets=INT, aggregate=TEXT, post_transform=TEXT)

_MODES: dict[str, Callable[[Array, Array], Array]] = {
    "BRANCH_LEQ": np.less_equal, "BRANCH_LT": np.less, "BRANCH_GTE": np.greater_equal, "BRANCH_GT": np.greater,
    "BRANCH_EQ": np.equal, "BRANCH_NEQ": np.not_equal,
}  # fmt: skip
_WORDS = (*_MODES, "BRANCH_MEMBER", "LEAF")
_MEMBER, _LEAF = len(_WORDS) - 2, len(_WORDS) - 1


@flow("tree_ensemble_classifier")
def _classifier_flow(f: Flow) -> Mapping[str, Value]:
    return labelled(f, max(len(f.attributes["classes"]), 2))


@flow("tree_ensemble_regressor", "tree_ensemble")
def _regressor_flow(f: Flow) -> Mapping[str, Value]:
    dtype = "float64" if "nodes_modes" not in f.attributes and f.x.dtype == "float64" else "float32"
    return {"y": f.source(((f.x.shape or (None,))[0], f.attributes["targets"]), dtype=dtype)}


@equations("tree_ensemble_classifier", "tree_ensemble_regressor")
def _equations(terms: Terms) -> list[str]:
    a = terms.attributes
    word, result = ("class", "scores") if "classes" in a else ("target", "y")
    nodes = _refs(terms, *(f"nodes_{n}" for n in ("treeids", "nodeids", "featureids")))
    nodes += ", nodes_modes, " + _refs(terms, *(f"nodes_{n}" for n in ("values", "truenodeids", "falsenodeids")))
    leaves = _refs(terms, *(f"{word}_{n}" for n in ("treeids", "nodeids", "ids", "weights")))
    lines = [f"leaf = descend(x, {nodes}{_missing(terms)}){unread(terms, 'nodes_hitrates')}"]
    total = f"{a.get('aggregate', 'SUM').lower()}_of_leaves(leaf, {leaves}){terms.plus('base_values')}"
    if word == "target":
        return [*lines, f"{result} = {named(a['post_transform'], total)}"]
    lines.append(f"s = cast({total}, float32)")
    if len(a["classes"]) > 2:
        return [*lines, f"scores = {named(a['post_transform'], 's')}", "labels = classes[argmax(s)]"]
    given = f"{terms.ref('class_ids')}, {terms.ref('class_weights')}"
    return [*lines, f"scores = two_classes(s, {given})", f"labels = one_of_two(s, {given})"]


@equations("tree_ensemble")
def _ensemble_equations(terms: Terms) -> list[str]:
    a = terms.attributes
    nodes = _refs(terms, "tree_roots", "nodes_featureids", "nodes_modes", "nodes_splits")
    nodes += ", " + _refs(terms, *(f"nodes_{w}{n}" for w in ("true", "false") for n in ("nodeids", "leafs")))
    sets = f", sets={terms.ref('membership_values')}" if terms.has("membership_values") else ""
    total = f"{a['aggregate'].lower()}_of_numbered(leaf, {_refs(terms, 'leaf_targetids', 'leaf_weights')})"
    hits = unread(terms, "nodes_hitrates")
    lines = [f"leaf = descend_numbered(x, {nodes}{_missing(terms)}{sets}){hits}"]
    return [*lines, f"y = {named(a['post_transform'], total)}"]


def _refs(terms: Terms, *names: str) -> str:
    return ", ".join(terms.ref(n) for n in names)


def _missing(terms: Terms) -> str:
    name = "nodes_missing_value_tracks_true"
    return f", missing={terms.ref(name)}" if terms.has(name) else ""


# -- walking down ------------------------------------------------------------------------------------------------------


def _leaves(
    x: Array, roots: Array, feature: Array, mode: Array, value: Array, yes: Array, no: Array, missing: Array | None,
    sets: Mapping[int, Array],
) -> Array:  # fmt: skip
    """The node at which every row of x ends in every tree, [row, tree]; nodes of mode `LEAF` are ends."""
    place = np.tile(roots, (len(x), 1))
    row = np.arange(len(x))[:, None]
    for _ in range(len(mode)):
        now = mode[place]
        if (now == _LEAF).all():
            break
        seen = x[row, np.where(now == _LEAF, 0, feature[place])]
        true = np.zeros(place.shape, bool)
        for code, word in enumerate(_MODES):
            chosen = now == code
            if chosen.any():
                true[chosen] = _MODES[word](seen[chosen], value[place[chosen]])
        for node, members in sets.items():
            true |= (place == node) & np.isin(seen, members)
        unknown = np.isnan(seen)
        true = np.where(unknown, False if missing is None else missing[place] >= 1, true)
        place = np.where(now == _LEAF, place, np.where(true, yes[place], no[place]))
    return place


def _ints(step: Step, name: str) -> Array:
    return step.weight(name).astype(np.int64)


def _reached(step: Step) -> Array:
    """The leaves that rows of x reach, as numbers of nodes, [row, tree]."""
    trees, nodes = _ints(step, "nodes_treeids"), _ints(step, "nodes_nodeids")
    index = {pair: i for i, pair in enumerate(zip(trees.tolist(), nodes.tolist(), strict=True))}
    names = {word: code for code, word in enumerate(_WORDS)}
    mode = np.asarray([names[m] for m in step.attributes["nodes_modes"]])

    def target(name: str) -> Array:
        found = _ints(step, name).tolist()
        return np.asarray([index.get(pair, 0) for pair in zip(trees.tolist(), found, strict=True)])

    _, roots = np.unique(trees, return_index=True)
    yes, no = target("nodes_truenodeids"), target("nodes_falsenodeids")
    missing = step.get("nodes_missing_value_tracks_true")
    feature, value = _ints(step, "nodes_featureids"), step.weight("nodes_values")
    return _leaves(rows_of(step), roots, feature, mode, value, yes, no, missing, {})


def _weighed(step: Step, word: str) -> tuple[Array, Array, Array]:
    """For every leaf that is reached: its row, its class or target, and its weight."""
    reached = _reached(step)
    trees, nodes = _ints(step, "nodes_treeids"), _ints(step, "nodes_nodeids")
    index = {pair: i for i, pair in enumerate(zip(trees.tolist(), nodes.tolist(), strict=True))}
    owners = zip(_ints(step, f"{word}_treeids").tolist(), _ints(step, f"{word}_nodeids").tolist(), strict=True)
    leaf = np.asarray([index[pair] for pair in owners])
    order = np.argsort(leaf, kind="stable")
    first, last = (np.searchsorted(leaf[order], reached.reshape(-1), side) for side in ("left", "right"))
    times = last - first
    entry = order[np.repeat(first, times) + np.arange(times.sum()) - np.repeat(np.cumsum(times) - times, times)]
    row = np.repeat(np.repeat(np.arange(len(reached)), reached.shape[1]), times)
    return row, _ints(step, f"{word}_ids")[entry], step.weight(f"{word}_weights")[entry]


def _together(aggregate: str, rows: int, targets: int, found: Sequence[Array], trees: int) -> Array:
    row, place, weight = found
    if aggregate in {"SUM", "AVERAGE"}:
        total = np.zeros((rows, targets))
        np.add.at(total, (row, place), weight)
        return total / trees if aggregate == "AVERAGE" else total
    total = np.full((rows, targets), np.inf if aggregate == "MIN" else -np.inf)
    (np.minimum if aggregate == "MIN" else np.maximum).at(total, (row, place), weight)
    return np.where(np.isinf(total), 0, total)  # no leaf speaks for it


def _based(step: Step, total: Array) -> Array:
    base = step.get("base_values")
    return total if base is None else total + base


@computes("tree_ensemble_regressor")
def _compute_regressor(step: Step) -> Array:
    a, rows = step.attributes, len(rows_of(step))
    trees = len(np.unique(step.weight("nodes_treeids")))
    total = _together(a["aggregate"], rows, a["targets"], _weighed(step, "target"), trees)
    return TRANSFORMS[a["post_transform"]](_based(step, total))


@computes("tree_ensemble_classifier")
def _compute_classifier(step: Step) -> dict[str, Array]:
    a, rows = step.attributes, len(rows_of(step))
    count = max(len(a["classes"]), 1)
    scores = _based(step, _together("SUM", rows, count, _weighed(step, "class"), 1))
    scores = scores.astype(np.float32).astype(np.float64)  # before they are compared with a bound
    word = a["post_transform"]
    ids = np.unique(step.weight("class_ids").astype(np.int64))
    if len(ids) > 1 or count > 2:
        return {"labels": labels(a["classes"], scores.argmax(axis=1)), "scores": TRANSFORMS[word](scores)}
    positive = bool((step.weight("class_weights") >= 0).all())
    score = scores[:, ids[0]]
    chosen = (score > (0.5 if positive else 0)).astype(np.int64)
    known = a["classes"] if len(a["classes"]) != 1 else ["" if isinstance(a["classes"][0], str) else 0, *a["classes"]]
    return {"labels": labels(known, chosen), "scores": _binary(score, int(ids[0]), positive, word)}


def _binary(score: Array, place: int, positive: bool, word: str) -> Array:
    """The scores of two classes, of which the leaves speak for one."""
    if place:
        return TRANSFORMS[word](np.stack([np.zeros_like(score), score], axis=1))
    if word == "LOGISTIC":
        return TRANSFORMS[word](np.stack([-score, score], axis=1))
    return np.stack([1 - score if positive else -score, score], axis=1)


@computes("tree_ensemble")
def _compute_ensemble(step: Step) -> Array:
    """Leaves are numbered behind the nodes, so that a walk ends in them."""
    a, x = step.attributes, rows_of(step)
    mode = _ints(step, "nodes_modes")
    n, ends = len(mode), len(step.weight("leaf_weights"))
    yes, no = (_ints(step, f"nodes_{w}nodeids") + n * (_ints(step, f"nodes_{w}leafs") != 0) for w in ("true", "false"))
    roots = _ints(step, "tree_roots")
    tail = np.zeros(ends, np.int64)
    missing = step.get("nodes_missing_value_tracks_true")
    missing = None if missing is None else np.append(missing, tail)
    place = _leaves(
        x, roots, np.append(_ints(step, "nodes_featureids"), tail),
        np.append(mode, tail + _LEAF), np.append(step.weight("nodes_splits"), tail), np.append(yes, tail),
        np.append(no, tail), missing, _sets(step, mode),
    )  # fmt: skip
    row = np.repeat(np.arange(len(x)), place.shape[1])
    leaf = place.reshape(-1) - n
    found = (row, _ints(step, "leaf_targetids")[leaf], step.weight("leaf_weights")[leaf])
    return TRANSFORMS[a["post_transform"]](_together(a["aggregate"], len(x), a["targets"], found, len(roots)))


def _sets(step: Step, mode: Array) -> dict[int, Array]:
    """The values of every node that asks whether a feature is in a set."""
    given = step.get("membership_values")
    if given is None:
        return {}
    ends = np.flatnonzero(np.isnan(given))
    starts = [0, *(ends[:-1] + 1)]
    nodes = np.flatnonzero(mode == _MEMBER)
    return {int(i): given[low:high] for i, low, high in zip(nodes, starts, ends, strict=True)}
