"""Dense layers: the product with a kernel, over the last axis of x.

    Keras  Dense        kernel "in out", bias "out"; quantized and low-rank forms in `quantized.py`
    Keras 1  TimeDistributedDense as Dense; MaxoutDense  W "piece in out", b "piece out" (x has two axes);
             Highway  W and W_carry "in out", b and b_carry "out"
    Keras  EinsumDense  kernel: the letters of the equation's second operand, `in_b` if summed over, `out_c` if
             they come out, `each_d` if x has them too; bias: the letters of `bias_axes`, others length one

Sources: keras/src/layers/core/dense.py, einsum_dense.py (3.15.1); keras/layers/core.py (1.2.2).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport.errors import LayoutError
from wexport.features import Value
from wexport.layers import quantized
from wexport.layers.activation import activation
from wexport.layers.keras import Keras, Shapes, Slot, Stored, keras, plain, rule
from wexport.layers.numerics import sigmoid
from wexport.layers.registry import ACTIVATION, INT, NUMBER, NUMBERS, TEXT, Flow, computes, equations, flow, kind
from wexport.layers.step import Step, Terms
from wexport.layout import Packed, Rule
from wexport.model import Json

Array = NDArray[Any]


def last_axis(_: Mapping[str, Any]) -> int:
    """The kernel reads x's last axis."""
    return -1


_FACTORS: dict[str, Json] = {"alpha": NUMBER, "beta": NUMBER}  # alpha * (x @ kernel) + beta * bias
kind("dense", feature_axis=last_axis, maybe={**quantized.MAYBE, **_FACTORS}, units=INT, activation=ACTIVATION)


@keras("Dense", "TimeDistributedDense")
def _dense(layer: Keras) -> Stored:
    units = layer.integer("units", "output_dim")
    how = quantized.policy(layer)
    sizes = {"out": units}
    shape = plain(layer.build.get("input_shape"))
    if isinstance(shape, list) and shape and isinstance(shape[-1], int):
        sizes["in"] = shape[-1]
    slots = quantized.dense_slots(layer, how, layer.flag("use_bias", "bias", default=True), sizes)
    if layer.era.major == 1:
        slots = tuple(Slot({"kernel": "W", "bias": "b"}[s.name], s.rule, s.splits) for s in slots)
    attributes = {"units": units, "activation": activation(layer, "activation"), **how.attributes()}
    # Keras 2's Dense passes masks on from 2.0 to the end; Keras 1's raises instead
    return Stored("dense", attributes, slots, mask="pass")


@flow("dense")
def _dense_flow(f: Flow) -> Mapping[str, Value]:
    if f.x.shape is None:
        return {"y": f.source(None)}
    return {"y": f.source((*f.x.shape[:-1], f.attributes["units"]))}


@equations("dense")
def _dense_equations(terms: Terms) -> list[str]:
    if parts := terms.attributes.get("parts"):
        return [f"y = {terms.activation('activation', f'concat({_each(terms, parts)})')}"]
    return [f"y = {terms.activation('activation', _affine(terms))}"]


def _each(terms: Terms, parts: Sequence[str]) -> str:
    return ", ".join(_affine(terms.below(part)) for part in parts)


def _affine(terms: Terms) -> str:
    product = quantized.product(terms)
    alpha, beta = (terms.attributes.get(k) for k in ("alpha", "beta"))
    product = product if alpha is None else f"{alpha} * ({product})"
    bias = quantized.plus_bias(terms)
    return product + (bias if beta is None else bias.replace(" + ", f" + {beta} * "))


@computes("dense")
def _compute_dense(step: Step) -> Array:
    parts = step.attributes.get("parts")
    if parts is None:
        return step.activate("activation", _product(step))
    return step.activate("activation", np.concatenate([_product(step.below(part)) for part in parts], axis=-1))


def _product(step: Step) -> Array:
    y = quantized.rounded_input(step, step.x) @ quantized.dequantized(step)
    if (low := quantized.low_rank(step)) is not None:
        y = y + step.x @ low
    bias = quantized.rounded_bias(step)
    y = y * step.attributes.get("alpha", 1)
    return y if bias is None else y + step.attributes.get("beta", 1) * bias


# -- maxout and highway (Keras 1) --------------------------------------------------------------------------------------

kind("maxout", units=INT, pieces=INT)
kind("highway", activation=ACTIVATION)


@keras("MaxoutDense")
def _maxout(layer: Keras) -> Stored:
    slots = [Slot("W", rule("piece in out -> kernel: piece in out"))]
    if layer.flag("bias", "use_bias", default=True):
        slots.append(Slot("b", rule("piece out -> bias: piece out")))
    attributes = {"units": layer.integer("output_dim", "units"), "pieces": layer.integer("nb_feature")}
    return Stored("maxout", attributes, tuple(slots))


