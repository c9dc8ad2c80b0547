"""ONNX' losses, which models have that were exported for training.

Source: onnx/docs/Operators.md.
"""

from __future__ import annotations

from wexport.layers.onnx import Lowered, Node, onnx


@onnx("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss")
def _loss(node: Node) -> Lowered:
    ignored = node.get("ignore_index")
    attributes = {
        "ignored": None if ignored is None else int(ignored),
        "reduction": node.word("reduction", "mean", "sum", "none"),
    }
    args = {"x": node.need(0), "labels": node.need(1), "weights": node.operand(2)}
    if node.op.startswith("Negative"):
        return Lowered("likelihood_loss", attributes, args)
    return Lowered("cross_entropy", attributes, args, (), ("y", "logarithms"))
