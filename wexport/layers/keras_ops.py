"""How Keras writes single operations between layers (`layers/ops.py` says what they do).

    Keras 3    an Operation: class name, arguments of the call, and those of its constructor in `config`
    tf.keras   TFOpLambda (a function's name), SlicingOpLambda (a slice); up to 2.3 TensorFlowOpLayer (a graph node)

An operation that is not in the table, or an argument that only running would give, makes the layer `unknown`.
Sources: keras/src/ops/numpy.py, core.py, nn.py (3.15.1); keras/src/layers/core/tf_op_layer.py (2.15);
tensorflow_core/python/keras/engine/base_layer.py, TensorFlowOpLayer (1.15).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from wexport.layers.activation import named
from wexport.layers.keras import Bound, Keras, Stored, Tensor, keras, plain, unknown
from wexport.layers.numerics import FUNCTIONS
from wexport.layers.ops import COMPARE, REDUCE, UNARY
from wexport.model import Json

_BINARY = {
    "add": "add", "add_v2": "add", "subtract": "subtract", "sub": "subtract", "multiply": "multiply", "mul": "multiply",
    "divide": "divide", "true_divide": "divide", "truediv": "divide", "real_div": "divide", "div": "divide",
    "divide_no_nan": "divide", "floor_divide": "floor_divide", "floordiv": "floor_divide", "floor_div": "floor_divide",
    "power": "power", "pow": "power", "maximum": "maximum", "minimum": "minimum", "mod": "mod", "floormod": "mod",
    "floor_mod": "mod",
}  # fmt: skip
_UNARY = {
    "absolute": "abs", "neg": "negative", "ceiling": "ceil", "inv": "reciprocal", "asin": "arcsin", "acos": "arccos",
    "atan": "arctan", "asinh": "arcsinh", "acosh": "arccosh", "atanh": "arctanh", "is_nan": "isnan",
    "invert": "logical_not",
}  # fmt: skip
_COMPARE = {
    "notequal": "not_equal", "and": "logical_and", "or": "logical_or", "xor": "logical_xor", "eq": "equal",
    "ne": "not_equal", "gt": "greater", "ge": "greater_equal", "lt": "less", "le": "less_equal", "__eq__": "equal",
}  # fmt: skip


class UnknownOperationError(Exception):
    """An operation, or a way of calling it, that is not in the table."""


def bound(name: str, args: Sequence[Any], kwargs: Mapping[str, Any], major: int) -> Bound:
    """An operation by its name, with the arguments of its call.

    Raises:
        UnknownOperationError: it is not in the table.
    """
    call = _Call(list(args), {k: v for k, v in kwargs.items() if k not in {"name", "dtype_policy", "trainable"}})
    if name in _BINARY:
        pair = (call.take("x", "x1", "a"), call.take("y", "x2", "b"))
        return _BINARY[name], {"broadcast": "numpy"}, {"x": pair}
    if name in COMPARE or name in _COMPARE:
        pair = (call.take("x", "x1", "a"), call.take("y", "x2", "b"))
        return "compare", {"function": _COMPARE.get(name, name)}, {"x": pair}
    if name in UNARY or name in _UNARY:
        return "unary", {"function": _UNARY.get(name, name)}, {"x": call.take("x", "input", "a", "value")}
    reduced = name.removeprefix("reduce_")
    reduced = {"amax": "max", "amin": "min", "variance": "var", "arg_max": "argmax", "arg_min": "argmin",
               "logsumexp": "log_sum_exp"}.get(reduced, reduced)  # fmt: skip
    if reduced in REDUCE:
        return _reduce(reduced, call)
    if name in _SPECIAL:
        return _SPECIAL[name](call)
    function = {"softmax_v2": "softmax", "leaky_relu": "leaky_relu", "log_softmax_v2": "log_softmax"}.get(name, name)
    if function in FUNCTIONS or function in {"relu6", "swish", "hard_swish"}:
        return _activation(function, call, major)
    raise UnknownOperationError(name)


class _Call:
    """A call's arguments, taken by position or by any of their names."""

    def __init__(self, args: list[Any], kwargs: Mapping[str, Any]) -> None:
        self.args, self.kwargs = args, dict(kwargs)

    def take(self, *names: str, default: Any = None) -> Any:
        for name in names:
            if name in self.kwargs:
                return self.kwargs[name]
        return self.args.pop(0) if self.args else default

    def number(self, *names: str, default: Any = None) -> Any:
        found = plain(self.take(*names, default=default))
        if isinstance(found, Tensor):
            raise UnknownOperationError("an argument that is computed")
        return found

    def ints(self, *names: str) -> list[int] | None:
        found = self.number(*names)
        if found is None:
            return None
        items = found if isinstance(found, list) else [found]
        if not all(isinstance(i, int | float) for i in items):
            raise UnknownOperationError("an axis that is no number")
        return [int(i) for i in items]