@keras("Highway")
def _highway(layer: Keras) -> Stored:
    slots = [Slot("W", rule("in out -> kernel: in out")), Slot("W_carry", rule("in out -> gate.kernel: in out"))]
    if layer.flag("bias", "use_bias", default=True):
        slots += [Slot("b", rule("out -> bias: out")), Slot("b_carry", rule("out -> gate.bias: out"))]
    return Stored("highway", {"activation": activation(layer, "activation")}, tuple(slots))


@flow("maxout", "highway")
def _units_flow(f: Flow) -> Mapping[str, Value]:
    units = f.attributes.get("units")
    if f.x.shape is None:
        return {"y": f.source(None)}
    return {"y": f.source((*f.x.shape[:-1], f.x.shape[-1] if units is None else units))}


@equations("maxout")
def _maxout_equations(terms: Terms) -> list[str]:
    return [f"y = max(x @ {terms.ref('kernel')}{terms.plus('bias')}, over=piece)"]


@computes("maxout")
def _compute_maxout(step: Step) -> Array:
    return np.asarray(step.bias(np.einsum("bi,pio->bpo", step.x, step.weight("kernel")), "bias").max(axis=1))


@equations("highway")
def _highway_equations(terms: Terms) -> list[str]:
    gate, gate_bias = terms.ref("gate.kernel"), terms.plus("gate.bias")
    inner = terms.activation("activation", f"x @ {terms.ref('kernel')}{terms.plus('bias')}")
    return [f"t = sigmoid(x @ {gate}{gate_bias})", f"y = t * {inner} + (1 - t) * x"]


@computes("highway")
def _compute_highway(step: Step) -> Array:
    t = sigmoid(step.bias(step.x @ step.weight("gate.kernel"), "gate.bias"))
    return t * step.activate("activation", step.bias(step.x @ step.weight("kernel"), "bias")) + (1 - t) * step.x


# -- einsum ------------------------------------------------------------------------------------------------------------

kind("einsum_dense", maybe=quantized.MAYBE, equation=TEXT, output_shape=NUMBERS, activation=ACTIVATION)
_EQUATION = re.compile(r"(\.\.\.)?([A-Za-z]+)(\.\.\.)?,([A-Za-z]+)->(\.\.\.)?([A-Za-z]+)(\.\.\.)?")


@keras("EinsumDense")
def _einsum(layer: Keras) -> Stored:
    equation = str(layer.need("equation")).replace(" ", "")
    match = _EQUATION.fullmatch(equation)
    if not match:
        raise LayoutError(f"{layer.name}: EinsumDense: the equation {equation!r} cannot be read")
    x, weight, y = match[2], match[4], match[6]
    names = {c: ("each_" if c in x and c in y else "in_" if c in x else "out_") + c for c in weight}
    how = quantized.policy(layer)
    shape = plain(layer.need("output_shape"))
    shape = list(shape) if isinstance(shape, list | tuple) else [shape]
    attributes = {
        "equation": equation,
        "output_shape": shape,
        "activation": activation(layer, "activation"),
        **how.attributes(),
    }
    names |= {c: f"out_{c}" for c in y if c not in names}
    slots = einsum_slots(layer, how, weight, y, names)
    return Stored("einsum_dense", attributes, slots)


