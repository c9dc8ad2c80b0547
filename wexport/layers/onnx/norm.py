"""Normalizations as ONNX stores them.

    BatchNormalization      scale, B, mean, var "channel"
    LayerNormalization      Scale, B: the axes from `axis` on;  RMSNormalization, SimplifiedLayerNormalization  Scale
    InstanceNormalization   scale, B "channel"
    GroupNormalization      scale, bias "channel" (opset 21 on), or "group" (opset 18)

Source: onnx/docs/Operators.md and Changelog.md.
"""

from __future__ import annotations

from collections.abc import Sequence

from wexport.layers.onnx import Argument, Lowered, Node, Operand, Own, UnclearError, onnx
from wexport.layout import Rule
from wexport.model import Json


def _affine(
    pairs: Sequence[tuple[str, Operand | None]], words: Sequence[str]
) -> tuple[tuple[Own, ...], dict[str, Argument]]:
    """Scale, offset and the like: weights where they are stored, else arguments."""
    own: list[Own] = []
    args: dict[str, Argument] = {}
    for role, operand in pairs:
        if operand is None:
            continue
        if not operand.stored:
            args[role] = operand
            continue
        shape = operand.shape or ()
        lead = ["1"] * (len(shape) - len(words))
        if any(n != 1 for n in shape[: len(lead)]) or len(shape) < len(words):
            raise UnclearError(f"its {role} has the shape {list(shape)}, expected axes {' '.join(words)}")
        kept = " ".join(words)
        own.append(Own(operand, role, Rule.parse(f"{' '.join([*lead, *words])} -> {role}: {kept}")))
    return tuple(own), args


@onnx("BatchNormalization")
def _batch(node: Node) -> Lowered:
    trained = bool(node.get("training_mode", 0)) or (node.version < 7 and not node.get("is_test", 0))
    if node.version < 9 and not node.get("spatial", 1):
        raise UnclearError("BatchNormalization: statistics for each position (spatial = 0)")
    pairs = zip(("scale", "offset", "mean", "variance"), node.inputs[1:5], strict=True)
    own, args = _affine(list(pairs), ["channel"])
    attributes: dict[str, Json] = {"axis": [1], "epsilon": float(node.get("epsilon", 1e-5))}
    attributes["statistics"] = "batch" if trained else "stored"
    if trained:
        attributes["momentum"] = float(node.get("momentum", 0.9))
    return Lowered("batch_norm", attributes, {"x": node.need(0), **args}, own, ("y", "mean", "variance", "a", "b"))


@onnx("LayerNormalization")
def _layer(node: Node) -> Lowered:
    x, n = node.need(0), _normalized(node)
    own, args = _affine([("scale", node.operand(1)), ("offset", node.operand(2))], _words(n))
    attributes: dict[str, Json] = {"axis": list(range(-n, 0)), "epsilon": float(node.get("epsilon", 1e-5))}
    attributes["centered"] = True
    return Lowered("layer_norm", attributes, {"x": x, **args}, own, ("y", "mean", "inverse_deviation"))


MOST_AXES = 32  # that any array has


def _normalized(node: Node) -> int:
    """How many of the last axes are normalized together.

    Raises:
        UnclearError: the axes are counted from the front, and neither the input's rank nor the scale's is known.
    """
    axis, rank, scale = int(node.get("axis", -1)), node.need(0).rank, node.operand(1)
    n = -axis if axis < 0 else rank - axis
    if rank < 0 <= axis and scale is not None and scale.rank > 0:  # it has the axes that are normalized
        return scale.rank
    if not 1 <= n <= MOST_AXES or (axis >= 0 and rank < 0):
        raise UnclearError(f"{node.op} from axis {axis} on, of an input that has no such axis or an unknown rank")
    return n


def _words(n: int) -> list[str]:
    return ["channel"] if n == 1 else [f"axis_{i + 1}" for i in range(n)]


@onnx("RMSNormalization", "SimplifiedLayerNormalization")
@onnx("SimplifiedLayerNormalization", domain="com.microsoft")
def _rms(node: Node) -> Lowered:
    x, n = node.need(0), _normalized(node)
    own, args = _affine([("scale", node.operand(1))], _words(n))
    attributes = {"axis": list(range(-n, 0)), "epsilon": float(node.get("epsilon", 1e-5))}
    return Lowered("rms_norm", attributes, {"x": x, **args}, own)


@onnx("InstanceNormalization")
def _instance(node: Node) -> Lowered:
    own, args = _affine([("scale", node.operand(1)), ("offset", node.operand(2))], ["channel"])
    attributes = {"axis": 1, "epsilon": float(node.get("epsilon", 1e-5))}
    return Lowered("instance_norm", attributes, {"x": node.need(0), **args}, own)


@onnx("GroupNormalization")
def _group(node: Node) -> Lowered:
    word = "channel" if node.version >= 21 else "group"
    own, args = _affine([("scale", node.operand(1)), ("offset", node.operand(2))], [word])
    attributes: dict[str, Json] = {"axis": 1, "groups": int(node.get("num_groups", 1))}
    attributes["epsilon"] = float(node.get("epsilon", 1e-5))
    if word == "group":
        attributes["affine"] = "group"
    return Lowered("group_norm", attributes, {"x": node.need(0), **args}, own)
