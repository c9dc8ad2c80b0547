"""Views followed through ONNX' shape operations: what each of them makes of a view, or that it makes none.

Source: onnx/docs/Operators.md and Changelog.md (settings that were attributes in old opsets).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from wexport.readers.onnx import views
from wexport.readers.onnx.ops import Op
from wexport.readers.onnx.statics import Statics, numbers
from wexport.readers.onnx.tensors import element_type
from wexport.readers.onnx.views import Virtual

_MOST_TAKEN = 64  # positions, each a view of its own


def _view(rule: Callable[[Op, Statics, Virtual], Virtual | None]) -> Callable[[Op, Statics], None]:
    def follow(op: Op, found: Statics) -> None:
        try:
            made = rule(op, found, found.views[op.inputs[0]])
        except (ArithmeticError, LookupError, TypeError, ValueError):
            made = None  # its settings contradict what it turns: whoever takes it finds out
        if made is not None:
            found.views[op.outputs[0]] = made

    return follow


def _same(op: Op, found: Statics, x: Virtual) -> Virtual:
    return x


def _cast(op: Op, found: Statics, x: Virtual) -> Virtual | None:
    return x if element_type(op.attributes.get("to", 0)) == x.dtype else None


def _cast_like(op: Op, found: Statics, x: Virtual) -> Virtual | None:
    other = found.views.get(op.inputs[1])
    return x if other is not None and other.dtype == x.dtype else None


def _transpose(op: Op, found: Statics, x: Virtual) -> Virtual | None:
    order = op.attributes.get("perm", list(reversed(range(len(x.shape)))))
    return views.transpose(x, order) if sorted(order) == list(range(len(x.shape))) else None


def _reshape(op: Op, found: Statics, x: Virtual) -> Virtual | None:
    target = numbers(op, found, 1, "shape")
    if target is None:
        return None
    if not op.attributes.get("allowzero"):
        target = [x.shape[i] if n == 0 and i < len(x.shape) else n for i, n in enumerate(target)]
    count = math.prod(x.shape)
    if target.count(-1) == 1:
        rest = math.prod(n for n in target if n != -1)
        if not rest or count % rest:
            return None
        target[target.index(-1)] = count // rest
    return views.reshape(x, target) if all(n >= 0 for n in target) else None


def _flatten(op: Op, found: Statics, x: Virtual) -> Virtual | None:
    axis = op.attributes.get("axis", 1)
    axis += len(x.shape) if axis < 0 else 0
    return views.reshape(x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))


def _squeeze(op: Op, found: Statics, x: Virtual) -> Virtual | None:
    axes = numbers(op, found, 1, "axes")
    if axes is None and len(op.inputs) > 1 and op.inputs[1]:
        return None
    places = {a % len(x.shape) for a in axes} if axes else {i for i, n in enumerate(x.shape) if n == 1}
    return views.reshape(x, tuple(n for i, n in enumerate(x.shape) if i not in places))


def _unsqueeze(op: Op, found: Statics, x: Virtual) -> Virtual | None:
    axes = numbers(op, found, 1, "axes")
    if axes is None:
        return None
    rank = len(x.shape) + len(axes)
    places = {a % rank for a in axes}
    rest = iter(x.shape)
    return (
        views.reshape(x, tuple(1 if i in places else next(rest) for i in range(rank)))
        if len(places) == len(axes)
        else None
    )


def _slice(op: Op, found: Statics, x: Virtual) -> Virtual | None:
    starts, ends = numbers(op, found, 1, "starts"), numbers(op, found, 2, "ends")
    if starts is None or ends is None:
        return None
    axes = numbers(op, found, 3, "axes") or list(range(len(starts)))
    steps = numbers(op, found, 4, "steps") or [1] * len(starts)
    if any(len(op.inputs) > i and op.inputs[i] and op.inputs[i] not in found.known for i in (3, 4)):
        return None
    result: Virtual | None = x
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=False):
        if result is None or not step or not -len(x.shape) <= axis < len(x.shape):
            return None
        place = axis % len(x.shape)
        n = result.shape[place]
        stop = None if step < 0 and end < -n else end
        positions = range(n)[slice(max(-(2**60), min(start, 2**60)), stop, step)]
        result = views.cut(result, place, positions.start, len(positions), positions.step) if len(positions) else None
    return result


def _gather(op: Op, found: Statics, x: Virtual) -> Virtual | None:
    indices = found.known.get(op.inputs[1])
    axis = op.attributes.get("axis", 0)
    if indices is None or indices.ndim > 1 or indices.size > _MOST_TAKEN or not -len(x.shape) <= axis < len(x.shape):
        return None
    axis %= len(x.shape)
    taken = views.take(x, axis, [int(i) for i in indices.reshape(-1)])
    if taken is None or indices.ndim:
        return taken
    return views.reshape(taken, (*taken.shape[:axis], *taken.shape[axis + 1 :]))


def _concat(op: Op, found: Statics, x: Virtual) -> Virtual | None:
    parts = [found.views.get(i) for i in op.inputs]
    rank = len(x.shape)
    axis = op.attributes.get("axis", 0)
    known = [p for p in parts if p is not None]
    if len(known) < len(parts) or not -rank <= axis < rank or any(len(p.shape) != rank for p in known):
        return None
    return views.concat(known, axis % rank)


def _expand(op: Op, found: Statics, x: Virtual) -> Virtual | None:
    """To the shape that it has."""
    target = found.known.get(op.inputs[1])
    if target is None or target.size > len(x.shape):
        return None
    return x if np.broadcast_shapes(x.shape, tuple(int(n) for n in target.reshape(-1))) == x.shape else None


def _tile(op: Op, found: Statics, x: Virtual) -> Virtual | None:
    """Once."""
    times = found.known.get(op.inputs[1])
    return x if times is not None and (times == 1).all() else None


def _split(op: Op, found: Statics) -> None:
    x = found.views[op.inputs[0]]
    axis = op.attributes.get("axis", 0)
    if not -len(x.shape) <= axis < len(x.shape):
        return
    axis %= len(x.shape)
    n, parts = x.shape[axis], len(op.outputs)
    sizes = numbers(op, found, 1, "split")
    if sizes is None:
        if len(op.inputs) > 1 and op.inputs[1]:
            return
        step = -(-n // parts)
        sizes = [max(0, min(step, n - i * step)) for i in range(parts)]
    if sum(sizes) != n or len(sizes) != parts or 0 in sizes:
        return
    start = 0
    for size, out in zip(sizes, op.outputs, strict=True):
        made = views.cut(x, axis, start, size)
        if out and made is not None:
            found.views[out] = made
        start += size


VIEWS: dict[str, Callable[[Op, Statics], None]] = {
    "Identity": _view(_same), "Cast": _view(_cast), "CastLike": _view(_cast_like), "Transpose": _view(_transpose),
    "Reshape": _view(_reshape), "Flatten": _view(_flatten), "Squeeze": _view(_squeeze),
    "Unsqueeze": _view(_unsqueeze), "Slice": _view(_slice), "Gather": _view(_gather), "Concat": _view(_concat),
    "Split": _split, "Dropout": _view(_same), "Expand": _view(_expand), "Tile": _view(_tile),
}  # fmt: skip
