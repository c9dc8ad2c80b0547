"""Numbers stored as integers: what a layer's `dequantize` says of its tensors, as text and as numbers.

    multiply  w = (q - `NAME_zero_point`) * `NAME_scale`, for every tensor NAME that has a scale beside it, or one
              that holds for all gates and directions further up. Scales are laid along the axes whose names they
              share; the axis `group` stands for `block` positions of `axis` each, or for those that `NAME_group` gives
              it. Without a stored zero point it is the number `zero_point`, else 0. `rows` is what counts of an axis
              that is padded to whole blocks
    table     w = values[q] * `NAME_scale`: two numbers a byte, the high half first, of an array of these `sizes` that
              is cut, flat, into blocks with a scale each

Other rules are of one framework alone (`quantized.py`).
"""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport.layout import Group, parse_side

Array = NDArray[Any]
Tensors = Mapping[str, tuple[str, Array]]


def companion(names: Container[str], name: str, word: str) -> str | None:
    """The tensor `NAME_word` that holds for a tensor: beside it, or for fewer of its labels than all."""
    return next((n for n in _above(f"{name}_{word}") if n in names), None)


def _above(name: str) -> Iterator[str]:
    *labels, last = name.split(".")
    for n in range(len(labels), -1, -1):
        for kept in itertools.combinations(labels, n):
            yield ".".join((*kept, last))


def term(attributes: Mapping[str, Any], names: Container[str], name: str) -> str:
    """A tensor in an equation: the number that it stands for."""
    text = f"`{name}`"
    how = attributes.get("dequantize") or {}
    scale = companion(names, name, "scale")
    if scale is None or how.get("rule") not in {"multiply", "table"}:
        return text
    if how["rule"] == "table":
        return f"looked_up({text}, `{scale}`)"
    group = companion(names, name, "group")

    def placed(scale: str) -> str:
        if group:
            return f"`{scale}`[`{group}`]"
        return f"repeat(`{scale}`, {how['block']}, over=group)" if how.get("block") else f"`{scale}`"

    if how.get("rows") is not None:
        text = f"first({text}, {how['rows']})"
    if (zero := companion(names, name, "zero_point")) is not None:
        text = f"({text} - {placed(zero)})"
    elif how.get("zero_point"):
        text = f"({text} - {how['zero_point']})"
    return f"({text} * {placed(scale)})"


def numbers(attributes: Mapping[str, Any], tensors: Tensors, name: str) -> Array:
    """A tensor as the numbers that it stands for."""
    axes, q = tensors[name]
    how = attributes.get("dequantize") or {}
    scale = companion(tensors, name, "scale")
    if scale is None or how.get("rule") not in {"multiply", "table"}:
        return q
    if how["rule"] == "table":
        return _looked_up(how, q, tensors[scale][1])
    places = parse_side(axes)
    padded = next((i for i, words in enumerate(places) if "group" in words), None)
    if padded is not None and how.get("rows") is not None:
        q = np.take(q, np.arange(how["rows"]), axis=padded)
    blocked, index = _blocks(how, tensors, name, places, padded, q)
    zero = companion(tensors, name, "zero_point")
    offset = how.get("zero_point", 0) if zero is None else _laid(tensors[zero], places, blocked, index)
    return np.asarray((q - offset) * _laid(tensors[scale], places, blocked, index))


def _blocks(
    how: Mapping[str, Any], tensors: Tensors, name: str, places: tuple[Group, ...], padded: int | None, q: Array
) -> tuple[int, Array]:
    """The axis whose positions share scales, and the number of each position's scale; -1 if there is none."""
    groups = companion(tensors, name, "group")
    if groups is not None:
        axes, numbers_of = tensors[groups]
        return places.index(parse_side(axes)[0]) if padded is None else padded, numbers_of.astype(int)
    axis = (how.get("axis"),)
    blocked = padded if padded is not None else places.index(axis) if axis in places else -1
    return blocked, np.arange(q.shape[blocked] if q.ndim else 0) // (how.get("block") or 1)


def _laid(tensor: tuple[str, Array], places: tuple[Group, ...], blocked: int, index: Array) -> Array:
    """A scale along the axes of what it scales."""
    words, found = list(parse_side(tensor[0])), tensor[1]
    if ("group",) in words:
        at = words.index(("group",))
        found = np.take(found, index, axis=at)
        words[at] = places[blocked]
    order = [places.index(w) for w in words]
    shape = [1] * len(places)
    for place, n in zip(order, found.shape, strict=True):
        shape[place] = n
    return found.transpose(np.argsort(order)).reshape(shape)


def _looked_up(how: Mapping[str, Any], q: Array, scale: Array) -> Array:
    codes = np.stack([q.astype(int) >> 4, q.astype(int) & 15], axis=-1).reshape(-1)
    sizes = list(how["sizes"].values())
    flat = np.asarray(how["values"], np.float64)[codes[: int(np.prod(sizes))]]
    flat = flat * np.repeat(scale.reshape(-1), how["block"])[: flat.size]
    return flat.reshape(sizes).transpose([list(how["sizes"]).index(a) for a in ("in", "out")])
