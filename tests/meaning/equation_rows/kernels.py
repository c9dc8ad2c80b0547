"""Layers with kernels: quantized and low-rank ones, einsum, windows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from equation_rows.row import LINEAR, TANH, Row, X, f


def _products_of_kernels() -> Iterator[Row]:
    parts = {
        f"{p}.{r}": (("in out", f(3, 4)) if r == "kernel" else ("out", f(4)))
        for p in ("query", "key")
        for r in ("kernel", "bias")
    }
    yield Row("dense", {"units": 8, "activation": LINEAR, "parts": ["query", "key"]}, parts, {"x": X}, note="parts")
    own = {"kernel": ("in out", f(3, 4)), "bias": ("out", f(4))}
    yield Row("dense", {"units": 4, "activation": TANH, "alpha": 0.5, "beta": 2.0}, own, {"x": X}, note="factors")
    low = {"lora_a": ("in rank", f(3, 2)), "lora_b": ("rank out", f(2, 4))}
    lora = {"lora": {"rank": 2, "alpha": 3.0}, "units": 4, "activation": LINEAR}
    yield Row("dense", lora, {**own, **low}, {"x": X}, note="lora")
    eight = {
        "kernel": ("in out", np.round(f(3, 4) * 40)),
        "kernel_scale": ("out", np.abs(f(4)) * 40),
        "bias": own["bias"],
    }
    how = {
        "dequantize": {"rule": "divide", "bits": 8},
        "quantize_input": {"rule": "absmax", "range": [-127, 127], "epsilon": 1e-7},
    }
    yield Row("dense", {**lora, **how}, {**eight, **low}, {"x": X}, note="int8-lora")
    groups = {
        "kernel": eight["kernel"],
        "kernel_scale": ("group out", np.abs(f(2, 4))),
        "kernel_zero_point": ("group out", np.round(f(2, 4))),
        "kernel_group": ("in", np.asarray([0.0, 1.0, 0.0])),
    }
    table = {"embedding": ("token dim", np.round(f(5, 3) * 9)), "embedding_scale": ("token", np.abs(f(5)) * 9)}
    table |= {
        "reverse_embedding": ("dim token", np.round(f(3, 5) * 9)),
        "reverse_embedding_scale": ("token", np.abs(f(5)) * 9),
    }
    ids = {"tokens": 5, "dim": 3, "mask_zero": True, "tied": False, "soft_cap": None}
    for reverse, x in ((True, X), (False, np.asarray([[1, 4], [0, 2]]))):
        b = {**ids, "dequantize": {"rule": "divide", "bits": 8}}
        yield Row("embedding", b, table, {"x": x, "reverse": reverse}, note=f"int8-{reverse}")
        b = {**ids, "dequantize": {"rule": "multiply", "bits": 4, "block": 2, "axis": "dim"}}
        blocks = {
            "embedding_scale": ("token group", np.abs(f(5, 2))),
            "embedding_group": ("dim", np.asarray([0.0, 0.0, 1.0])),
            "reverse_embedding_scale": ("group token", np.abs(f(2, 5))),
            "reverse_embedding_zero_point": ("group token", np.round(f(2, 5))),
        }
        yield Row("embedding", b, {**table, **blocks}, {"x": x, "reverse": reverse}, note=f"int4-{reverse}")
    multiply = {"dequantize": {"rule": "multiply", "bits": 4, "block": 2}, "units": 4, "activation": LINEAR}
    yield Row("dense", multiply, groups, {"x": X}, note="groups")
    yield Row("dense", multiply, {**groups, "input_scale": ("in", np.abs(f(3)) + 1)}, {"x": X}, note="awq")
    scales = {"input_scale": ("", np.asarray(0.02)), "kernel_scale": ("", np.asarray(0.01))}
    eighth = {"dequantize": {"rule": "round", "type": "float8_e4m3fn"}, "units": 4, "activation": LINEAR}
    yield Row("dense", eighth, {**own, **scales}, {"x": X}, note="float8")
    reads = [
        {"from": n, "axes": ["in"], "sizes": [k], "strides": [1], "start": s} for n, k, s in (("a", 1, 2), ("b", 2, 0))
    ]
    split = {"from.a": ("in out", f(1, 4)), "from.b": ("in out", f(2, 4)), "bias": own["bias"]}
    yield Row("dense", {**eighth, "reads": reads}, {**split, **scales}, {"x": X}, note="float8-split")
    for equation, axes, shape, bias in (
        ("abc,cd->abd", "in_c out_d", (3, 4), ("out_d", (4,))),
        ("...x,xy->...y", "in_x out_y", (3, 4), ("out_y", (4,))),
        ("ab...,bc->ac...", "in_b out_c", (5, 4), ("out_c", (4,))),
        ("abc,cde->abde", "in_c out_d out_e", (3, 2, 4), ("out_d out_e", (2, 4))),
        ("abc,cde->abde", "in_c out_d out_e", (3, 2, 4), ("out_d", (2,))),
        ("abc,bcd->abd", "each_b in_c out_d", (5, 3, 4), ("out_d", (4,))),
        ("abc,bcd->abd", "each_b in_c out_d", (5, 3, 4), ("each_b out_d", (5, 4))),
        ("abc,bcd->abd", "each_b in_c out_d", (5, 3, 4), ("each_b", (5,))),
        ("abc,bcd->ad", "in_b in_c out_d", (5, 3, 4), ("out_d", (4,))),
        ("abc,cd->adb", "in_c out_d", (3, 4), ("out_d out_b", (4, 5))),
    ):
        own = {"kernel": (axes, f(*shape)), "bias": (bias[0], f(*bias[1]))}
        yield Row(
            "einsum_dense",
            {"equation": equation, "output_shape": [], "activation": TANH},
            own,
            {"x": X},
            note=f"{equation}-{bias[0]}",
        )


def _windows() -> Iterator[Row]:
    common = {"filters": 4, "activation": LINEAR, "kernel_size": [3, 2], "strides": [2, 1], "dilation": [1, 2]}
    for padding in ("valid", "same", "same_lower", [[1, 0], [0, 2]]):
        for form in ("channels_last", "channels_first"):
            a = {**common, "padding": padding, "data_format": form, "groups": 2}
            x = f(2, 6, 7, 4) if form == "channels_last" else f(2, 4, 6, 7)
            note = f"{padding}-{form}"
            yield Row(
                "conv",
                a,
                {"kernel": ("height width in out", f(3, 2, 2, 4)), "bias": ("out", f(4))},
                {"x": x},
                note=note,
            )
            own = {"kernel": ("height width in multiplier", f(3, 2, 4, 3)), "bias": ("out", f(12))}
            yield Row("depthwise_conv", {**a, "multiplier": 3}, own, {"x": x}, note=note)
            own = {"depthwise": own["kernel"], "pointwise": ("in multiplier out", f(4, 3, 5)), "bias": ("out", f(5))}
            yield Row("separable_conv", {**a, "multiplier": 3}, own, {"x": x}, note=note)
            sizes = (([2, 2], None, [9, 12]), ([2, 2], [1, 0], [9, 12]))
            plain = (([2, 1], None, None), ([2, 3], [1, 0], None)) if padding != "same_lower" else ()
            for strides, more, size in (*plain, *sizes):
                b = {
                    **a,
                    "strides": strides,
                    "dilation": [1, 1],
                    "output_padding": more,
                    "output_size": size,
                    "groups": 1,
                }
                own = {"kernel": ("height width in out", f(3, 2, 4, 5)), "bias": ("out", f(5))}
                yield Row("conv_transpose", b, own, {"x": x}, note=f"{note}-{strides}-{more}-{size}")
    a = {
        **common,
        "kernel_size": [3],
        "strides": [1],
        "dilation": [2],
        "padding": "causal",
        "data_format": "channels_last",
        "groups": 1,
    }
    yield Row("conv", a, {"kernel": ("length in out", f(3, 4, 4))}, {"x": f(2, 6, 4)}, note="causal")
    low = {"lora_a": ("length in rank", f(3, 4, 2)), "lora_b": ("rank out", f(2, 4))}
    yield Row(
        "conv",
        {**a, "lora": {"rank": 2, "alpha": 3.0}},
        {"kernel": ("length in out", f(3, 4, 4)), **low},
        {"x": f(2, 6, 4)},
        note="lora",
    )
    c = {"strides": [2, 1], "padding": [1, 0, 1, 0], "dilation": [1, 2], "groups": 2, "offset_groups": 2}
    own = {"kernel": ("height width in out", f(2, 2, 2, 6)), "bias": ("out", f(6))}
    args = {"x": f(1, 4, 5, 6), "offset": f(1, 16, 3, 4), "mask": f(1, 8, 3, 4)}
    yield Row("deformable_conv", c, own, args)
    own = {"kernel": ("length channel", f(3, 4)), "bias": ("channel", f(4))}
    yield Row("causal_conv", {"activation": {"name": "silu"}}, own, {"x": f(2, 4, 5), "past_state": f(2, 4, 2)})


def rows() -> Iterator[Row]:
    yield from _products_of_kernels()
    yield from _windows()
