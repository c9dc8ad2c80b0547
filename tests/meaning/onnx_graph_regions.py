"""Random attention, pooling and sampling."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import assume
from onnx_graph_layers import image, window
from onnx_models import Builder, family


@family()
def _attention_by_hand(b: Builder) -> None:
    """The products, turns and the softmax of attention, with or without a mask."""
    heads, size = b.size(1, 2), b.size(1, 3)
    x = b.x(3)
    batch, _, width = b.of(x)
    other = b.x(3, first=batch) if b.flag() else x
    shape = b.ints(0, 0, heads, size)
    parts = []
    for source, perm in ((x, [0, 2, 1, 3]), (other, [0, 2, 3, 1]), (other, [0, 2, 1, 3])):
        y = b.add("MatMul", [source, b.weight(b.of(source)[-1], heads * size)])
        y = b.add("Add", [b.weight(heads * size), y]) if b.flag() else y
        parts.append(b.add("Transpose", [b.add("Reshape", [y, shape])], perm=perm))
    scores = b.add("MatMul", parts[:2])
    scores = b.add(b.one_of("Div", "Mul"), [scores, b.constant(np.float32(size**0.5))])
    if b.flag():
        hidden = b.input(np.where(b.noise(batch, 1, 1, b.of(other)[1]) > 0, 0, -10000.0).astype(np.float32))
        scores = b.add("Add", [scores, hidden])
    y = b.add("MatMul", [b.add("Softmax", [scores], axis=3), parts[2]])
    y = b.add("Reshape", [b.add("Transpose", [y], perm=[0, 2, 1, 3]), b.ints(0, 0, heads * size)])
    b.add("MatMul", [y, b.weight(heads * size, width)])


@family(23)
def _attention(b: Builder) -> None:
    """The operator; grouped queries, masks, soft caps, a past."""
    batch, heads, shared, size, length, keys = b.size(1, 2), b.size(1, 2), b.size(1, 2), b.size(), b.size(), b.size()
    deep = b.flag()

    def part(n: int, steps: int) -> str:
        return b.input(b.noise(batch, n, steps, size) if deep else b.noise(batch, steps, n * size))

    inputs = [part(heads * shared, length), part(heads, keys), part(heads, keys), ""]
    settings: dict[str, Any] = b.maybe(softcap=2.0, scale=0.4, is_causal=1)
    past = b.size() if deep and b.flag() else 0
    # with a past, a single query sees all keys in onnxruntime, and what was there before it in the operator's words
    assume(not past or "is_causal" not in settings or length > 1)
    way = b.one_of("none", "bool", "float")
    shape = b.one_of((length, keys + past), (batch, 1, length, keys + past))
    if way == "bool":
        mask = b.noise(*shape) > -0.5
        mask[..., 0] = True
        inputs[3] = b.input(mask)
    elif way == "float":
        inputs[3] = b.input(b.noise(*shape))
    if past:
        inputs += [b.input(b.noise(batch, heads, past, size)), b.input(b.noise(batch, heads, past, size))]
    if not deep:
        settings |= {"q_num_heads": heads * shared, "kv_num_heads": heads}
    b.many("Attention", inputs, 3 if past else 1, **settings)


@family(23)
def _rotary(b: Builder) -> None:
    batch, heads, length, half = b.size(1, 2), b.size(1, 2), b.size(), b.size(1, 3)
    deep = b.flag()
    size = 2 * half + (2 * b.size(0, 1))
    x = b.input(b.noise(batch, heads, length, size) if deep else b.noise(batch, length, heads * size))
    settings: dict[str, Any] = {"interleaved": b.size(0, 1), "rotary_embedding_dim": 2 * half if size > 2 * half else 0}
    if not deep:
        settings["num_heads"] = heads
    if b.flag():
        ids = np.random.default_rng(b.count).integers(0, 7, (batch, length))
        b.add(
            "RotaryEmbedding", [x, b.weight(7, half, scale=1.0), b.weight(7, half, scale=1.0), b.input(ids)], **settings
        )
    else:
        caches = [b.weight(batch, length, half, scale=1.0), b.weight(batch, length, half, scale=1.0)]
        b.add("RotaryEmbedding", [x, *caches], **settings)


@family()
def _pool(b: Builder) -> None:
    what, rank = b.one_of("MaxPool", "AveragePool", "LpPool"), b.one_of(1, 2, 2, 3)
    settings = window(b, rank)
    # onnxruntime refuses to leave out what a stride that is longer than the window passes over
    strides = zip(settings.get("strides", [1] * rank), settings["kernel_shape"], strict=True)
    assume(not settings.get("auto_pad", "").startswith("SAME") or all(s <= k for s, k in strides))
    since = {"MaxPool": 10, "AveragePool": 19, "LpPool": 18}[what]
    if b.opset < since:
        settings.pop("dilations", None)
    if b.flag() and b.opset >= {"MaxPool": 10, "AveragePool": 10, "LpPool": 18}[what]:
        settings["ceil_mode"] = 1
    if what == "AveragePool" and b.flag():
        settings["count_include_pad"] = 1
    if what == "LpPool":
        settings["p"] = b.one_of(1, 2, 3)
    if what == "MaxPool" and b.flag():
        settings.pop("auto_pad", None)
        x = b.apart(b.size(1, 2), b.size(1, 3), *(b.size(5, 7) for _ in range(rank)))
        b.many("MaxPool", [x], 2, **settings, **b.maybe(storage_order=1))
    else:
        b.add(what, [image(b, rank, settings)], **settings)


@family()
def _global_pool(b: Builder) -> None:
    what = b.one_of("GlobalMaxPool", "GlobalAveragePool", *(["GlobalLpPool"] if b.opset < 22 else []))
    b.add(what, [b.x(range(3, 5))], **({"p": b.one_of(1, 2)} if what == "GlobalLpPool" else {}))


@family()
def _unpool(b: Builder) -> None:
    x = b.apart(1, b.size(1, 2), 4, 6)
    y, where = b.many("MaxPool", [x], 2, kernel_shape=[2, 2], strides=[2, 2])
    b.add("MaxUnpool", [y, where], kernel_shape=[2, 2], strides=[2, 2])


@family(10)
def _regions(b: Builder) -> None:
    x = b.input(b.noise(2, b.size(1, 3), 6, 7))
    boxes = np.asarray([[0, 0.5, 4, 3.5], [1, 1, 5, 5], [2.5, 0, 3, 6]], np.float32)
    settings: dict[str, Any] = {"output_height": b.size(1, 3), "output_width": b.size(1, 3),
                                "sampling_ratio": b.size(0, 2), "spatial_scale": b.one_of(1.0, 0.5),
                                "mode": b.one_of("avg", "max")}  # fmt: skip
    if b.opset >= 16:
        settings["coordinate_transformation_mode"] = b.one_of("half_pixel", "output_half_pixel")
    assume(b.opset < 22)  # onnxruntime has none
    b.add("RoiAlign", [x, b.input(boxes), b.input(np.asarray([0, 1, 1]))], **settings)


@family(10)
def _non_max_suppression(b: Builder) -> None:
    rng = np.random.default_rng(b.count)
    n = b.size(2, 5)
    corner = rng.random((1, n, 2)) * 3
    boxes = np.concatenate([corner, corner + 0.5 + rng.random((1, n, 2))], -1).astype(np.float32)
    scores = rng.permutation(2 * n).reshape(1, 2, n).astype(np.float32) / (2 * n)
    inputs = [b.input(boxes), b.input(scores), b.ints(b.size(1, 3)), b.constant(np.asarray([0.3], np.float32))]
    if b.flag():
        inputs.append(b.constant(np.asarray([0.21], np.float32)))
    b.add("NonMaxSuppression", inputs, center_point_box=b.size(0, 1))


@family(16)
def _grid_sample(b: Builder) -> None:
    x = b.input(b.noise(b.size(1, 2), b.size(1, 3), b.size(2, 5), b.size(2, 5)))
    grid = b.input(b.noise(b.of(x)[0], b.size(), b.size(), 2, scale=0.7))
    words = ("bilinear", "bicubic") if b.opset < 20 else ("linear", "cubic")
    b.add("GridSample", [x, grid], mode=b.one_of(*words, "nearest"), align_corners=b.size(0, 1),
          padding_mode=b.one_of("zeros", "border", "reflection"))  # fmt: skip