def einsum_slots(
    layer: Keras, how: quantized.Policy, weight: str, y: str, names: Mapping[str, str]
) -> tuple[Slot, ...]:
    """The variables of an EinsumDense whose kernel has these letters; `names` are their axes."""
    plain_axes = " ".join(names[c] for c in weight)
    axes = layer.get("bias_axes")
    bias = (Slot("bias", _einsum_bias(str(axes), y, names)),) if axes else ()
    low = quantized.lora_slots(how, "kernel", " ".join(names[c] for c in weight[:-1]), names[weight[-1]])
    if how.mode in (None, "float8"):
        kernel = Slot("kernel", rule(f"{plain_axes} -> kernel: {plain_axes}"), trainable=how.rank is None, tracked=True)
        return (kernel, *bias, *low, *quantized.float8_slots(how))
    rows = [names[c] for c in weight if c not in y]
    columns = [names[c] for c in weight if c in y]
    if how.mode in {"gptq", "awq"} or (how.mode == "int4" and layer.era.since(3, 14)):
        sizes = _einsum_sizes(layer, weight, y, names)
        leading = [names[c] for c in weight] == rows + columns
        if how.mode == "int4":
            kernel = Slot("kernel", _flattened(rows, columns, leading, sizes, False), trainable=False, tracked=False)
            rest: tuple[Slot, ...] = (Slot("kernel_scale", _any("kernel_scale"), trainable=False),)
            if how.block is not None:
                rest += (Slot("kernel_zero", _any("kernel_zero_point"), trainable=False),)
                rest += (Slot("g_idx", rule("in -> kernel_group: in"), trainable=False),)
            return (kernel, *bias, *low, *rest)
        found = [Slot("quantized_kernel", _flattened(rows, columns, leading, sizes, True, how.bits), trainable=False)]
        found += [Slot("kernel_scale", rule("out group -> kernel_scale: group out"), trainable=False)]
        found += [Slot("kernel_zero", rule("out group -> kernel_zero_point: group out"), trainable=False)]
        if how.mode == "awq":
            found.append(Slot("awq_scales", rule("in -> input_scale: in"), trainable=False))
        return (*bias, *found, Slot("g_idx", rule("in -> kernel_group: in"), trainable=False))
    kernel_rule: Any = rule(f"{plain_axes} -> kernel: {plain_axes}")
    if how.mode == "int4":
        packed, sizes = (
            next((names[c] for c in weight if c not in y), names[weight[0]]),
            _einsum_sizes(layer, weight, y, names),
        )
        if packed in sizes:
            size = {packed: sizes[packed]}
            kernel_rule = rule(f"{plain_axes} -> kernel: {plain_axes}", Packed(packed), sizes=size)
    scale = Slot("kernel_scale", _einsum_scale(weight, y, names), trainable=False)
    return (Slot("kernel", kernel_rule, trainable=False, tracked=False), *bias, *low, scale)


def _einsum_bias(axes: str, y: str, names: Mapping[str, str]) -> Rule:
    """The bias has the letters of y from the first one in `bias_axes` on; those not in it have length one."""
    first = min(y.index(c) for c in axes if c in y)
    words = [names[c] if c in axes else "1" for c in y[first:]]
    return rule(f"{' '.join(words)} -> bias: {' '.join(w for w in words if w != '1')}")


def _einsum_scale(weight: str, y: str, names: Mapping[str, str]) -> Any:
    """One scale for each letter that comes out, laid out like y."""

    def make(shape: tuple[int, ...], shapes: Shapes) -> Rule:
        words = [names[c] if c in weight else "1" for c in y]
        words = ["1"] * (len(shape) - len(words)) + words
        if len(words) != len(shape) or any(w == "1" and n != 1 for w, n in zip(words, shape, strict=True)):
            return _any("kernel_scale")(shape, shapes)
        return rule(f"{' '.join(words)} -> kernel_scale: {' '.join(w for w in words if w != '1')}")

    return make


def _any(role: str) -> Any:
    """A small array whose axes are groups (if there are two) and outputs."""

    def make(shape: tuple[int, ...], _: Shapes) -> Rule:
        words = ["group", "out"][-len(shape) :] if len(shape) <= 2 else [f"axis_{i + 1}" for i in range(len(shape))]
        return rule(f"{' '.join(words)} -> {role}: {' '.join(words)}")

    return make


def _einsum_sizes(layer: Keras, weight: str, y: str, names: Mapping[str, str]) -> dict[str, int]:
    """What the config tells of the lengths of the kernel's axes."""
    sizes: dict[str, int] = {}
    match = _EQUATION.fullmatch(str(layer.need("equation")).replace(" ", ""))
    shapes = ((match[2] if match else "", layer.build.get("input_shape")), (y, layer.get("output_shape")))
    for letters, shape in shapes:
        found = plain(shape)
        for c, n in zip(reversed(letters), reversed(found if isinstance(found, list) else []), strict=False):
            if c in weight and isinstance(n, int):
                sizes[names[c]] = n
    return sizes


def _flattened(
    rows: list[str], columns: list[str], leading: bool, sizes: Mapping[str, int], turned: bool, bits: int = 4
) -> Any:
    """A kernel stored as a matrix: its inputs packed into one axis, its outputs into the other.

    Keras reshapes the kernel as it is: where an output's letter comes before an input's, the matrix is only that.
    """

    def make(shape: tuple[int, ...], shapes: Shapes) -> Rule:
        known = leading and all(a in sizes for a in rows + columns)
        left, right = (rows, columns) if known else (["in"], ["out"])
        scale = shapes.get("kernel_scale") or (shape[0 if turned else 1] * (2 if bits == 4 else 1),)
        given = dict(sizes) if known else {"out": scale[0 if turned else -1]}
        packed = Packed(right[-1], signed=not turned)
        dims = [f"({' '.join(side)})" for side in ([right, left] if turned else [left, right])]
        total = math.prod(given[a] for a in right)
        stored = shape[0 if turned else 1]
        steps = (packed,) if (total + 1) // 2 == stored and bits == 4 else ()
        used = {a: n for a, n in given.items() if a in left + right} if known or steps else {}
        return rule(f"{' '.join(dims)} -> kernel: {' '.join(left + right)}", *steps, sizes=used)

    return make


