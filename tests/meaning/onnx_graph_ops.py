"""Random operators that bend, compare and reduce values."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto
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
    other = _partner(b, x)
    larger = np.broadcast_shapes(b.of(other), b.of(x)) != b.of(x)  # which onnxruntime's Where does not always take
    b.add("Where", [mask, x if larger else other, x])
    b.add("Cast", [mask], to=b.one_of(TensorProto.FLOAT, TensorProto.INT64))


@family()
def _jumps(b: Builder) -> None:
    x = b.apart(*b.shape(b.size(1, 3)))
    words = (
        ["Floor", "Ceil", "Sign", "IsNaN"] + (["IsInf"] if b.opset >= 10 else []) + (["Round"] if b.opset > 10 else [])
    )
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
