"""Arguments that stand for several tensors, as the entry's `computed` says: `kernel[forward, input]`."""

from __future__ import annotations

import re

import numpy as np

from equations.values import Call, Value, tensor


def part(call: Call, role: str, labels: tuple[str, ...]) -> Value:
    """The tensor of these labels: the argument with its packed axes apart, and each axis in braces at its label."""
    how, whole = call.parts[role], np.asarray(call.args[role])
    dimensions = [word.strip("()").split() for word in re.findall(r"\([^)]*\)|\S+", how["layout"])]
    known = {axis: len(found) for axis, found in how["labels"].items()} | {"1": 1}
    names: list[str] = []
    lengths: list[int] = []
    for axes, n in zip(dimensions, whole.shape, strict=True):
        (open_axis,) = [axis for axis in axes if axis not in known] or [None]
        rest = int(np.prod([known[axis] for axis in axes if axis != open_axis]))
        names += axes
        lengths += [n // rest if axis == open_axis else known[axis] for axis in axes]
    name, _, kept = how["as"].partition(":")
    picked = re.findall(r"{(\w+)}", name)
    place = {axis: how["labels"][axis].index(label) for axis, label in zip(picked, labels, strict=True)} | {"1": 0}
    data = whole.reshape(lengths)[tuple(place.get(axis, slice(None)) for axis in names)]
    left = [axis for axis in names if axis not in place]
    return tensor(kept.strip(), data.transpose([left.index(axis) for axis in kept.split()]))
