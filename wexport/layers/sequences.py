"""Sequences: values that are several arrays, of any lengths, and optional ones.

    sequence                 the arrays that are its arguments;  sequence_length  how many a sequence has
    sequence_at, _insert, _erase   by a position, from the end if below zero (insert, erase: by default the end)
    split_to_sequence        pieces along an axis: of given lengths, of one length (the last one shorter), or single
                             positions, whose axis is dropped unless `keepdims`
    concat_sequence          joined along an axis, or (`new_axis`) stacked
    has_element              whether an optional value is there

A sequence is an argument of its own role; it is never `x`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport.layers.dynamic import given
from wexport.layers.flows import opaque
from wexport.layers.registry import BOOL, INT, computes, equations, kind
from wexport.layers.step import Items, Step, Terms

Array = NDArray[Any]

kind("sequence", "sequence_at", "sequence_insert", "sequence_erase", "sequence_length", "has_element")
kind("split_to_sequence", axis=INT, keepdims=BOOL)
kind("concat_sequence", axis=INT, new_axis=BOOL)

opaque("sequence", "sequence_at", "sequence_insert", "sequence_erase", "split_to_sequence", "concat_sequence")
opaque("sequence_length", y="int64")
opaque("has_element", y="bool")


def _place(step: Step, default: int) -> int:
    found = step.args.get("position")
    return default if found is None else int(np.asarray(found).reshape(-1)[0])


@equations("sequence")
def _sequence_equations(terms: Terms) -> list[str]:
    return [f"y = sequence({', '.join(terms.arg('items'))})"] if "items" in terms.args else []


@computes("sequence")
def _compute_sequence(step: Step) -> Items:
    return Items(np.asarray(item) for item in step.args.get("items") or ())


@computes("sequence_at")
def _compute_at(step: Step) -> Array:
    return step.args["sequence"][_place(step, 0)]


@computes("sequence_insert")
def _compute_insert(step: Step) -> Items:
    items = list(step.args["sequence"])
    items.insert(_place(step, len(items)), np.asarray(step.args["item"]))
    return Items(items)


@computes("sequence_erase")
def _compute_erase(step: Step) -> Items:
    items = list(step.args["sequence"])
    del items[_place(step, -1)]
    return Items(items)


@computes("sequence_length")
def _compute_length(step: Step) -> Array:
    return np.asarray(len(step.args["sequence"]), np.int64)


@computes("split_to_sequence")
def _compute_split(step: Step) -> Items:
    axis, x, sizes = step.attributes["axis"], step.x, step.args.get("sizes")
    n = x.shape[axis]
    if sizes is None:
        pieces = np.split(x, n, axis=axis)
        return Items(pieces if step.attributes["keepdims"] else [np.squeeze(p, axis) for p in pieces])
    one = np.ndim(sizes) == 0
    edges = list(range(int(sizes), n, int(sizes))) if one else list(np.cumsum(given(sizes))[:-1])
    return Items(np.split(x, edges, axis=axis))


@computes("concat_sequence")
def _compute_concat(step: Step) -> Array:
    join = np.stack if step.attributes["new_axis"] else np.concatenate
    return join(step.args["sequence"], axis=step.attributes["axis"])


@computes("has_element")
def _compute_has(step: Step) -> Array:
    return np.asarray(step.args.get("element") is not None)