def _reduce(name: str, call: _Call) -> Bound:
    x = call.take("x", "input_tensor", "input")
    axis = call.ints("axis", "reduction_indices", "dimension")
    keep = bool(call.number("keepdims", "keep_dims", default=False))
    return "reduce", {"function": name, "axis": axis, "keepdims": keep}, {"x": x}


def _activation(name: str, call: _Call, major: int) -> Bound:
    x = call.take("x", "features", "logits", "input", "_sentinel")
    found = named(name, major)
    if "alpha" in found or name in {"leaky_relu", "elu", "celu"}:
        given = call.number("alpha", "negative_slope", default=found.get("alpha"))
        found["alpha"] = found.get("alpha") if given is None else float(given)
    for key in {"threshold", "default_value", "b"} & set(found):
        found[key] = float(call.number(key, default=found[key]))
    if "axis" in found:
        axis = call.number("axis", default=-1)
        found["axis"] = -1 if axis is None else axis
    if "approximate" in found:
        found["approximate"] = bool(call.number("approximate", default=name == "gelu" and major > 2))
    if name == "relu" and (
        limits := {k: call.kwargs[k] for k in ("max_value", "negative_slope", "threshold") if call.kwargs.get(k)}
    ):
        found = {
            "name": "bounded_relu",
            "max_value": limits.get("max_value"),
            "alpha": float(limits.get("negative_slope", 0.0)),
            "threshold": float(limits.get("threshold", 0.0)),
        }
    return "activation", {"activation": found}, {"x": x}


def _concat(call: _Call) -> Bound:
    values = call.take("values", "xs", "x")
    axis = call.number("axis", default=0)
    return "concat", {"axis": int(axis)}, {"x": tuple(values)}


def _hstack(call: _Call) -> Bound:
    return "concat", {"axis": 1}, {"x": tuple(call.take("xs"))}


def _average(call: _Call) -> Bound:
    found = _reduce("mean", call)
    if call.take("weights") is not None:
        raise UnknownOperationError("a weighted average")
    return found


def _moved(call: _Call) -> Bound:
    x = call.take("x")
    source, target = call.ints("source"), call.ints("destination")
    return "move_axes", {"source": source, "target": target}, {"x": x}


def _swapped(call: _Call) -> Bound:
    x = call.take("x")
    pair = [int(call.number("axis1")), int(call.number("axis2"))]
    return "move_axes", {"source": pair, "target": pair[::-1]}, {"x": x}


def _ravel(call: _Call) -> Bound:
    return "reshape_all", {"shape": [-1]}, {"x": call.take("x")}


def _stack(call: _Call) -> Bound:
    values = call.take("values", "x", "xs")
    return "stack", {"axis": int(call.number("axis", default=0))}, {"x": tuple(values)}


