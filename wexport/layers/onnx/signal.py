"""ONNX' operators on signals. The axis of DFT is an attribute in opset 17, and an input from 20 on.

Source: onnx/docs/Operators.md, Changelog.md.
"""

from __future__ import annotations

from wexport.layers.onnx import Lowered, Node, UnclearError, onnx
from wexport.layers.onnx.elementwise import named_type
from wexport.model import Json

_WINDOWS = {"HannWindow": "hann", "HammingWindow": "hamming", "BlackmanWindow": "blackman"}


@onnx(*_WINDOWS)
def _window(node: Node) -> Lowered:
    attributes = {"function": _WINDOWS[node.op], "periodic": bool(node.get("periodic", 1))}
    return Lowered(
        "window", {**attributes, "type": named_type(node, "output_datatype", "float32")}, {"size": node.need(0)}
    )


@onnx("DFT")
def _dft(node: Node) -> Lowered:
    attributes: dict[str, Json] = {
        k: bool(node.get(n, 0)) for k, n in (("inverse", "inverse"), ("one_sided", "onesided"))
    }
    args = {"x": node.need(0), "length": node.operand(1)}
    try:
        attributes["axis"] = node.integer("axis", 2, default=-2 if node.version >= 20 else 1)
        return Lowered("dft", attributes, args)
    except UnclearError:
        return Lowered("dft", attributes, {**args, "axis": node.need(2)})


@onnx("STFT")
def _stft(node: Node) -> Lowered:
    args = {"x": node.need(0), "step": node.need(1), "window": node.operand(2), "length": node.operand(3)}
    if args["window"] is None and args["length"] is None:
        raise UnclearError("STFT: nothing says how long its frames are")
    return Lowered("stft", {"one_sided": bool(node.get("onesided", 1))}, args)


@onnx("MelWeightMatrix")
def _mel(node: Node) -> Lowered:
    names = ("bands", "length", "rate", "low", "high")
    kind = named_type(node, "output_datatype", "float32")
    return Lowered("mel_weights", {"type": kind}, {name: node.need(i) for i, name in enumerate(names)})
