"""Random operators that turn, cut, join and pick values."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import assume
from onnx import TensorProto, helper
from onnx_models import Builder, family


@family()
def _slice(b: Builder) -> None:
    x = b.x(range(1, 5))
    axes = sorted({b.size(0, len(b.of(x)) - 1) for _ in range(b.size(1, 2))})
    starts = [b.size(0, b.of(x)[a] - 1) for a in axes]
    ends = [
        b.one_of(b.of(x)[a], s + 1, 2**31 - 1, -b.of(x)[a] + s + 1 or 2**40) for a, s in zip(axes, starts, strict=True)
    ]
    if b.opset < 10:
        b.add("Slice", [x], axes=axes, starts=starts, ends=ends)
    elif b.flag():
        inputs = [
            b.ints(*(b.of(x)[a] - 1 - s for a, s in zip(axes, starts, strict=True))),
            b.ints(*(-(2**62) for _ in axes)),
        ]
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
        b.add(
            "ScatterElements", [x, b.input(np.ascontiguousarray(ids)), b.input(b.noise(*shape))], axis=axis, **settings
        )
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
    later = {"ReverseSequence": 10, "Unique": 11, "Trilu": 14}
    way = b.one_of("Compress", "NonZero", "OneHot", *(n for n, since in later.items() if b.opset >= since))
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
        whole = bool((scales * np.asarray(shape) % 1 == 0).all())
        # onnxruntime cuts the length off before corners are aligned, the official cases do not
        assume(whole or settings["coordinate_transformation_mode"] != "align_corners")
        b.add("Resize", [x, none, b.constant(scales)], **settings)


@family(12)
def _einsum(b: Builder) -> None:
    x = b.x(3)
    n, m, k = b.of(x)
    way = b.one_of("nmk,kp->nmp", "nmk,nkp->nmp", "nmk->kmn", "nmk,nmk->n", "...k,kp->...p", "nmk,pk", "nmk->")
    other = {"nmk,kp->nmp": (k, 3), "nmk,nkp->nmp": (n, k, 2), "nmk,nmk->n": (n, m, k), "...k,kp->...p": (k, 2),
             "nmk,pk": (3, k)}.get(way)  # fmt: skip
    b.add("Einsum", [x, *([b.weight(*other)] if other else [])], equation=way)