def _reshape(call: _Call) -> Bound:
    x = call.take("tensor", "x")
    shape = call.ints("shape", "newshape")
    if shape is None:
        raise UnknownOperationError("reshape")
    if shape and shape[0] == -1 and -1 not in shape[1:]:
        return "reshape", {"shape": shape[1:]}, {"x": x}
    return "reshape_all", {"shape": shape}, {"x": x}


def _axes_op(name: str, default: Any) -> Callable[[_Call], Bound]:
    def make(call: _Call) -> Bound:
        x = call.take("x", "input", "tensor")
        axis = call.ints("axis", "squeeze_dims", "dim")
        return name, {"axis": default if axis is None else axis}, {"x": x}

    return make


def _cast(call: _Call) -> Bound:
    x = call.take("x")
    found = call.number("dtype")
    name = found.get("config") if isinstance(found, Mapping) else found
    return "cast", {"type": str(name)}, {"x": x}


def _clip(call: _Call) -> Bound:
    x = call.take("t", "x")
    low, high = call.number("clip_value_min", "x_min", "min"), call.number("clip_value_max", "x_max", "max")
    return "clip", {"low": low, "high": high}, {"x": x}


def _split(call: _Call) -> Bound:
    x = call.take("value", "x")
    sizes = call.number("num_or_size_splits", "indices_or_sections")
    by_index = isinstance(sizes, list) and "indices_or_sections" in call.kwargs
    axis = int(call.number("axis", default=0))
    return "split", {"axis": axis, "sizes": {"at": sizes} if by_index else sizes}, {"x": x}


def _getitem(call: _Call) -> Bound:
    x = call.take("x", "tensor", "value")
    key = call.take("key", "slice_spec", "slice_spec")
    items = key if isinstance(key, list | tuple) else [key]
    return "slice", {"index": [_index(i) for i in items]}, {"x": x}


def _index(item: Any) -> Json:
    if isinstance(item, Mapping):
        inner = item.get("config", item)
        if item.get("class_name") == "__ellipsis__":
            return "..."
        if isinstance(inner, Mapping) and {"start", "stop"} <= set(inner):
            found = {k: plain(inner.get(k)) for k in ("start", "stop", "step")}
            if all(v is None or isinstance(v, int) for v in found.values()):
                return found
    if item is None or (isinstance(item, int) and not isinstance(item, bool)):
        return item
    if item == "..." or item is Ellipsis:
        return "..."
    raise UnknownOperationError("an index that is computed")


def _where(call: _Call) -> Bound:
    return "where", {}, {"condition": call.take("condition"), "x": call.take("x", "x1"), "y": call.take("y", "x2")}


def _matmul(call: _Call) -> Bound:
    pair = (call.take("a", "x1", "x"), call.take("b", "x2", "y"))
    if any(call.kwargs.get(k) for k in ("transpose_a", "transpose_b", "adjoint_a", "adjoint_b")):
        raise UnknownOperationError("matmul of a transposed operand")
    return "matmul", {}, {"x": pair}


def _einsum(call: _Call) -> Bound:
    equation = call.kwargs.get("equation", call.kwargs.get("subscripts"))
    if equation is None:
        equation = call.args.pop(0)
    operands = call.kwargs.get("operands", call.args)
    return "einsum", {"equation": str(equation).replace(" ", "")}, {"x": tuple(operands)}


def _gather(call: _Call) -> Bound:
    x, indices = call.take("params", "x"), call.take("indices")
    axis = call.number("axis", default=0)
    if axis is None:
        raise UnknownOperationError("take without an axis")
    return "gather", {"axis": int(axis)}, {"x": x, "indices": indices}


def _one_hot(call: _Call) -> Bound:
    x = call.take("indices", "x")
    return "one_hot", {"depth": int(call.number("depth", "num_classes"))}, {"x": x}


def _repeat(call: _Call) -> Bound:
    x = call.take("input", "x")
    times = call.number("repeats")
    axis = call.number("axis")
    return "repeat_axis", {"times": times, "axis": axis}, {"x": x}


