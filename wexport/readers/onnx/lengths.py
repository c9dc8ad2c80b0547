"""Lists of lengths that a model takes out of shapes and puts together again; a free length has its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from wexport.model import Port
from wexport.readers.onnx.ops import Op
from wexport.readers.onnx.statics import Statics, numbers


def measure(op: Op, found: Statics, ports: Mapping[str, Port]) -> None:
    """Lists of lengths: a shape, and what is taken out of one and put together."""
    try:
        made = _lengths(op, found, ports)
    except (LookupError, TypeError, ValueError):
        return  # its settings make no sense: whoever takes it finds out
    if made is None:
        return
    found.lengths[op.outputs[0]] = made[0]
    if all(isinstance(n, int) for n in made[0]):
        found.known[op.outputs[0]] = np.asarray(made[0] if made[1] else made[0][0], np.int64)
        found.fixed.add(op.outputs[0])


def _lengths(op: Op, found: Statics, ports: Mapping[str, Port]) -> tuple[list[Any], int] | None:
    """The lengths that an operator gives, and the number of axes (0 or 1) of what it gives."""
    if op.type == "Shape":
        port = ports.get(op.inputs[0])
        if port is None or port.shape is None:
            return None
        return list(port.shape[slice(op.attributes.get("start", 0), op.attributes.get("end"))]), 1
    given = [_listed(i, found) for i in op.inputs[: None if op.type == "Concat" else 1]]
    if not given or any(g is None for g in given) or all(i in found.known for i in op.inputs if i):
        return None
    lists = [g for g in given if g is not None]
    if op.type in {"Cast", "Unsqueeze", "Squeeze", "Identity"}:
        return lists[0], int(op.type == "Unsqueeze" or (op.type != "Squeeze" and len(lists[0]) != 1))
    if op.type == "Concat":
        return [n for part in lists for n in part], 1
    if op.type == "Gather" and op.inputs[1] in found.known and not op.attributes.get("axis", 0):
        places = found.known[op.inputs[1]]
        inside = all(-len(lists[0]) <= int(i) < len(lists[0]) for i in places.reshape(-1))
        return ([lists[0][int(i)] for i in places.reshape(-1)], places.ndim) if inside and places.ndim < 2 else None
    if op.type == "Slice":
        bounds = [numbers(op, found, i, name) for i, name in ((1, "starts"), (2, "ends"))]
        steps = numbers(op, found, 4, "steps") or [1]
        if all(b is not None and len(b) == 1 for b in bounds) and bounds[0] and bounds[1] and steps[0] > 0:
            return lists[0][bounds[0][0] : bounds[1][0] : steps[0]], 1
    return None


def _listed(value: str, found: Statics) -> list[Any] | None:
    """A list of lengths, or of whole numbers that are known."""
    if value in found.lengths:
        return found.lengths[value]
    known = found.known.get(value)
    return None if known is None or known.dtype.kind not in "iu" else [int(n) for n in known.reshape(-1)]
