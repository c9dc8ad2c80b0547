"""Normalizations that older exporters wrote as arithmetic, as the one operator that they are.

    layer norm   d = x - mean(x);  d / sqrt(mean(d ** 2) + e) * scale + offset        (torch)
                 x * g + (-mean(x) * g + offset),  g = scale / sqrt(mean((x - mean(x)) ** 2) + e)   (Keras)
    RMS norm     x / sqrt(mean(x ** 2) + e) * scale

Recognised where every step is there, over the same last axes, and nobody else takes what lies between.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wexport.model import Port
from wexport.readers.onnx.ops import Op
from wexport.readers.onnx.statics import Statics

_BINARY = {"Add", "Sub", "Mul", "Div", "Pow"}


@dataclass(slots=True)
class _Found:
    """A normalization without its scale and offset: x, the number of axes, epsilon, the last operator, all of them."""

    x: str
    axes: int
    epsilon: float
    centered: bool
    last: Op
    ops: list[Op]


class _Matcher:
    def __init__(
        self, ops: Sequence[Op], statics: Statics, ports: Mapping[str, Port], takers: Mapping[str, int]
    ) -> None:
        self.statics, self.ports, self.counts = statics, ports, takers
        self.makers = {o: op for op in ops for o in op.outputs if o}
        self.takers: dict[str, list[Op]] = {}
        for op in ops:
            for name in op.inputs:
                self.takers.setdefault(name, []).append(op)

    def made(self, value: str, *types: str, taken: int = 1) -> Op | None:
        """What makes a value, if it is such an operator and the value is taken so often."""
        op = self.makers.get(value)
        if op is None or op.type not in types or op.domain or self.counts.get(value) != taken:
            return None
        return op if len(op.inputs) >= (2 if op.type in _BINARY else 1) else None

    def other(self, op: Op, value: str) -> str | None:
        """The other operand."""
        if len(op.inputs) != 2 or value not in op.inputs:
            return None
        return op.inputs[1] if op.inputs[0] == value else op.inputs[0]

    def number(self, value: str) -> float | None:
        """A constant of one element."""
        known = self.statics.known.get(value)
        return float(known.reshape(-1)[0]) if known is not None and known.size == 1 else None

    def mean(self, value: str, taken: int = 1) -> tuple[Op, str, int] | None:
        """A mean over the last axes: the operator, what it is the mean of, how many axes."""
        op = self.made(value, "ReduceMean", taken=taken)
        if op is None or not op.attributes.get("keepdims", 1):
            return None
        axes = op.attributes.get("axes")
        if axes is None and len(op.inputs) > 1 and op.inputs[1] in self.statics.known:
            axes = [int(n) for n in self.statics.known[op.inputs[1]].reshape(-1)]
        port = self.ports.get(op.inputs[0])
        if not axes or (any(a >= 0 for a in axes) and (port is None or port.shape is None)):
            return None
        rank = len(port.shape) if port is not None and port.shape is not None else 0
        places = sorted(a - rank if a >= 0 else a for a in axes)
        return (op, op.inputs[0], len(places)) if places == list(range(-len(places), 0)) else None

    def square(self, value: str) -> tuple[Op, str] | None:
        """A square: the operator and what it squares."""
        op = self.made(value, "Pow", "Mul")
        if op is None or len(op.inputs) != 2:
            return None
        same = op.inputs[0] == op.inputs[1] if op.type == "Mul" else self.number(op.inputs[1]) == 2
        return (op, op.inputs[0]) if same else None

    def root(self, value: str) -> tuple[list[Op], str, float] | None:
        """`sqrt(v + e)`: the operators, v, and e."""
        root = self.made(value, "Sqrt")
        total = root and self.made(root.inputs[0], "Add")
        if root is None or total is None:
            return None
        for v in total.inputs:
            other = self.other(total, v)
            if other is not None and (e := self.number(other)) is not None and self.number(v) is None:
                return [root, total], v, e
        return None

    def divided(self, op: Op, x: str) -> tuple[list[Op], str, float] | None:
        """`x / sqrt(v + e)` in one of its spellings: the operators before the last, v, and e."""
        divisor = self.other(op, x)
        if divisor is None:
            return None
        if op.type == "Div":
            return self.root(divisor) if op.inputs[0] == x else None
        inverse = self.inverse(divisor)
        return inverse if op.type == "Mul" else None

    def inverse(self, value: str) -> tuple[list[Op], str, float] | None:
        """`1 / sqrt(v + e)`."""
        op = self.made(value, "Reciprocal", "Div")
        if op is None or (op.type == "Div" and self.number(op.inputs[0]) != 1):
            return None
        root = self.root(op.inputs[-1])
        return None if root is None else ([op, *root[0]], root[1], root[2])


def fuse_norms(ops: list[Op], statics: Statics, ports: Mapping[str, Port], takers: Mapping[str, int]) -> None:
    """Rewrite the normalizations among these operators."""
    m = _Matcher(ops, statics, ports, takers)
    gone: set[int] = set()
    new: dict[int, Op] = {}
    for op in ops:
        for match in (_torch, _keras):
            found = match(m, op)
            if found is not None and not gone & {id(o) for o in found.ops}:
                inputs, found = _affine(m, found)
                kind = "LayerNormalization" if found.centered else "RMSNormalization"
                made = Op(kind, "", 17 if found.centered else 23, found.last.name, inputs, [found.last.outputs[0]])
                made.attributes = {"axis": -found.axes, "epsilon": found.epsilon}
                made.path, made.meta = found.last.path, found.last.meta
                made.absorbed = tuple(i for o in found.ops for i in o.inputs if i)
                gone |= {id(o) for o in found.ops}
                new[id(found.last)] = made
                break
    ops[:] = [new.get(id(op), op) for op in ops if id(op) in new or id(op) not in gone]


def _torch(m: _Matcher, op: Op) -> _Found | None:
    """Ends in the division."""
    if op.type not in {"Div", "Mul"} or op.domain or len(op.inputs) != 2:
        return None
    for d in op.inputs:
        below = m.divided(op, d)
        if below is None:
            continue
        before, variance, epsilon = below
        mean = m.mean(variance)
        square = mean and m.square(mean[1])
        if mean is None or square is None or square[1] != d:
            continue
        used = [op, *before, mean[0], square[0]]
        centre = m.made(d, "Sub", taken=1 + (2 if square[0].type == "Mul" else 1))
        inner = centre and m.mean(centre.inputs[1])
        if centre is not None and inner and inner[1] == centre.inputs[0] and inner[2] == mean[2]:
            return _Found(inner[1], mean[2], epsilon, True, op, [*used, centre, inner[0]])
        return _Found(d, mean[2], epsilon, False, op, used)
    return None


def _keras(m: _Matcher, op: Op) -> _Found | None:
    """`x * g + (-mean * g + offset)`: ends in the outer sum; scale and offset are taken along."""
    if op.type != "Add" or op.domain or len(op.inputs) != 2:
        return None
    for i in (0, 1):
        product, inner = m.made(op.inputs[i], "Mul"), m.made(op.inputs[1 - i], "Add")
        if product is None or inner is None:
            continue
        for x, g in (product.inputs, reversed(product.inputs)):
            found = _keras_parts(m, op, product, inner, x, g)
            if found is not None:
                return found
    return None


def _keras_parts(m: _Matcher, op: Op, product: Op, inner: Op, x: str, g: str) -> _Found | None:
    gain = m.made(g, "Mul", taken=2)
    shift = next((s for v in inner.inputs if (s := m.made(v, "Mul")) is not None and g in s.inputs), None)
    if gain is None or shift is None:
        return None
    negative = m.made(m.other(shift, g) or "", "Neg")
    mean = None if negative is None else m.mean(negative.inputs[0], taken=2)
    for scale in gain.inputs:
        below = m.inverse(m.other(gain, scale) or "")
        if below is None or negative is None or mean is None or scale not in m.statics.views or mean[1] != x:
            continue
        before, variance, epsilon = below
        outer = m.mean(variance)
        square = outer and m.square(outer[1])
        centre = square and m.made(square[1], "Sub", taken=2)
        if outer is None or square is None or centre is None or centre.inputs != [x, mean[0].outputs[0]]:
            continue
        offset = m.other(inner, shift.outputs[0])
        if offset not in m.statics.views or outer[2] != mean[2]:
            continue
        used = [op, product, inner, gain, shift, negative, mean[0], *before, outer[0], square[0], centre]
        op.attributes["affine"] = [scale, offset]
        return _Found(x, mean[2], epsilon, True, op, used)
    return None


def _affine(m: _Matcher, found: _Found) -> tuple[list[str], _Found]:
    """The operator's inputs: x, and the scale and offset that follow."""
    if (given := found.last.attributes.pop("affine", None)) is not None:
        return [found.x, *given], found
    inputs = [found.x]
    for kind in ("Mul", "Add"):
        value = found.last.outputs[0]
        takers = m.takers.get(value, [])
        op = takers[0] if m.counts.get(value) == 1 and len(takers) == 1 and takers[0].type == kind else None
        other = m.other(op, value) if op is not None else None
        view = m.statics.views.get(other or "")
        if op is None or other is None or view is None or not _suffix(view.shape, found.axes):
            break
        if kind == "Add" and not found.centered:
            break
        inputs.append(other)
        found.last = op
        found.ops.append(op)
    return inputs, found


def _suffix(shape: tuple[int, ...], axes: int) -> bool:
    """Whether a weight has the last axes, and others of length one only."""
    return len(shape) >= axes and all(n == 1 for n in shape[: len(shape) - axes])
