"""Numbers rounded to few bits, and layers that compute on them.

    quantize          y = saturate(round(x / scale) + zero_point), half to even; floats of eight bits and less are cast
    dequantize        y = (x - zero_point) * scale; x may be a stored tensor, `operand`
    dynamic_quantize  as quantize, for the range that x itself has; gives y, scale and zero_point
    integer           a layer on integers less their zero points: its products and sums as they are
    quantized         a layer on the numbers that integers stand for; its result is rounded again if it has a `type`

`scale` and `zero_point` are of one element, have one for each position of `axis`, or for `block` positions of it. The
layer inside (`layer`: its kind and attributes) gives the shapes. Scales and zero points that are no tensors are
arguments of the same names, listed in `given`; of several inputs each has its own (`input_1_scale` ...).

Sources: onnx/docs/Operators.md, QuantizeLinear-25, QLinearConv-10, ConvInteger-10; onnxruntime/docs/
ContribOperators.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport import dtypes
from wexport.features import Value
from wexport.layers.registry import (
    BOOL,
    INT,
    KINDS,
    LAYER,
    NUMBER,
    NUMBERS,
    TEXT,
    Flow,
    computes,
    equations,
    flow,
    kind,
)
from wexport.layers.rounding import fitted, rounded, single
from wexport.layers.step import Step, Terms, unread

Array = NDArray[Any]

_PLACED = {"axis": INT, "block": INT}
kind("quantize", maybe={**_PLACED, "saturate": BOOL, "given": NUMBERS}, type=TEXT)
kind("dequantize", maybe={**_PLACED, "given": NUMBERS})
kind("dynamic_quantize", type=TEXT)
kind("integer", maybe={"given": NUMBERS}, layer=LAYER)
kind(
    "quantized",
    maybe={"type": TEXT, "factor": NUMBER, "integer_bias": BOOL, "inputs": INT, "given": NUMBERS},
    layer=LAYER,
)


# -- shapes ------------------------------------------------------------------------------------------------------------


@flow("quantize")
def _quantize_flow(f: Flow) -> Mapping[str, Value]:
    return {"y": replace(f.x, dtype=f.attributes["type"])}


@flow("dequantize")
def _dequantize_flow(f: Flow) -> Mapping[str, Value]:
    return {"y": replace(f.x, dtype="float32") if "x" in f.args else f.source(None, dtype="float32")}


@flow("dynamic_quantize")
def _dynamic_flow(f: Flow) -> Mapping[str, Value]:
    kind_of = f.attributes["type"]
    scale, zero = f.source((), "scale", dtype="float32"), f.source((), "zero_point", dtype=kind_of)
    return {"y": replace(f.x, dtype=kind_of), "scale": scale, "zero_point": zero}


def _inner(f: Flow, dtype: str) -> Mapping[str, Value]:
    inner = f.attributes["layer"]
    rule = KINDS[inner["kind"]].flow
    assert rule is not None
    found = rule(Flow(inner, {"x": f.args["x"]}, f.names))
    return {role: replace(value, dtype=dtype) for role, value in found.items()}


@flow("integer")
def _integer_flow(f: Flow) -> Mapping[str, Value]:
    return _inner(f, "int32")


@flow("quantized")
def _quantized_flow(f: Flow) -> Mapping[str, Value]:
    return _inner(f, f.attributes.get("type", "float32"))


# -- equations ---------------------------------------------------------------------------------------------------------


def _word(terms: Terms, name: str) -> str | None:
    """A scale or zero point: a tensor, or an argument; None where there is none."""
    if terms.has(name):
        return terms.ref(name)
    return name if name in terms.attributes.get("given", ()) else None


def _less(terms: Terms, x: str, zero: str) -> str:
    found = _word(terms, zero)
    return x if found is None else f"({x} - {found})"


def _stored_again(terms: Terms, text: str, prefix: str = "") -> str:
    """The equation of a result that is rounded; a term that decides to which side is computed in float32."""
    zero = _word(terms, f"{prefix}zero_point")
    kind_of = terms.attributes["type"]
    if dtypes.is_float(kind_of):
        word = "saturate" if terms.attributes.get("saturate", True) else "cast"
        return f"y = {word}(float32({text}), {kind_of}){unread(terms, f'{prefix}zero_point')}"
    return f"y = saturate(round(float32({text})){f' + {zero}' if zero else ''}, {kind_of})"


def _laid_word(terms: Terms, name: str) -> str | None:
    """A scale or zero point along x; one for each block of it is repeated."""
    found, a = _word(terms, name), terms.attributes
    if found is None or not a.get("block"):
        return found
    return f"repeat({found}, {a['block']}, over={a.get('axis', 1)})"


@equations("quantize")
def _quantize_equations(terms: Terms) -> list[str]:
    scale, zero = _laid_word(terms, "scale"), _laid_word(terms, "zero_point")
    if dtypes.is_float(terms.attributes["type"]):
        return [_stored_again(terms, f"x / {scale}")]
    return [f"y = saturate(round(float32(x / {scale})){f' + {zero}' if zero else ''}, {terms.attributes['type']})"]


@equations("dequantize")
def _dequantize_equations(terms: Terms) -> list[str]:
    x = terms.ref("operand") if terms.has("operand") else "x"
    zero = _laid_word(terms, "zero_point")
    return [f"y = {x if zero is None else f'({x} - {zero})'} * {_laid_word(terms, 'scale')}"]


def _integers(terms: Terms) -> str:
    """The layer inside, on integers."""
    inner = terms.attributes["layer"]["kind"]
    if not terms.has("kernel"):
        found = terms.arg("x")
        zeros = [_word(terms, f"input_{i}_zero_point") for i in (1, 2)]
        zeros[0] = zeros[0] and f"each_row({zeros[0]})"
        first, second = (x if zero is None else f"({x} - {zero})" for x, zero in zip(found, zeros, strict=True))
        return f"{first} @ {second}"
    x, kernel = _less(terms, "x", "input_zero_point"), _less(terms, terms.ref("kernel"), "kernel_zero_point")
    return f"{x} @ {kernel}" if inner == "dense" else f"{inner}({x}, {kernel})"


@equations("integer")
def _integer_equations(terms: Terms) -> list[str]:
    return [f"y = {_integers(terms)}"]


@equations("quantized")
def _quantized_equations(terms: Terms) -> list[str]:
    rounds = "type" in terms.attributes
    if not terms.has("kernel"):
        if terms.attributes["layer"]["kind"] == "multiply":
            return _product_lines(terms)
        return [*_around(terms), _stored_again(terms, f"r / {_word(terms, 'output_scale')}", "output_")]
    bias = terms.plus("bias")
    whole = bool(terms.attributes.get("integer_bias"))
    factor = " * ".join(w for w in (_word(terms, "input_scale"), _word(terms, "kernel_scale")) if w)
    if (alpha := terms.attributes.get("factor", 1.0)) != 1.0:
        factor = f"{factor} * {alpha}"
    lines = [f"r = {_integers(terms)}{bias if whole else ''}"]
    if not rounds:
        return [*lines, f"y = r * float32({factor}){'' if whole else bias}"]
    return [*lines, _stored_again(terms, f"r * ({factor} / {_word(terms, 'output_scale')})", "output_")]


def _taken(terms: Terms) -> list[str]:
    """The inputs; a stored one is the last."""
    found = terms.arg("x")
    names = _inputs(terms.attributes)
    return [*found, terms.ref("operand")] if len(found) < len(names) else found


def _around(terms: Terms) -> list[str]:
    """The layer inside, on what its inputs stand for."""
    inner = terms.attributes["layer"]
    names = _inputs(terms.attributes)
    lines, taken = [], []
    for i, (name, x) in enumerate(zip(names, _taken(terms), strict=True), 1):
        taken.append(f"a{i}" if len(names) > 1 else "a")
        lines.append(f"{taken[-1]} = {_less(terms, x, f'{name}_zero_point')} * {_word(terms, f'{name}_scale')}")
    if inner["kind"] in {"add", "matmul"}:
        return [*lines, f"r = {(' + ' if inner['kind'] == 'add' else ' @ ').join(taken)}"]
    if inner["kind"] == "activation":
        return [*lines, f"r = {Terms(inner, frozenset()).activation('activation', taken[0])}"]
    return [*lines, f"r = {inner['kind']}({', '.join(taken)})"]


def _product_lines(terms: Terms) -> list[str]:
    """A product: the factors' scales are one number together."""
    parts = [_less(terms, x, f"input_{i}_zero_point") for i, x in enumerate(_taken(terms), 1)]
    one, two = (_word(terms, f"input_{i}_scale") for i in (1, 2))
    factor = f"({one} * {two} / {_word(terms, 'output_scale')})"
    return [f"r = {' * '.join(parts)}", _stored_again(terms, f"r * {factor}", "output_")]


