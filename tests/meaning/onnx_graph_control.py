"""Random control flow."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper
from onnx_models import Builder, family


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
    body = helper.make_graph(
        nodes, "body", [_port(state, part), _port(slice_, part)], [_port(new, part), _port(out, part)]
    )
    settings: dict[str, Any] = b.maybe(scan_input_directions=[1], scan_output_directions=[1])
    settings |= b.maybe(scan_output_axes=[b.size(0, rank - 1)])
    b.many("Scan", [b.constant(np.zeros_like(part), plain=True) if b.flag() else b.input(b.noise(*part.shape)), x], 2,
           body=body, num_scan_inputs=1, scan_input_axes=[axis], **settings)  # fmt: skip
