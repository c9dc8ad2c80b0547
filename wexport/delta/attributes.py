"""Whether two attributes are the same, however a format writes them."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from wexport.delta.graph import Node


def alike(a: Any, b: Any) -> bool:
    """Whether two attributes are equal; numbers as float32, in which one of two formats may keep them."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return set(a) == set(b) and all(alike(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(alike, a, b))
    if isinstance(a, float) or isinstance(b, float):
        numbers = isinstance(a, float | int) and isinstance(b, float | int)
        return a == b or (numbers and not isinstance(a, bool) and _single(a) == _single(b))
    return type(a) is type(b) and bool(a == b)


def _single(x: float) -> bytes:
    try:
        return struct.pack("<f", x)
    except (OverflowError, struct.error):  # too large for it, or an integer too large for any float
        return repr(x).encode()


def same_padding(a: Node, b: Node) -> bool:
    """Whether a word for padding and numbers for it mean the same; with strides, the word's numbers depend on x."""
    from wexport.layers.numerics import window_padding  # a comparison within one framework need not load the rooms

    word, numbers = sorted((a.attributes["padding"], b.attributes["padding"]), key=lambda p: not isinstance(p, str))
    if not isinstance(word, str) or not isinstance(numbers, list):
        return False
    steps = [n for node in (a, b) for n in node.attributes.get("strides", [])]
    if word != "valid" and any(n != 1 for n in steps):
        return True
    sizes = b.attributes.get("kernel_size") or b.attributes.get("size") or []
    dilation = b.attributes.get("dilation") or [1] * len(sizes)
    return numbers == [list(window_padding(word, n, n, 1, d)) for n, d in zip(sizes, dilation, strict=False)]