def _inputs(attributes: Mapping[str, Any]) -> list[str]:
    """The names of the inputs: `input`, or numbered where there are several."""
    n = attributes.get("inputs", 1)
    return ["input"] if n == 1 else [f"input_{i}" for i in range(1, n + 1)]


# -- computing ---------------------------------------------------------------------------------------------------------


def _setting(step: Step, name: str, default: float = 0.0) -> Array:
    """A scale or zero point, stored or given; the default where there is none."""
    found = step.get(name)
    found = step.args.get(name) if found is None else found
    return np.asarray(default if found is None else found, np.float64)


def _placed(step: Step, name: str, x: Array) -> Array:
    """A scale or zero point, laid along x."""
    found, a = _setting(step, name), step.attributes
    if found.size == 1:
        return found.reshape(())
    axis = a.get("axis", 1) % x.ndim
    if a.get("block"):
        return np.take(found, np.arange(x.shape[axis]) // a["block"], axis=axis)
    return found.reshape([-1 if i == axis else 1 for i in range(x.ndim)])


@computes("quantize")
def _compute_quantize(step: Step) -> Array:
    scale, zero = _placed(step, "scale", step.x), _placed(step, "zero_point", step.x)
    return rounded(step.x, scale, zero, step.attributes["type"], step.attributes.get("saturate", True))


@computes("dequantize")
def _compute_dequantize(step: Step) -> Array:
    x = step.weight("operand") if step.has("operand") else step.x.astype(np.float64)
    return (x - _placed(step, "zero_point", x)) * _placed(step, "scale", x)


@computes("dynamic_quantize")
def _compute_dynamic(step: Step) -> Mapping[str, Array]:
    y, scale, zero = fitted(step.x, step.attributes["type"])
    return {"y": y, "scale": np.asarray(scale), "zero_point": np.asarray(zero)}


def _inside(step: Step, xs: list[Array], tensors: Mapping[str, tuple[str, Array]]) -> Array:
    """What the layer inside computes."""
    inner = step.attributes["layer"]
    compute = KINDS[inner["kind"]].computes
    assert compute is not None
    result = compute(Step(inner, tensors, {"x": xs[0] if len(xs) == 1 else tuple(xs)}, step.out, kind=inner["kind"]))
    return np.asarray(result["y"] if isinstance(result, Mapping) else result)


def _summed(step: Step) -> Array:
    """Products and sums of integers, exact in float64."""
    if not step.has("kernel"):
        return _inside(step, [_rows(step, x, i) for i, x in enumerate(step.xs, 1)], {})
    x = step.x.astype(np.float64) - _setting(step, "input_zero_point")
    axes, kernel = step.tensors["kernel"]
    tensors = {"kernel": (axes, kernel - _laid(step, "kernel_zero_point"))}
    if step.attributes.get("integer_bias") and step.has("bias"):
        tensors["bias"] = step.tensors["bias"]
    return _inside(step, [x], tensors)


def _rows(step: Step, x: Array, number: int) -> Array:
    zero = _setting(step, f"input_{number}_zero_point")
    if number == 1 and zero.ndim == 1 and zero.size > 1:
        zero = zero[:, None]  # one for each row
    return x.astype(np.float64) - zero


def _laid(step: Step, name: str) -> Array:
    """A kernel's scale or zero point along the kernel's last axes, the outputs'."""
    found = _setting(step, name)
    return found.reshape(()) if found.size == 1 else found


@computes("integer")
def _compute_integer(step: Step) -> Array:
    return _summed(step)


@computes("quantized")
def _compute_quantized(step: Step) -> Array:
    if step.has("kernel"):
        return _of_kernel(step)
    names, xs = _inputs(step.attributes), list(step.xs)
    if step.has("operand"):
        xs.append(step.weight("operand"))
    if step.attributes["layer"]["kind"] == "multiply":
        return _multiplied(step, xs)
    numbers = [
        (x.astype(np.float64) - _setting(step, f"{name}_zero_point")) * _setting(step, f"{name}_scale")
        for x, name in zip(xs, names, strict=True)
    ]
    scale, zero = _setting(step, "output_scale"), _setting(step, "output_zero_point")
    return rounded(_inside(step, numbers, {}), scale, zero, step.attributes["type"])


def _multiplied(step: Step, xs: list[Array]) -> Array:
    """A product: the factors' scales are one number together, as runtimes have it."""
    parts = [x.astype(np.float64) - _setting(step, f"input_{i}_zero_point") for i, x in enumerate(xs, 1)]
    scales = [single(_setting(step, f"input_{i}_scale")) for i in (1, 2)]
    return _output(step, parts[0] * parts[1], scales[0] * scales[1])


def _output(step: Step, y: Array, factor: Any) -> Array:
    """Integers times what they stand for, rounded to the type of the result: by one factor, in float32."""
    factor = factor / single(_setting(step, "output_scale"))
    return rounded(single(y) * factor, np.float32(1), _setting(step, "output_zero_point"), step.attributes["type"])


def _of_kernel(step: Step) -> Array:
    a = step.attributes
    total = _summed(step)
    factor = single(_setting(step, "input_scale")) * single(_setting(step, "kernel_scale").reshape(-1))
    factor = factor * single(a.get("factor", 1.0))
    axis = 1 if a["layer"].get("data_format") == "channels_first" else -1
    shape = [1] * total.ndim
    shape[axis] = -1
    factor = factor.reshape(shape)
    if "type" in a:
        return _output(step, total, factor)
    y = total * factor.astype(np.float64)
    return y if a.get("integer_bias") else step.bias(y, "bias")
