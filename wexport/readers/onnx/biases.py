"""A product (or convolution) and the sum that follows it are one layer: `x @ kernel + bias`.

Exporters put a Reshape between the two where the product had to be of matrices; where it only spreads out the last axis
(into heads, say), or leaves it alone, the bias is added before it just as well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from wexport.model import Port
from wexport.readers.onnx import views
from wexport.readers.onnx.ops import Op
from wexport.readers.onnx.statics import Statics
from wexport.readers.onnx.views import Virtual

_PLACES = {  # where an operator takes a bias
    ("", "MatMul"): 2, ("com.microsoft", "MatMulNBits"): 5, ("", "Conv"): 2, ("", "ConvTranspose"): 2,
}  # fmt: skip


def fuse_biases(ops: list[Op], statics: Statics, ports: Mapping[str, Port], takers: Mapping[str, int]) -> None:
    """Give products the biases that follow them; they stand where the sum stood, behind whatever gives the bias."""
    makers = {o: op for op in ops for o in op.outputs if o}
    moved: dict[int, list[Op]] = {}  # by the sum: the operators that take its place
    for op in ops:
        if op.type == "Add" and not op.domain and len(op.inputs) == 2:
            for value, bias in (op.inputs, op.inputs[::-1]):
                found = _fused(op, value, bias, makers, statics, ports, takers)
                if found:
                    moved[id(op)] = found
                    break
    gone = {id(op) for found in moved.values() for op in found}
    ops[:] = [new for op in ops if id(op) not in gone for new in moved.get(id(op), [op])]


def _fused(
    op: Op, value: str, bias: str, makers: Mapping[str, Op], statics: Statics, ports: Mapping[str, Port],
    takers: Mapping[str, int],
) -> list[Op]:  # fmt: skip
    view = statics.views.get(bias)
    last = makers.get(value)
    if view is None or last is None or takers.get(value) != 1:
        return []
    between = [last] if last.type == "Reshape" and last.inputs and not last.domain else []
    product = makers.get(last.inputs[0]) if between else last
    if product is None or (between and takers.get(last.inputs[0]) != 1):
        return []
    place = _PLACES.get((product.domain, product.type))
    if place is None or any(product.inputs[place:]):
        return []
    if product.type in {"Conv", "ConvTranspose"}:
        flat = None if between else _channels(view, product, statics)
    else:
        flat = _flat(view, _units(product, statics), ports.get(value))
    if flat is None:
        return []
    before = []
    if flat.shape != view.shape:
        before = [_reshaped(bias, f"{bias} of {product.outputs[0]}", flat, statics)]
        bias = before[0].outputs[0]
    product.inputs = [*product.inputs, *[""] * (place - len(product.inputs)), bias]
    (last if between else product).outputs = list(op.outputs)
    return [*before, product, *between]


def _reshaped(value: str, name: str, flat: Virtual, statics: Statics) -> Op:
    """An operator that gives a value another shape, for where it is not followed back."""
    statics.views[name] = flat
    statics.fixed.add(name)
    shape = f"shape of {name}"
    statics.known[shape] = np.array(flat.shape, np.int64)
    return Op("Reshape", "", 21, "", [value, shape], [name])


def _units(product: Op, statics: Statics) -> int | None:
    if product.type == "MatMulNBits":
        return product.attributes.get("N")
    kernel = statics.views.get(product.inputs[1] if len(product.inputs) > 1 else "")
    return kernel.shape[1] if kernel is not None and len(kernel.shape) == 2 else None


def _channels(bias: Virtual, conv: Op, statics: Statics) -> Virtual | None:
    """A bias with one value a channel of a convolution's output, and axes of length one for those of space."""
    kernel = statics.views.get(conv.inputs[1] if len(conv.inputs) > 1 else "")
    if kernel is None or len(kernel.shape) < 3:
        return None
    turned = conv.type == "ConvTranspose"
    n = kernel.shape[1] * int(conv.attributes.get("group", 1)) if turned else kernel.shape[0]
    fits = (n, *(1,) * (len(kernel.shape) - 2))
    return views.reshape(bias, (n,)) if bias.shape in {fits, (1, *fits)} else None


def _flat(bias: Virtual, units: int | None, product: Port | None) -> Virtual | None:
    """A bias with one value an output: as it is, or put back together as the axes that a Reshape spread out."""
    shape = () if product is None or product.shape is None else product.shape
    if units is None or bias.shape == (units,):
        return None if units is None else bias
    n = next((i for i in range(1, len(bias.shape) + 1) if math.prod(bias.shape[-i:]) == units), 0)
    if not n or math.prod(bias.shape) != units or shape[-n:] != bias.shape[-n:] or len(bias.shape) > len(shape):
        return None
    return views.reshape(bias, (units,))
