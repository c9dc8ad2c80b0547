"""ONNX' operators along axes: reductions, running totals, the largest elements, norms.

The axes of a reduction are an attribute up to opset 17 (ReduceSum: 12) and an input afterwards. Without axes all are
reduced; with `noop_with_empty_axes` none is, but what is done to single elements is done.
Source: onnx/docs/Operators.md, Changelog.md.
"""

from __future__ import annotations

from wexport.layers.onnx import Lowered, Node, UnclearError, onnx
from wexport.layers.onnx.shape import settled
from wexport.model import Json

_REDUCE = {
    "ReduceMean": "mean", "ReduceSum": "sum", "ReduceMax": "max", "ReduceMin": "min", "ReduceProd": "prod",
    "ReduceL1": "l1", "ReduceL2": "l2", "ReduceLogSum": "log_sum", "ReduceLogSumExp": "log_sum_exp",
    "ReduceSumSquare": "sum_square",
}  # fmt: skip


@onnx(*_REDUCE)
def _reduce(node: Node) -> Lowered:
    keep, nothing = bool(node.get("keepdims", 1)), bool(node.get("noop_with_empty_axes", 0))
    attributes: dict[str, Json] = {"function": _REDUCE[node.op], "keepdims": keep}
    try:
        axes = node.ints("axes", 1)
    except UnclearError:
        attributes["empty_is_none"] = nothing
        return Lowered("dynamic_reduce", attributes, {"x": node.need(0), "axes": node.need(1)})
    return Lowered("reduce", {**attributes, "axis": axes or ([] if nothing else None)}, {"x": node.need(0)})


@onnx("ArgMax", "ArgMin")
def _position(node: Node) -> Lowered:
    attributes: dict[str, Json] = {
        "function": node.op.lower(),
        "axis": [int(node.get("axis", 0))],
        "keepdims": bool(node.get("keepdims", 1)),
    }
    if node.get("select_last_index", 0):
        attributes["select_last"] = True
    return Lowered("reduce", attributes, {"x": node.need(0)})


@onnx("CumSum")
def _cumulated(node: Node) -> Lowered:
    attributes: dict[str, Json] = {"axis": node.integer("axis", 1)}
    attributes |= {k: True for k in ("exclusive", "reverse") if node.get(k, 0)}
    return Lowered("cumulative_sum", attributes, {"x": node.need(0)})


@onnx("CumProd")
def _product(node: Node) -> Lowered:
    flags = {k: bool(node.get(k, 0)) for k in ("exclusive", "reverse")}
    return Lowered("cumulative_product", {"axis": node.integer("axis", 1), **flags}, {"x": node.need(0)})


@onnx("TopK")
def _top_k(node: Node) -> Lowered:
    """`sorted` = 0 leaves the order open: the sorted one is as good as any."""
    attributes: dict[str, Json] = {"axis": int(node.get("axis", -1)), "largest": bool(node.get("largest", 1))}
    found = settled(node, "top_k", attributes, {"k": ("k", 1)}, single=True)
    return Lowered(found.kind, found.attributes, found.args, roles=("y", "indices"))


@onnx("LpNormalization")
def _lp(node: Node) -> Lowered:
    return Lowered("lp_normalize", {"axis": int(node.get("axis", -1)), "p": int(node.get("p", 2))}, {"x": node.need(0)})


@onnx("MeanVarianceNormalization")
def _mean_variance(node: Node) -> Lowered:
    axes = [int(i) for i in node.get("axes", [0, 2, 3])]
    return Lowered("mean_variance_norm", {"axes": axes, "epsilon": 1e-9}, {"x": node.need(0)})


@onnx("Inverse", domain="com.microsoft")
def _inverse(node: Node) -> Lowered:
    return Lowered("inverse", {}, {"x": node.need(0)})


@onnx("CDist", domain="com.microsoft")
def _distances(node: Node) -> Lowered:
    squared = node.word("metric", "sqeuclidean", "euclidean") == "sqeuclidean"
    return Lowered("distances", {"squared": squared}, {"x": node.need(0), "other": node.need(1)})


@onnx("Det")
def _determinant(node: Node) -> Lowered:
    return Lowered("determinant", {}, {"x": node.need(0)})