def _tile(call: _Call) -> Bound:
    x = call.take("input", "x")
    return "tile", {"times": call.ints("multiples", "repeats") or []}, {"x": x}


def _pad(call: _Call) -> Bound:
    x = call.take("tensor", "x")
    pads = call.number("paddings", "pad_width")
    mode = str(call.number("mode", default="constant")).lower()
    if mode == "reflect":
        return "pad_all", {"pads": pads, "value": 0.0, "mode": "reflect"}, {"x": x}
    if mode != "constant":
        raise UnknownOperationError(f"padding in mode {mode}")
    return "pad_all", {"pads": pads, "value": float(call.number("constant_values", default=0) or 0)}, {"x": x}


def _cumsum(call: _Call) -> Bound:
    x = call.take("x")
    axis = call.number("axis", default=0)
    if axis is None or call.kwargs.get("exclusive") or call.kwargs.get("reverse"):
        raise UnknownOperationError("cumsum")
    return "cumulative_sum", {"axis": int(axis)}, {"x": x}


def _normalize(call: _Call) -> Bound:
    x = call.take("x")
    axis = call.ints("axis", "dim")
    if call.kwargs.get("order", 2) != 2 or axis is None:
        raise UnknownOperationError("normalize")
    return "l2_normalize", {"axis": axis, "epsilon": 1e-12}, {"x": x}


def _same(call: _Call) -> Bound:
    return "identity", {}, {"x": call.take("x", "input", "value")}


def _permuted(call: _Call) -> Bound:
    x = call.take("a", "x")
    return "transpose", {"order": call.ints("perm", "axes")}, {"x": x}


def _addition(call: _Call) -> Bound:
    return "add", {"broadcast": "numpy"}, {"x": tuple(call.take("inputs"))}


_SPECIAL: dict[str, Callable[[_Call], Bound]] = {
    "concat": _concat, "concatenate": _concat, "concat_v2": _concat, "stack": _stack, "pack": _stack,
    "reshape": _reshape, "transpose": _permuted, "expand_dims": _axes_op("expand_dims", None),
    "squeeze": _axes_op("squeeze", None), "cast": _cast, "clip": _clip, "clip_by_value": _clip, "split": _split,
    "get_item": _getitem, "getitem": _getitem, "slice_op": _getitem, "where": _where, "select_v2": _where,
    "matmul": _matmul, "batch_mat_mul_v2": _matmul, "batch_mat_mul": _matmul, "mat_mul": _matmul, "einsum": _einsum,
    "gather": _gather, "take": _gather, "one_hot": _one_hot, "repeat": _repeat, "tile": _tile,
    "flip": _axes_op("flip", None), "reverse": _axes_op("flip", None), "pad": _pad, "cumsum": _cumsum,
    "identity": _same, "convert_to_tensor": _same, "copy": _same,
    "hstack": _hstack, "average": _average, "moveaxis": _moved, "swapaxes": _swapped, "ravel": _ravel,
    "stop_gradient": _same, "l2_normalize": _normalize, "normalize": _normalize, "add_n": _addition,
}  # fmt: skip


# -- how Keras writes them ---------------------------------------------------------------------------------------------


def snake(name: str) -> str:
    """A class name in snake case, as Keras does it (keras/src/utils/naming.py)."""
    name = re.sub(r"\W+", "", name)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def operation(layer: Keras) -> Stored:
    """A Keras 3 Operation; what its config holds besides its name are arguments."""
    extra = {k: v for k, v in layer.config.items() if k != "name"}
    return _bindable(layer, snake(layer.class_name), lambda args, kwargs: (args, {**extra, **kwargs}))


@keras("TFOpLambda")
def _lambda(layer: Keras) -> Stored:
    name = snake(str(layer.get("function", default="")).rpartition(".")[2])
    return _bindable(layer, name, lambda args, kwargs: (args, kwargs))


@keras("SlicingOpLambda")
def _slicing(layer: Keras) -> Stored:
    return _bindable(layer, "getitem", lambda args, kwargs: (args, kwargs))


