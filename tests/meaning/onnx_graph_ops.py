"""Random operators that turn, cut, join, compare and reduce values, and control flow."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper
from onnx_models import Builder, family

_CURVES: dict[str, tuple[int, dict[str, Any]]] = {
    "Relu": (9, {}), "Sigmoid": (9, {}), "Tanh": (9, {}), "Softplus": (9, {}), "Softsign": (9, {}), "Erf": (9, {}),
    "Sin": (9, {}), "Cos": (9, {}), "Atan": (9, {}), "Sinh": (9, {}), "Asinh": (9, {}), "Neg": (9, {}), "Abs": (9, {}),
    "Elu": (9, {"alpha": 0.7}), "Selu": (9, {"alpha": 1.5, "gamma": 1.1}), "LeakyRelu": (9, {"alpha": 0.2}),
    "ThresholdedRelu": (10, {"alpha": 0.4}), "HardSigmoid": (9, {"alpha": 0.3, "beta": 0.4}),
    "Celu": (12, {"alpha": 0.6}), "HardSwish": (14, {}), "Mish": (18, {}), "Gelu": (20, {"approximate": "tanh"}),
    "Shrink": (9, {"lambd": 0.3, "bias": 0.1}), "Identity": (9, {}), "Exp": (9, {}),
}  # fmt: skip


@family()
def _curve(b: Builder) -> None:
    name = b.one_of(*(n for n, (since, _) in _CURVES.items() if since <= b.opset))
    b.add(name, [b.x()], **(_CURVES[name][1] if b.flag() else {}))


@family()
def _domain_curve(b: Builder) -> None:
    """Curves that not all numbers are in the domain of."""
    x = b.add("Sigmoid", [b.x()])
    name = b.one_of("Log", "Sqrt", "Reciprocal", "Acos", "Asin", "Atanh", "Acosh", "Tan")
    b.add(name, [b.add("Add", [x, b.constant(np.float32(1))]) if name == "Acosh" else x])


@family()
def _gelu_by_hand(b: Builder) -> None:
    x = b.x()
    if b.flag():
        inner = b.add("Erf", [b.add("Div", [x, b.constant(np.float32(2**0.5))])])
        half = b.add("Mul", [x, b.add("Add", [inner, b.constant(np.float32(1))])])
        b.add("Mul", [half, b.constant(np.float32(0.5))])
        return
    cube = b.add("Mul", [b.add("Pow", [x, b.constant(np.float32(3))]), b.constant(np.float32(0.044715))])
    inner = b.add("Tanh", [b.add("Mul", [b.add("Add", [x, cube]), b.constant(np.float32((2 / np.pi) ** 0.5))])])
    b.add("Mul", [b.add("Mul", [x, b.constant(np.float32(0.5))]), b.add("Add", [inner, b.constant(np.float32(1))])])


@family()
def _prelu(b: Builder) -> None:
    x = b.x(range(1, 5))
    shape = b.of(x)
    channel = (shape[1], *(1,) * (len(shape) - 2)) if len(shape) > 1 else (1,)
    b.add("PRelu", [x, b.weight(*b.one_of(channel, shape[-1:], (1,), shape))])


@family()
def _softmax(b: Builder) -> None:
    x = b.x(range(1, 5))
    low = -len(b.of(x)) if b.opset >= 11 else 0
    what = b.one_of("Softmax", "LogSoftmax", "Hardmax")
    x = b.apart(*b.of(x)) if what == "Hardmax" else x
    said = b.flag() or len(b.of(x)) == 1  # the second axis, if it is not said, before opset 13
    b.add(what, [x], **({"axis": b.size(low, len(b.of(x)) - 1)} if said else {}))


@family()
def _clip(b: Builder) -> None:
    x = b.x()
    low, high = b.flag(), b.flag()
    if b.opset < 11:
        b.add("Clip", [x], **({"min": -0.5} if low else {}), **({"max": 0.7} if high else {}))
        return
    limits = [b.constant(np.float32(v)) if there else "" for there, v in ((low, -0.5), (high, 0.7))]
    b.add("Clip", [x, *limits])


def _partner(b: Builder, x: str) -> str:
    """A value, or stored numbers, that go with another one."""
    shape = b.of(x)

    def fits(s: tuple[int, ...]) -> bool:
        return all(m == n or 1 in (m, n) for m, n in zip(s[::-1], shape[::-1], strict=False))

    found = [n for n in b.pool if n != x and b.values[n].dtype == np.float32 and fits(b.of(n))]
    if (choice := b.one_of(*found, None)) is not None:
        return str(choice)
    own = shape[b.size(0, len(shape)) :] if shape else ()
    own = tuple(n if b.flag() else 1 for n in own)
    return b.weight(*own, scale=1.0) if b.flag() else b.input(b.noise(*own))


@family()
def _arithmetic(b: Builder) -> None:
    x = b.x()
    y, what = _partner(b, x), b.one_of("Add", "Sub", "Mul", "Div", "Pow")
    if what == "Pow":
        x = b.add("Add", [b.add("Sigmoid", [x]), b.constant(np.float32(0.5))])
    if what == "Div":
        y = b.add("Add", [b.add("Sigmoid", [y]), b.constant(np.float32(0.5))])
    b.add(what, [y, x] if what in {"Add", "Sub", "Mul"} and b.flag() else [x, y])


@family()
def _several(b: Builder) -> None:
    x = b.x()
    inputs = [x, *(_partner(b, x) for _ in range(b.size(0, 2)))]
    try:
        np.broadcast_shapes(*(b.of(i) for i in inputs))
    except ValueError:
        inputs = inputs[:2]
    b.add(b.one_of("Min", "Max", "Sum", "Mean"), inputs)


@family()
def _compare(b: Builder) -> None:
    x = b.apart(*b.shape(b.size(1, 3)))
    words = ["Greater", "Less"] + (["Equal"] if b.opset >= 11 else [])
    words += ["GreaterOrEqual", "LessOrEqual"] if b.opset >= 12 else []
    what = b.one_of(*words)
    one = b.add(what, [x, b.constant(np.float32(0.11))])
    two = b.add("Not", [b.add("Less", [x, b.constant(np.float32(-0.3))])])
    mask = b.add(b.one_of("And", "Or", "Xor"), [one, two])
    b.add("Where", [mask, _partner(b, x), x])
    b.add("Cast", [mask], to=b.one_of(TensorProto.FLOAT, TensorProto.INT64))


@family()
def _jumps(b: Builder) -> None:
    x = b.apart(*b.shape(b.size(1, 3)))
    words = ["Floor", "Ceil", "Sign", "IsNaN"] + (["IsInf"] if b.opset >= 10 else []) + (["Round"] if b.opset > 10 else [])
    what = b.one_of(*words, "cast", "mod" if b.opset >= 10 else "cast", "integers")
    if what == "cast":
        b.add("Cast", [b.add("Cast", [x], to=TensorProto.INT32)], to=TensorProto.FLOAT)
    elif what == "mod":
        b.add("Mod", [x, b.constant(np.float32(0.8))], fmod=1)
    elif what == "integers":
        i = b.input(np.random.default_rng(b.count).integers(-9, 9, b.shape(2)))
        j = b.constant(np.int64(b.one_of(-4, -3, 2, 5)))
        b.add(b.one_of("Div", "Mul", "Sub", *(["Mod"] if b.opset >= 10 else [])), [i, j])
    else:
        b.add(what, [x])


@family()
def _reduction(b: Builder) -> None:
    names = ["Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "LogSumExp", "SumSquare", "LogSum"]
    what = b.one_of(*names)
    x = b.x(range(1, 5))
    x = b.add("Exp", [x]) if what == "LogSum" else x
    rank = len(b.of(x))
    low = -rank if b.opset >= 11 else 0
    count = b.size(0, rank)
    axes = sorted({b.size(0, rank - 1) for _ in range(count)})
    axes = [a - rank if low and b.flag() else a for a in axes]
    settings: dict[str, Any] = {"keepdims": b.size(0, 1)}
    extra: list[str] = []
    if axes:
        extra, own = b.setting("axes", axes, 13 if what == "Sum" else 18)
        settings |= own
    elif b.opset >= (13 if what == "Sum" else 18) and b.flag():
        settings["noop_with_empty_axes"] = 1
    b.add(f"Reduce{what}", [x, *extra], **settings)


@family()
def _arg(b: Builder) -> None:
    x = b.apart(*b.shape(b.size(1, 4)))
    rank = len(b.of(x))
    settings = {"axis": b.size(-rank if b.opset >= 11 else 0, rank - 1), "keepdims": b.size(0, 1)}
    b.add(b.one_of("ArgMax", "ArgMin"), [x], **settings, **(b.maybe(select_last_index=1) if b.opset >= 12 else {}))


@family()
def _top_k(b: Builder) -> None:
    x = b.apart(*b.shape(b.size(1, 3)))
    axis = b.size(-len(b.of(x)), len(b.of(x)) - 1) if b.opset >= 11 else len(b.of(x)) - 1
    k = b.size(1, b.of(x)[axis])
    settings = b.maybe(largest=0) if b.opset >= 11 else {}
    if b.opset < 10:
        b.many("TopK", [x], 2, axis=axis, k=k)
    else:
        b.many("TopK", [x, b.ints(k)], 2, axis=axis, **settings)


@family()
def _slice(b: Builder) -> None:
    x = b.x(range(1, 5))
    axes = sorted({b.size(0, len(b.of(x)) - 1) for _ in range(b.size(1, 2))})
    starts = [b.size(0, b.of(x)[a] - 1) for a in axes]
    ends = [b.one_of(b.of(x)[a], s + 1, 2**31 - 1, -b.of(x)[a] + s + 1 or 2**40) for a, s in zip(axes, starts, strict=True)]
    if b.opset < 10:
        b.add("Slice", [x], axes=axes, starts=starts, ends=ends)
    elif b.flag():
        inputs = [b.ints(*(b.of(x)[a] - 1 - s for a, s in zip(axes, starts, strict=True))), b.ints(*(-(2**62) for _ in axes))]
        b.add("Slice", [x, *inputs, b.ints(*axes), b.ints(*(-b.size(1, 2) for _ in axes))])
    elif b.flag():
        b.add("Slice", [x, b.ints(*starts), b.ints(*ends), b.ints(*(a - len(b.of(x)) for a in axes))])
    else:
        b.add("Slice", [x, b.ints(*starts), b.ints(*ends), b.ints(*axes), b.ints(*(b.size(1, 2) for _ in axes))])


@family()
def _pad(b: Builder) -> None:
    x = b.x(range(1, 5))
    modes = ["constant", "reflect", "edge"] + (["wrap"] if b.opset >= 19 else [])
    mode = b.one_of(*modes)
    most = [min(2, n - 1) if mode in {"reflect", "wrap"} else 2 for n in b.of(x)]
    pads = [b.size(0, m) for m in most * 2]
    if mode in {"constant", "edge"} and b.flag():
        pads = [-1 if n > 2 and b.flag() else p for p, n in zip(pads, b.of(x) * 2, strict=True)]
    if b.opset < 11:
        b.add("Pad", [x], mode=mode, pads=pads, **b.maybe(value=0.5))
        return
    axes: list[str] = []
    if b.opset >= 18 and b.flag():
        axis = b.size(0, len(b.of(x)) - 1)
        pads, axes = [pads[axis], pads[axis + len(b.of(x))]], [b.ints(axis - len(b.of(x)))]
    fill = b.constant(np.float32(0.5)) if mode == "constant" and b.flag() else ""
    inputs = [x, b.ints(*pads), fill, *axes]
    b.add("Pad", inputs, mode=mode)


@family()
def _concat(b: Builder) -> None:
    x = b.x(range(1, 5))
    rank = len(b.of(x))
    axis = b.size(0, rank - 1)

    def fits(s: tuple[int, ...]) -> bool:
        return len(s) == rank and all(i == axis or m == n for i, (m, n) in enumerate(zip(s, b.of(x), strict=True)))

    same = [n for n in b.pool if b.values[n].dtype == np.float32 and fits(b.of(n))]
    others = [b.one_of(*same, x) for _ in range(b.size(0, 2))]
    if b.flag():
        others.append(b.weight(*b.of(x), scale=1.0))
    b.add("Concat", [x, *others], axis=axis - rank if b.opset >= 11 and b.flag() else axis)


@family()
def _split(b: Builder) -> None:
    x = b.x(range(1, 4), lambda s: max(s) > 1)
    axis = int(np.argmax(b.of(x)))
    n = b.of(x)[axis]
    first = b.size(1, n - 1)
    if b.opset >= 18 and b.flag():
        b.many("Split", [x], 2, axis=axis, num_outputs=2)
    elif n % 2 == 0 and b.opset < 18 and b.flag():
        b.many("Split", [x], 2, axis=axis)
    else:
        extra, settings = b.setting("split", [first, n - first], 13)
        b.many("Split", [x, *extra], 2, axis=axis, **settings)


@family()
def _turns(b: Builder) -> None:
    x = b.x(range(1, 5))
    rank, shape = len(b.of(x)), b.of(x)
    what = b.one_of("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand", "Tile")
    if what == "Transpose":
        b.add("Transpose", [x], **({"perm": b.order(rank)} if b.flag() else {}))
    elif what == "Reshape":
        whole = int(np.prod(shape))
        target = b.one_of([-1], [0, -1], [whole, 1], [-1, shape[-1]], [1, *shape], [0] * rank)
        b.add("Reshape", [x, b.ints(*target)])
    elif what == "Flatten":
        b.add("Flatten", [x], axis=b.size(-rank if b.opset >= 11 else 0, rank))
    elif what == "Unsqueeze":
        axes = b.one_of([0], [rank], [0, 2], *([[-1], [-2, 0]] if b.opset >= 11 else []))
        extra, settings = b.setting("axes", axes, 13)
        b.add("Unsqueeze", [x, *extra], **settings)
    elif what == "Squeeze":
        y = b.add("Reshape", [x, b.ints(1, *shape, 1)])
        extra, settings = b.setting("axes", b.one_of([0], [rank + 1], [0, rank + 1]), 13)
        b.add("Squeeze", [y, *extra], **settings)
    elif what == "Expand":
        b.add("Expand", [x, b.ints(*b.one_of((2, *shape), shape, (1,), tuple(3 if n == 1 else 1 for n in shape)))])
    else:
        b.add("Tile", [x, b.ints(*(b.size(1, 2) for _ in shape))])


@family()
def _depth_space(b: Builder) -> None:
    size = b.size(1, 3)
    if b.flag():
        x = b.input(b.noise(b.size(1, 2), size * size * b.size(1, 2), b.size(1, 3), b.size(1, 3)))
        b.add("DepthToSpace", [x], blocksize=size, **(b.maybe(mode="CRD") if b.opset >= 11 else {}))
    else:
        x = b.input(b.noise(b.size(1, 2), b.size(1, 2), size * b.size(1, 2), size * b.size(1, 2)))
        b.add("SpaceToDepth", [x], blocksize=size)


def _places(b: Builder, high: int, *shape: int) -> np.ndarray[Any, Any]:
    low = -high if b.opset >= 11 else 0
    return np.asarray(np.random.default_rng(b.count).integers(low, high, shape), np.int64)


@family()
def _gather(b: Builder) -> None:
    x = b.x(range(1, 4))
    rank = len(b.of(x))
    axis = b.size(-rank, rank - 1)
    n = b.of(x)[axis]
    way = b.one_of("Gather", *(["GatherElements", "GatherND"] if b.opset >= 12 else []))
    if way == "Gather":
        ids = _places(b, n, *b.shape(b.size(0, 2)))
        b.add("Gather", [x, b.constant(ids) if b.flag() else b.input(ids)], axis=axis)
    elif way == "GatherElements":
        shape = list(b.of(x))
        shape[axis] = b.size()
        b.add("GatherElements", [x, b.input(_places(b, n, *shape))], axis=axis)
    else:
        dims = b.size(0, 1) if rank > 1 else 0
        lead = (*b.of(x)[:dims], b.size())
        depth = b.size(1, rank - dims)
        ids = np.stack([_places(b, m, *lead) for m in b.of(x)[dims : dims + depth]], -1)
        b.add("GatherND", [x, b.input(ids)], batch_dims=dims or None)


@family(11)
def _scatter(b: Builder) -> None:
    x = b.x(range(1, 4))
    rank = len(b.of(x))
    words = (["add", "mul"] if b.opset >= 16 else []) + (["max", "min"] if b.opset >= 18 else [])
    settings = {} if not words or b.flag() else {"reduction": b.one_of(*words)}
    if b.flag():
        axis = b.size(-rank, rank - 1)
        n = b.of(x)[axis]
        count = b.size(1, n)
        order = np.random.default_rng(b.count).permutation(n)[:count]
        shape = list(b.of(x))
        shape[axis] = count
        ids = np.broadcast_to(order.reshape([-1 if i == axis % rank else 1 for i in range(rank)]), shape)
        b.add("ScatterElements", [x, b.input(np.ascontiguousarray(ids)), b.input(b.noise(*shape))], axis=axis, **settings)
    else:
        rows = np.random.default_rng(b.count).permutation(b.of(x)[0])[: b.size(1, b.of(x)[0])]
        b.add("ScatterND", [x, b.input(rows[:, None]), b.input(b.noise(len(rows), *b.of(x)[1:]))], **settings)


@family(11)
def _cumulated(b: Builder) -> None:
    x = b.x(range(1, 4))
    axis = b.constant(np.int64(b.size(-len(b.of(x)), len(b.of(x)) - 1)))
    b.add("CumSum", [x, axis], **b.maybe(exclusive=1, reverse=1))


@family()
def _sizes(b: Builder) -> None:
    """Shapes, and what is made of them when the model runs."""
    x = b.x(range(2, 4))
    shape = b.add("Shape", [x], **(b.maybe(start=-2, end=2) if b.opset >= 15 else {}))
    way = b.one_of("fill", "count", "reshape", "range" if b.opset >= 11 else "fill", "eye")
    if way == "fill":
        b.add("ConstantOfShape", [shape], value=helper.make_tensor("v", TensorProto.FLOAT, [1], [0.25]))
    elif way == "count":
        b.add("Size", [x])
    elif way == "eye":
        b.add("EyeLike", [b.x(2)], k=b.size(-1, 2))
    elif way == "range":
        n = b.add("Cast", [b.add("Size", [x])], to=TensorProto.INT64)
        b.add("Range", [b.constant(np.int64(0)), n, b.constant(np.int64(b.size(1, 3)))])
    else:
        first = b.add("Gather", [b.add("Shape", [x]), b.ints(0)])
        b.add("Reshape", [x, b.add("Concat", [first, b.ints(-1)], axis=0)])


@family()
def _selection(b: Builder) -> None:
    x = b.apart(*b.shape(b.size(2, 3)))
    way = b.one_of("Compress", "NonZero", "OneHot", "Unique" if b.opset >= 11 else "NonZero",
                   "Trilu" if b.opset >= 14 else "OneHot", "ReverseSequence" if b.opset >= 10 else "OneHot")  # fmt: skip
    if way == "Compress":
        axis = b.one_of(None, 0, len(b.of(x)) - 1)
        n = b.of(x)[axis] if axis is not None else int(np.prod(b.of(x)))
        b.add("Compress", [x, b.input(np.arange(n) % 2 == 0)], axis=axis)
    elif way == "NonZero":
        b.add("NonZero", [b.add("Relu", [x])])
    elif way == "Unique":
        i = b.input(np.random.default_rng(b.count).integers(0, 4, b.shape(2)).astype(np.float32))
        b.many("Unique", [i], 4, sorted=b.size(0, 1), axis=b.one_of(None, 0, 1))
    elif way == "Trilu":
        b.add("Trilu", [x, *([b.constant(np.int64(b.size(-2, 2)))] if b.flag() else [])], upper=b.size(0, 1))
    elif way == "ReverseSequence":
        time = b.size(0, 1)
        lengths = np.asarray([b.size(1, b.of(x)[time]) for _ in range(b.of(x)[1 - time])])
        b.add("ReverseSequence", [x, b.input(lengths)], time_axis=time, batch_axis=1 - time)
    else:
        ids = _places(b, 4, *b.shape(b.size(1, 2)))
        depth, pair = b.constant(np.int64(4)), b.constant(np.asarray([-1.0, 2.0], np.float32))
        b.add("OneHot", [b.input(ids), depth, pair], axis=b.one_of(-1, 0, 1))


@family(10)
def _resize(b: Builder) -> None:
    x = b.x(4, lambda s: max(s[2:]) > 1)
    shape = b.of(x)
    scales = np.asarray([1, 1, b.one_of(0.5, 1.5, 2.0, 3.0), b.one_of(0.6, 1.0, 2.0)], np.float32)
    scales[2:] = np.maximum(scales[2:], 1.0 / np.asarray(shape[2:], np.float32) + np.float32(0.01))
    mode = b.one_of("nearest", "linear", *(["cubic"] if b.opset >= 11 else []))
    if b.opset < 11:
        b.add("Resize", [x, b.constant(np.maximum(scales, 1))], mode=mode)
        return
    settings: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": b.one_of(
        "half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")}  # fmt: skip
    if mode == "nearest":
        settings["nearest_mode"] = b.one_of("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
    if mode == "cubic":
        settings |= b.maybe(cubic_coeff_a=-0.5, exclude_outside=1)
    if b.opset >= 18 and mode != "nearest":
        settings |= b.maybe(antialias=1)
    none = b.constant(np.zeros(0, np.float32), plain=True) if b.opset < 13 else ""
    if b.flag():
        sizes = [*shape[:2], b.size(1, 6), b.size(1, 6)]
        b.add("Resize", [x, none, none, b.ints(*sizes)], **settings)
    else:
        b.add("Resize", [x, none, b.constant(scales)], **settings)


@family(12)
def _einsum(b: Builder) -> None:
    x = b.x(3)
    n, m, k = b.of(x)
    way = b.one_of("nmk,kp->nmp", "nmk,nkp->nmp", "nmk->kmn", "nmk,nmk->n", "...k,kp->...p", "nmk,pk", "nmk->")
    other = {"nmk,kp->nmp": (k, 3), "nmk,nkp->nmp": (n, k, 2), "nmk,nmk->n": (n, m, k), "...k,kp->...p": (k, 2),
             "nmk,pk": (3, k)}.get(way)  # fmt: skip
    b.add("Einsum", [x, *([b.weight(*other)] if other else [])], equation=way)


@family()
def _dropout(b: Builder) -> None:
    b.add("Dropout", [b.x()], **({"ratio": 0.3} if b.opset < 12 else {}))


def _port(name: str, value: Any, shape: bool = True) -> Any:
    return helper.make_tensor_value_info(
        name, helper.np_dtype_to_tensor_dtype(np.asarray(value).dtype), np.shape(value) if shape else None
    )


@family()
def _if(b: Builder) -> None:
    x = b.x(range(1, 4))
    w, shape = b.weight(b.of(x)[-1], scale=1.0), b.of(x)
    branches = {}
    for label, op in (("then_branch", "Mul"), ("else_branch", "Sub")):
        out = b.name("inner")
        port = helper.make_tensor_value_info(out, TensorProto.FLOAT, shape)
        branches[label] = helper.make_graph([helper.make_node(op, [x, w], [out])], label, [], [port])
    b.add("If", [b.input(np.asarray(b.flag()))], **branches)


@family()
def _loop(b: Builder) -> None:
    """A body that carries a value, collects another one, and stops by itself or by the count."""
    x = b.x(range(1, 3))
    w, limit = b.weight(b.of(x)[-1], scale=0.5), b.constant(np.int64(2))
    i, going, state, sum_, more, same = (b.name("inner") for _ in range(6))
    nodes = [
        helper.make_node("Mul", [state, w], [f"{sum_}_p"]),
        helper.make_node("Add", [f"{sum_}_p", x], [sum_]),
        helper.make_node("Less", [i, limit], [more]),
        helper.make_node("Tanh", [sum_], [same]),
    ]
    value = b.values[x]
    inputs = [_port(i, np.int64(0)), _port(going, np.bool_(1)), _port(state, value)]
    outputs = [_port(more, np.bool_(1)), _port(sum_, value), _port(same, value)]
    body = helper.make_graph(nodes, "body", inputs, outputs)
    times = b.constant(np.int64(b.size(1, 5))) if b.flag() else ""
    b.many("Loop", [times, b.constant(np.bool_(1), plain=True) if b.flag() or not times else "", x], 2, body=body)


@family()
def _scan(b: Builder) -> None:
    x = b.x(range(2, 4))
    rank = len(b.of(x))
    axis = b.size(0, rank - 1)
    part = np.take(b.values[x], 0, axis)
    w = b.weight(part.shape[-1], scale=0.5)
    state, slice_, new, out = (b.name("inner") for _ in range(4))
    nodes = [
        helper.make_node("Mul", [state, w], [f"{new}_p"]),
        helper.make_node("Add", [f"{new}_p", slice_], [new]),
        helper.make_node("Sigmoid", [new], [out]),
    ]
    body = helper.make_graph(nodes, "body", [_port(state, part), _port(slice_, part)], [_port(new, part), _port(out, part)])
    settings: dict[str, Any] = b.maybe(scan_input_directions=[1], scan_output_directions=[1])
    settings |= b.maybe(scan_output_axes=[b.size(0, rank - 1)])
    b.many("Scan", [b.constant(np.zeros_like(part), plain=True) if b.flag() else b.input(b.noise(*part.shape)), x], 2,
           body=body, num_scan_inputs=1, scan_input_axes=[axis], **settings)  # fmt: skip