@flow("einsum_dense")
def _einsum_flow(f: Flow) -> Mapping[str, Value]:
    match = _EQUATION.fullmatch(f.attributes["equation"])
    if f.x.shape is None or match is None:
        return {"y": f.source(None)}
    x, y = match[2], match[6]
    shape = f.x.shape
    extra = len(shape) - len(x)
    if extra < 0:
        return {"y": f.source(None)}
    stated = dict(zip(reversed(y), reversed(f.attributes["output_shape"]), strict=False))
    sizes = dict(zip(x, shape[extra:] if match[1] else shape, strict=False))
    inner = tuple(stated.get(c) or sizes.get(c) for c in y)
    return {"y": f.source(shape[:extra] + inner if match[1] else inner + shape[len(x) :])}


def _reduced(match: re.Match[str]) -> tuple[int, ...]:
    """The axes of x that are summed over, counted from the last; none where others stand behind them."""
    x, y = match[2], match[6]
    return tuple(i - len(x) for i, c in enumerate(x) if c not in y) if not match[3] else ()


@equations("einsum_dense")
def _einsum_equations(terms: Terms) -> list[str]:
    match = _EQUATION.fullmatch(terms.attributes["equation"])
    reduced = _reduced(match) if match is not None else ()
    whole = quantized.kernel_term(terms) or terms.ref("kernel")
    x = quantized.rounded_term(terms, "x", reduced or (-1,))
    product = f"einsum({terms.attributes['equation']!r}, {x}, {whole}){quantized.plus_bias(terms)}"
    return [f"y = {terms.activation('activation', product)}"]


@computes("einsum_dense")
def _compute_einsum(step: Step) -> Array:
    equation = step.attributes["equation"]
    match = _EQUATION.fullmatch(equation)
    assert match is not None
    x, weight, y = match[2], match[4], match[6]
    sizes = dict(zip(reversed(x), reversed(step.x.shape[: len(x)] if match[3] else step.x.shape), strict=False))
    sizes |= {c: n for c, n in zip(reversed(y), reversed(step.attributes["output_shape"]), strict=False) if n}
    kernel = einsum_kernel(step, weight, y, sizes)
    if (low := quantized.low_rank(step)) is not None:
        kernel = kernel + low
    reduced = _reduced(match)
    z = np.einsum(equation, quantized.rounded_input(step, step.x, reduced or (-1,)), kernel)
    bias = quantized.rounded_bias(step)
    if bias is not None:
        axes = {word.rpartition("_")[2] for word in step.tensors[f"{step.prefix}bias"][0].split()}
        wanted = [c for c in y if c in axes]
        first = y.index(wanted[0])
        bias = bias.reshape([bias.shape[wanted.index(c)] if c in wanted else 1 for c in y[first:]])
        z = z + (bias if not match[7] else bias.reshape(bias.shape + (1,) * (z.ndim - len(y))))
    return step.activate("activation", z)


def einsum_kernel(step: Step, weight: str, y: str, sizes: Mapping[str, int] | None = None) -> Array:
    """The kernel as numbers, in the order of its letters; `sizes` are their lengths."""
    how = step.attributes.get("dequantize")
    axes, q = step.tensors[f"{step.prefix}kernel"]
    if how is None:
        return q
    if how["rule"] == "round":
        return quantized.dequantized(step)
    scale_axes, scale = step.tensors[f"{step.prefix}kernel_scale"]
    if how["rule"] == "divide" and scale_axes != "out":
        names = scale_axes.split()
        order = [a for a in axes.split() if a in names]
        scale = np.transpose(scale, [names.index(a) for a in order])
        return q / scale.reshape([q.shape[i] if a in names else 1 for i, a in enumerate(axes.split())])
    whole = axes == "in out"  # a matrix whose letters `_flattened` could not tell
    shape = [(sizes or {})[c] for c in weight] if whole else q.shape
    rows = len(q) if whole else math.prod(n for n, c in zip(q.shape, weight, strict=True) if c not in y)
    flat = Step(
        step.attributes,
        {**step.tensors, f"{step.prefix}kernel": ("in out", q.reshape(rows, -1))},
        step.args,
        step.out,
        step.prefix,
    )
    return quantized.dequantized(flat).reshape(shape)
