"""Single operations between layers: arithmetic, reductions, slices and moves.

Axes count the batch as 0. Moves are followed through; whatever mixes features is a source of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport import dtypes
from wexport.features import Dim, Value, concat, cut, drop_axis, new_axis, reshape, transpose
from wexport.layers import totals
from wexport.layers.activation import unchanged
from wexport.layers.merge import broadcast
from wexport.layers.registry import (
    ANY,
    BOOL,
    INT,
    INTS,
    NUMBER,
    TEXT,
    Flow,
    as_value,
    computes,
    equations,
    flow,
    kind,
    optional,
)
from wexport.layers.shape import filled
from wexport.layers.step import Step, Terms
from wexport.model import Json

Array = NDArray[Any]

UNARY: dict[str, Callable[[Array], Array]] = {
    "abs": np.abs, "negative": np.negative, "exp": np.exp, "expm1": np.expm1, "log": np.log, "log1p": np.log1p,
    "log2": np.log2, "log10": np.log10, "sqrt": np.sqrt, "rsqrt": lambda x: 1 / np.sqrt(x), "square": np.square,
    "reciprocal": lambda x: 1 / x, "sign": np.sign, "floor": np.floor, "ceil": np.ceil, "round": np.round,
    "sin": np.sin, "cos": np.cos, "tan": np.tan, "arcsin": np.arcsin, "arccos": np.arccos, "arctan": np.arctan,
    "sinh": np.sinh, "cosh": np.cosh, "arcsinh": np.arcsinh, "arccosh": np.arccosh, "arctanh": np.arctanh,
    "erf": np.vectorize(math.erf, otypes=[np.float64]),
    "erfc": np.vectorize(math.erfc, otypes=[np.float64]), "logical_not": np.logical_not, "isnan": np.isnan,
    "zeros_like": np.zeros_like, "ones_like": np.ones_like, "isfinite": np.isfinite, "isinf": np.isinf,
    "exp2": np.exp2, "cbrt": np.cbrt, "trunc": np.trunc, "sinc": np.sinc, "deg2rad": np.deg2rad, "rad2deg": np.rad2deg,
}  # fmt: skip
COMPARE: dict[str, Callable[[Array, Array], Array]] = {
    "equal": np.equal, "not_equal": np.not_equal, "greater": np.greater, "greater_equal": np.greater_equal,
    "less": np.less, "less_equal": np.less_equal, "logical_and": np.logical_and, "logical_or": np.logical_or,
    "logical_xor": np.logical_xor,
}  # fmt: skip
REDUCE: dict[str, Callable[..., Array]] = {
    "mean": np.mean, "sum": np.sum, "max": totals.largest, "min": totals.smallest, "prod": np.prod,
    "any": np.any, "all": np.all, "std": np.std, "var": np.var, "argmax": np.argmax, "argmin": np.argmin,
    "count_nonzero": np.count_nonzero, "median": np.median,
    "sum_square": totals.sum_square, "l1": totals.l1, "l2": totals.l2, "log_sum": totals.log_sum,
    "log_sum_exp": totals.log_sum_exp,
}  # fmt: skip

kind("unary", function=TEXT)
kind("compare", function=TEXT)
kind("reduce", maybe={"select_last": BOOL}, function=TEXT, axis=optional(INTS), keepdims=BOOL)
kind("slice", moves=True, index=ANY)
kind("split", moves=True, axis=INT, sizes=ANY)
kind("stack", moves=True, axis=INT)
kind("transpose", moves=True, order=optional(INTS))
kind("move_axes", moves=True, source=INTS, target=INTS)
kind("reshape_all", moves=True, shape=INTS)
kind("expand_dims", "squeeze", moves=True, axis=optional(INTS))
kind("cast", moves=True, type=TEXT)
kind("clip", low=optional(NUMBER), high=optional(NUMBER))
kind("where")
# alpha * x @ y + beta * bias; `transposed` says which operands have their last two axes swapped, `batch_transposed`
# which have the first of their last two axes before all others
kind("matmul", maybe={"transposed": ANY, "batch_transposed": ANY, "alpha": NUMBER, "beta": NUMBER})
kind("einsum", equation=TEXT)
kind("gather", moves=True, axis=INT)
kind("one_hot", depth=INT)
kind("repeat_axis", times=ANY, axis=optional(INT))
kind("tile", times=INTS)
kind("flip", axis=optional(INTS))
kind("pad_all", maybe={"mode": TEXT}, pads=ANY, value=NUMBER)
kind("cumulative_sum", maybe={"exclusive": BOOL, "reverse": BOOL}, axis=INT)
kind("l2_normalize", axis=INTS, epsilon=NUMBER)


# -- shapes and features -----------------------------------------------------------------------------------------------

flow("clip", "l2_normalize", "cumulative_sum")(unchanged)


@flow("unary")
def _unary_flow(f: Flow) -> Mapping[str, Value]:
    asks = f.attributes["function"] in {"isnan", "isfinite", "isinf", "logical_not"}
    return {"y": replace(f.x, dtype="bool") if asks else f.x}


@flow("cast")
def _cast_flow(f: Flow) -> Mapping[str, Value]:
    return {"y": Value(f.x.shape, f.attributes["type"], f.x.parts)}


@flow("compare", "where", "einsum", "gather", "one_hot", "tile", "repeat_axis", "pad_all")
def _own(f: Flow) -> Mapping[str, Value]:
    return {"y": f.source(_own_shape(f), dtype="bool" if "function" in f.attributes else None)}


def _own_shape(f: Flow) -> Sequence[Dim] | None:
    a, operands = f.attributes, f.args.get("x")
    if operands is None:
        return None
    every = operands if isinstance(operands, tuple) else (operands,)
    shapes = [
        as_value(v).shape
        for v in (*every, f.args.get("y"), f.args.get("condition"), f.args.get("indices"))
        if v is not None
    ]
    known = [s for s in shapes if s is not None]
    if len(known) < len(shapes) or None in every:
        return None
    if "equation" in a:
        return _einsum_shape(a["equation"], known)
    if "depth" in a:
        return (*known[0], a["depth"])
    if not a or "function" in a:
        return broadcast(known)
    x = list(known[0])
    if "axis" in a and f.args.get("indices") is not None:
        axis = a["axis"] % len(x)
        return (*x[:axis], *known[1], *x[axis + 1 :])
    if "pads" in a and isinstance(a["pads"], list) and len(a["pads"]) == len(x):
        return tuple(None if n is None else n + sum(p) for n, p in zip(x, a["pads"], strict=True))
    if "times" in a and isinstance(a["times"], list) and len(a["times"]) == len(x) and "axis" not in a:
        return tuple(None if n is None else n * t for n, t in zip(x, a["times"], strict=True))
    if isinstance(a.get("times"), int) and a.get("axis") is not None:
        place = a["axis"] % len(x)
        x[place] = None if x[place] is None else x[place] * a["times"]
        return x
    return None


@flow("matmul")
def _matmul_flow(f: Flow) -> Mapping[str, Value]:
    a, operands = f.attributes, f.args.get("x")
    shapes = [as_value(v).shape for v in operands] if isinstance(operands, tuple) else []
    if len(shapes) != 2 or any(s is None or len(s) < 2 for s in shapes) or "batch_transposed" in a:
        return {"y": f.source(None)}
    x, y = (
        [*s[:-2], s[-1], s[-2]] if t else list(s) for s, t in zip(shapes, a.get("transposed", [0, 0]), strict=True) if s
    )
    return {"y": f.source((*broadcast([tuple(x[:-2]), tuple(y[:-2])]), x[-2], y[-1]))}


def _einsum_shape(equation: str, shapes: Sequence[Sequence[Dim]]) -> Sequence[Dim] | None:
    left, _, right = equation.partition("->")
    sizes: dict[str, Dim] = {}
    for letters, shape in zip(left.split(","), shapes, strict=False):
        if "." in letters or len(letters) != len(shape):
            return None
        sizes |= dict(zip(letters, shape, strict=True))
    return tuple(sizes.get(c) for c in right)


@flow("reduce")
def _reduce_flow(f: Flow) -> Mapping[str, Value]:
    a, x = f.attributes, f.x
    dtype = {"any": "bool", "all": "bool", "argmax": "int64", "argmin": "int64"}.get(
        a["function"], x.dtype or "float32"
    )
    if a["function"] in {"mean", "std", "var"} and not dtypes.is_float(dtype):
        dtype = "float32"
    if not x.shape:
        return {"y": f.source(x.shape, dtype=dtype)}
    rank = len(x.shape)
    axes = range(rank) if a["axis"] is None else [i % rank for i in a["axis"]]
    if a["keepdims"]:
        return {"y": f.source(tuple(1 if i in axes else n for i, n in enumerate(x.shape)), dtype=dtype)}
    if rank - 1 in axes or a["function"] not in {"mean", "sum", "max", "min"}:
        return {"y": f.source(tuple(n for i, n in enumerate(x.shape) if i not in axes), dtype=dtype)}
    for axis in sorted(axes, reverse=True):  # features stay what they are, as in pooling over everything
        x = drop_axis(x, axis)
    return {"y": replace(x, dtype=dtype)}


@flow("transpose")
def _transpose_flow(f: Flow) -> Mapping[str, Value]:
    x = f.x
    if not x.shape:
        return {"y": x}
    order = f.attributes["order"] or reversed(range(x.rank))
    return {"y": transpose(x, [i % x.rank for i in order])}


@flow("move_axes")
def _move_flow(f: Flow) -> Mapping[str, Value]:
    a, x = f.attributes, f.x
    if not x.shape:
        return {"y": x}
    source, target = ([i % x.rank for i in a[k]] for k in ("source", "target"))
    order = [i for i in range(x.rank) if i not in source]
    for place, axis in sorted(zip(target, source, strict=True)):
        order.insert(place, axis)
    return {"y": transpose(x, order)}


@flow("reshape_all")
def _reshape_all_flow(f: Flow) -> Mapping[str, Value]:
    target = f.attributes["shape"]
    if f.x.shape is None:
        return {"y": Value(tuple(None if n == -1 else n for n in target), f.x.dtype)}
    return {"y": reshape(f.x, filled(f.x.shape, target))}


@flow("expand_dims")
def _expand_flow(f: Flow) -> Mapping[str, Value]:
    x = f.x
    for axis in f.attributes["axis"]:
        x = new_axis(x, axis, 1)
    return {"y": x}


@flow("squeeze")
def _squeeze_flow(f: Flow) -> Mapping[str, Value]:
    x = f.x
    if not x.shape:
        return {"y": x}
    axes = f.attributes["axis"]
    places = [i for i, n in enumerate(x.shape) if n == 1] if axes is None else [a % x.rank for a in axes]
    return {"y": reshape(x, tuple(n for i, n in enumerate(x.shape) if i not in places))}


@flow("flip")
def _flip_flow(f: Flow) -> Mapping[str, Value]:
    return {"y": f.x.untraced()}


@flow("stack")
def _stack_flow(f: Flow) -> Mapping[str, Value]:
    values = f.values()
    axis = f.attributes["axis"]
    return {"y": concat([new_axis(v, axis, 1) for v in values], axis)}


@flow("slice")
def _slice_flow(f: Flow) -> Mapping[str, Value]:
    x = f.x
    if x.shape is None:
        return {"y": x}
    index = _expanded(f.attributes["index"], len(x.shape))
    if index is None:
        return {"y": Value(None, x.dtype)}
    axis = 0
    for item in index:
        if item is None:
            x = new_axis(x, axis, 1)
            axis += 1
            continue
        n = (x.shape or ())[axis]
        if isinstance(item, int):
            if n is None:
                return {"y": drop_axis(x, axis)}  # one of an unknown number of positions
            place = item % n
            inner = cut(x, axis, place, place + 1)
            x = reshape(inner, tuple(m for i, m in enumerate(inner.shape or ()) if i != axis))
            continue
        x = _ranged(x, axis, item)
        axis += 1
    return {"y": x}


def _is_whole(item: Json) -> bool:
    return (
        isinstance(item, Mapping) and item["start"] in (None, 0) and item["stop"] is None and item["step"] in (None, 1)
    )


def _expanded(index: Sequence[Json], rank: int) -> list[Json] | None:
    """An index with its ellipsis spelled out, an item for each axis (and each new one)."""
    whole = {"start": None, "stop": None, "step": None}
    used = sum(1 for i in index if i is not None and i != "...")
    if used > rank:
        return None
    fill = [whole] * (rank - used)
    if "..." in index:
        place = list(index).index("...")
        return [*index[:place], *fill, *index[place + 1 :]]
    return [*index, *fill]


def _ranged(x: Value, axis: int, item: Mapping[str, Any]) -> Value:
    n = (x.shape or ())[axis]
    if _is_whole(item):
        return x
    if n is None:
        shape = list(x.shape or ())
        shape[axis] = None
        return Value(tuple(shape), x.dtype)
    positions = range(*slice(item["start"], item["stop"], item["step"]).indices(n))
    if positions.step == 1:
        return cut(x, axis, positions.start, max(positions.start, positions.stop))
    shape = list(x.shape or ())
    shape[axis] = len(positions)
    return Value(tuple(shape), x.dtype)


def cuts(n: int, sizes: Json) -> list[int]:
    """The positions at which a split cuts an axis of length n."""
    if isinstance(sizes, Mapping) and "parts" in sizes:  # of equal lengths, the last one shorter
        return [min(n, -(-n // sizes["parts"]) * i) for i in range(sizes["parts"] + 1)]
    if isinstance(sizes, Mapping):
        return [0, *(int(i) for i in sizes["at"]), n]
    if isinstance(sizes, int):
        return [n * i // sizes for i in range(sizes + 1)]
    lengths = [int(s) for s in sizes]
    lengths = [n - sum(m for m in lengths if m >= 0) if s < 0 else s for s in lengths]
    return [sum(lengths[:i]) for i in range(len(lengths) + 1)]


@flow("split")
def _split_flow(f: Flow) -> Mapping[str, Value]:
    a, x = f.attributes, f.x
    n = x.shape[a["axis"]] if x.shape else None
    if n is None:
        return {role: Value(None, x.dtype) for role in f.names}
    edges = cuts(n, a["sizes"])
    pieces = [cut(x, a["axis"], low, high) for low, high in pairwise(edges)]
    return {("y" if i == 0 else f"y_{i}"): p for i, p in enumerate(pieces)}


# -- computing ---------------------------------------------------------------------------------------------------------


_SIGNS = {"equal": "==", "greater": ">", "greater_equal": ">=", "less": "<", "less_equal": "<="}


@equations("compare")
def _compare_equations(terms: Terms) -> list[str]:
    sign, values = _SIGNS.get(terms.attributes["function"]), terms.arg("x")
    text = f" {sign} ".join(values) if sign else f"{terms.attributes['function']}({', '.join(values)})"
    return [f"y = {text}"]


@equations("cast")
def _cast_equations(terms: Terms) -> list[str]:
    return [f"y = cast({terms.arg('x')[0]}, {terms.attributes['type']})"]


@equations("where")
def _where_equations(terms: Terms) -> list[str]:
    return [f"y = where({', '.join(terms.arg(role)[0] for role in ('condition', 'x', 'y'))})"]


@equations("matmul")
def _matmul_equations(terms: Terms) -> list[str]:
    a, values = terms.attributes, terms.arg("x")
    last, first = (a.get(k, [False, False]) for k in ("transposed", "batch_transposed"))
    values = [f"moved({x})" if moved else x for x, moved in zip(values, first, strict=True)]
    product = " @ ".join(f"{x}.T" if turned else x for x, turned in zip(values, last, strict=True))
    product = f"{a['alpha']} * ({product})" if "alpha" in a else product
    if "bias" not in terms.args:
        return [f"y = {product}"]
    factor = f"{a['beta']} * " if "beta" in a else ""
    return [f"y = {product} + {factor}{terms.arg('bias')[0]}"]


@equations("einsum")
def _einsum_equations(terms: Terms) -> list[str]:
    return [f"y = einsum({terms.attributes['equation']!r}, {', '.join(terms.arg('x'))})"]


@computes("unary")
def _compute_unary(step: Step) -> Array:
    return UNARY[step.attributes["function"]](step.x)


@computes("compare")
def _compute_compare(step: Step) -> Array:
    return COMPARE[step.attributes["function"]](*step.xs)


@computes("reduce")
def _compute_reduce(step: Step) -> Array:
    a = step.attributes
    axis = None if a["axis"] is None else tuple(a["axis"])
    if a["function"].startswith("arg"):
        along = None if axis is None else axis[0]
        if a.get("select_last"):
            x = np.flip(step.x, along)
            return np.asarray(x.shape[along or 0] - 1 - REDUCE[a["function"]](x, axis=along, keepdims=a["keepdims"]))
        return np.asarray(REDUCE[a["function"]](step.x, axis=along, keepdims=a["keepdims"]))
    return np.asarray(REDUCE[a["function"]](step.x, axis=axis, keepdims=a["keepdims"]))


@computes("slice")
def _compute_slice(step: Step) -> Array:
    def item(i: Json) -> Any:
        return slice(i["start"], i["stop"], i["step"]) if isinstance(i, Mapping) else Ellipsis if i == "..." else i

    return np.asarray(step.x[tuple(item(i) for i in step.attributes["index"])])


@computes("split")
def _compute_split(step: Step) -> dict[str, Array]:
    a, x = step.attributes, step.x
    edges = cuts(x.shape[a["axis"]], a["sizes"])
    pieces = np.split(x, edges[1:-1], axis=a["axis"])
    return {("y" if i == 0 else f"y_{i}"): p for i, p in enumerate(pieces)}


@computes("stack")
def _compute_stack(step: Step) -> Array:
    return np.stack(step.xs, axis=step.attributes["axis"])


@computes("transpose")
def _compute_transpose(step: Step) -> Array:
    return np.transpose(step.x, step.attributes["order"])


@computes("move_axes")
def _compute_move(step: Step) -> Array:
    return np.moveaxis(step.x, step.attributes["source"], step.attributes["target"])


@computes("reshape_all")
def _compute_reshape_all(step: Step) -> Array:
    return step.x.reshape(step.attributes["shape"])


@computes("expand_dims")
def _compute_expand(step: Step) -> Array:
    return np.expand_dims(step.x, tuple(step.attributes["axis"]))


@computes("squeeze")
def _compute_squeeze(step: Step) -> Array:
    axis = step.attributes["axis"]
    return np.squeeze(step.x, None if axis is None else tuple(axis))


@computes("cast")
def _compute_cast(step: Step) -> Array:
    name = step.attributes["type"]
    return step.x.astype(np.float64 if "float" in name else name)


@computes("clip")
def _compute_clip(step: Step) -> Array:
    return np.clip(step.x, step.attributes["low"], step.attributes["high"])


@computes("where")
def _compute_where(step: Step) -> Array:
    return np.where(step.args["condition"], step.args["x"], step.args["y"])


@computes("matmul")
def _compute_matmul(step: Step) -> Array:
    a = step.attributes
    last, first = (a.get(k, [False, False]) for k in ("transposed", "batch_transposed"))
    x, y = (_turned(z, *how) for z, *how in zip(step.xs, last, first, strict=True))
    product = np.matmul(x, y)
    product = product * a["alpha"] if "alpha" in a else product
    bias = step.args.get("bias")
    return product if bias is None else product + (bias * a["beta"] if "beta" in a else bias)


def _turned(x: Array, last: bool, first: bool) -> Array:
    x = np.moveaxis(x, 0, -2) if first else x
    return np.swapaxes(x, -1, -2) if last else x


@computes("einsum")
def _compute_einsum(step: Step) -> Array:
    return np.asarray(np.einsum(step.attributes["equation"], *step.xs))


@computes("gather")
def _compute_gather(step: Step) -> Array:
    return np.take(step.x, np.asarray(step.args["indices"]).astype(int), axis=step.attributes["axis"])


@computes("one_hot")
def _compute_one_hot(step: Step) -> Array:
    return (step.x[..., None] == np.arange(step.attributes["depth"])) * 1.0


@computes("repeat_axis")
def _compute_repeat(step: Step) -> Array:
    return np.repeat(step.x, step.attributes["times"], axis=step.attributes["axis"])


@computes("tile")
def _compute_tile(step: Step) -> Array:
    return np.tile(step.x, step.attributes["times"])


@computes("flip")
def _compute_flip(step: Step) -> Array:
    axis = step.attributes["axis"]
    return np.flip(step.x, None if axis is None else tuple(axis))


@computes("pad_all")
def _compute_pad(step: Step) -> Array:
    a = step.attributes
    return totals.padded(step.x, a["pads"], a.get("mode", "constant"), a["value"])


@computes("cumulative_sum")
def _compute_cumsum(step: Step) -> Array:
    return totals.cumulated(np.cumsum, step.x, step.attributes)


@computes("l2_normalize")
def _compute_normalize(step: Step) -> Array:
    square = np.sum(step.x**2, axis=tuple(step.attributes["axis"]), keepdims=True)
    return np.asarray(step.x / np.sqrt(np.maximum(square, step.attributes["epsilon"])))