@keras("TensorFlowOpLayer")
def _node(layer: Keras) -> Stored:
    node = layer.get("node_def")
    if isinstance(node, str):
        try:
            node = json.loads(node)
        except ValueError:
            return unknown(layer)
    if not isinstance(node, Mapping):
        return unknown(layer)
    constants = {int(k): v for k, v in (layer.get("constants") or {}).items()}
    attr = node.get("attr") or {}

    def arrange(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Sequence[Any], Mapping[str, Any]]:
        flat = [a for group in args for a in (group if isinstance(group, list | tuple) else [group])]
        values = iter(flat)
        total = len(flat) + len(constants)
        placed = [constants[i] if i in constants else next(values) for i in range(total)]
        return _node_call(str(node.get("op")), placed, attr)

    name = {"StridedSlice": "getitem", "ConcatV2": "concat", "SelectV2": "where", "GatherV2": "gather", "PadV2": "pad"}
    op = str(node.get("op"))
    return _bindable(layer, name.get(op, snake(op)), arrange)


def _node_call(op: str, inputs: list[Any], attr: Mapping[str, Any]) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """A graph node's inputs and attributes, as the function of the same name takes them."""

    def number(key: str) -> int:
        return int((attr.get(key) or {}).get("i", 0))

    if op == "StridedSlice":
        return [inputs[0]], {"key": _strided_key(inputs, number)}
    if op in {"ConcatV2", "Concat"}:
        axis = inputs.pop(-1 if op == "ConcatV2" else 0)
        return [inputs], {"axis": axis}
    if op == "Pack":
        return [inputs], {"axis": number("axis")}
    keep = (attr.get("keep_dims") or {}).get("b")
    kwargs: dict[str, Any] = {} if keep is None else {"keepdims": keep}
    if op == "Squeeze" and "squeeze_dims" in attr:
        kwargs["axis"] = [int(i) for i in ((attr["squeeze_dims"].get("list") or {}).get("i") or [])] or None
    if op in {"BatchMatMulV2", "BatchMatMul", "MatMul"}:
        kwargs |= {k: (attr.get(k) or {}).get("b") for k in ("adj_x", "adj_y", "transpose_a", "transpose_b")}
        if kwargs.pop("adj_x", None) or kwargs.pop("adj_y", None):
            kwargs["transpose_a"] = True
    if op == "GatherV2":
        return inputs[:2], {"axis": inputs[2]}
    if op == "Einsum":
        return [inputs], {"equation": (attr.get("equation") or {}).get("s")}
    return inputs, kwargs


def _strided_key(inputs: list[Any], number: Callable[[str], int]) -> list[Json]:
    """A slice's begin, end and strides, with the masks that change what an entry means, as an index."""
    index: list[Json] = []
    for i, (a, b, s) in enumerate(zip(*(list(v) for v in inputs[1:4]), strict=True)):
        bit = 1 << i
        if number("ellipsis_mask") & bit:
            index.append("...")
        elif number("new_axis_mask") & bit:
            index.append(None)
        elif number("shrink_axis_mask") & bit:
            index.append(a)
        else:
            start, stop = (None if number("begin_mask") & bit else a), (None if number("end_mask") & bit else b)
            index.append({"start": start, "stop": stop, "step": s})
    return index


def _bindable(layer: Keras, name: str, arrange: Callable[..., tuple[Sequence[Any], Mapping[str, Any]]]) -> Stored:
    """What an operation is comes out only with the arguments of its call."""

    def bind(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Bound | None:
        try:
            placed, named_args = arrange(args, kwargs)
            return bound(name, placed, named_args, layer.era.major)
        except (UnknownOperationError, TypeError, ValueError, KeyError, IndexError, StopIteration, AttributeError):
            return None

    return Stored("unknown", unknown(layer).attributes, bind=bind, mask="pass" if name == "identity" else "stop")
