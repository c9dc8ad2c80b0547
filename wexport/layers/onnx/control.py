"""Control flow as ONNX has it: If, Loop, Scan.

A body is a graph of its own: it sees the values outside, and takes and gives values in a fixed order. The layers in it
are layers of the model; a body that runs many times is listed once.

The reader spreads out sparse tensors by an operator of its own (domain `wexport`).
Source: onnx/docs/Operators.md, If-25, Loop-25, Scan-25, SequenceMap-17; Changelog.md, Scan-8.
"""

from __future__ import annotations

from wexport.layers.onnx import Argument, Lowered, Node, UnclearError, onnx
from wexport.model import Json


def _roles(n: int) -> tuple[str, ...]:
    return ("y", *(f"y_{i}" for i in range(1, n)))


@onnx("If")
def _if(node: Node) -> Lowered:
    return Lowered("if", {}, {"condition": node.need(0)}, (), _roles(len(node.outputs)))


@onnx("Loop")
def _loop(node: Node) -> Lowered:
    args = {"times": node.operand(0), "condition": node.operand(1), "state": tuple(node.inputs[2:])}
    carried = len(node.inputs) - 2
    inputs, outputs = node.bodies.get("body", ((), ()))
    if len(inputs) != len(node.inputs) or len(outputs) != 1 + len(node.outputs) or carried > len(node.outputs):
        raise UnclearError(f"Loop: its body takes {len(inputs)} values and gives {len(outputs)}, which do not fit it")
    return Lowered("loop", {"carried": carried}, args, (), _roles(len(node.outputs)))


@onnx("Scan")
def _scan(node: Node) -> Lowered:
    if node.version < 9:
        return _batched_scan(node)
    scanned = int(node.get("num_scan_inputs", 1))
    carried = len(node.inputs) - scanned
    if not 0 <= carried < len(node.inputs) or carried > len(node.outputs):
        raise UnclearError(f"Scan: goes over {scanned} of {len(node.inputs)} inputs")
    collected = len(node.outputs) - carried
    attributes = {
        "carried": carried,
        "input_axes": node.ints("scan_input_axes", default=[0] * scanned),
        "input_backwards": [bool(d) for d in node.ints("scan_input_directions", default=[0] * scanned) or []],
        "output_axes": node.ints("scan_output_axes", default=[0] * collected),
        "output_backwards": [bool(d) for d in node.ints("scan_output_directions", default=[0] * collected) or []],
    }
    args = {"state": tuple(node.inputs[:carried]), "x": tuple(node.inputs[carried:])}
    return Lowered("scan", attributes, args, (), _roles(len(node.outputs)))


def _batched_scan(node: Node) -> Lowered:
    """Opset 8: every value has a batch axis before the steps, and each sequence its own length."""
    scanned = int(node.get("num_scan_inputs", 1))
    carried = len(node.inputs) - 1 - scanned
    if not 0 <= carried <= len(node.outputs):
        raise UnclearError(f"Scan: goes over {scanned} of {len(node.inputs) - 1} inputs")
    collected = len(node.outputs) - carried
    backwards = node.ints("directions", default=[0] * scanned) or []
    attributes: dict[str, Json] = {
        "carried": carried, "input_axes": [0] * scanned, "input_backwards": [bool(d) for d in backwards],
        "output_axes": [0] * collected, "output_backwards": [False] * collected, "batched": True,
    }  # fmt: skip
    args: dict[str, Argument] = {"lengths": node.operand(0), "state": tuple(node.inputs[1 : 1 + carried])}
    args["x"] = tuple(node.inputs[1 + carried :])
    return Lowered("scan", attributes, args, (), _roles(len(node.outputs)))


@onnx("SequenceMap")
def _map(node: Node) -> Lowered:
    args: dict[str, Argument] = {"sequence": node.need(0), "others": tuple(node.inputs[1:])}
    return Lowered("sequence_map", {}, args, (), _roles(len(node.outputs)))


@onnx("Spread", domain="wexport")
def _spread(node: Node) -> Lowered:
    return Lowered("spread", {"shape": node.ints("shape")}, {"values": node.need(0), "indices": node.need(1)})
