"""A small BERT as PyTorch's two exporters write it down: embeddings of words, positions and token types, layers of
attention under a mask, a pooler.

`legacy` is the graph that tracing gives (opset 14): norms and Gelu taken apart, shapes worked out when the model runs,
kernels turned and named by numbers. `dynamo` is that of `torch.export` (opset 20): whole operators, the scopes in the
nodes' metadata, kernels turned and called `val_N`, the mask as a condition for Where.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx_files import Array, f

WIDTH, HEADS, INNER, WORDS, PLACES, LAYERS = 12, 3, 20, 29, 16, 2
SIZE = WIDTH // HEADS
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


class Writer:
    """Collects nodes and weights; the parts that both exporters write alike."""

    legacy = True

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, Array] = {}
        self.count = 0

    def op(self, scope: str, op: str, inputs: Sequence[str], outputs: int = 1, **attributes: Any) -> str:
        """A node in a scope, as `encoder.layer.0.output.dense`; gives its first output."""
        self.count += 1
        name = f"/{scope.replace('.', '/').replace('/layer/', '/layer.')}/{op}" if self.legacy else f"node_{self.count}"
        out = f"{name}_output_0_{self.count}" if self.legacy else f"{op.lower()}_{self.count}"
        names = [out, *(f"{out}_{i}" for i in range(1, outputs))]
        node = helper.make_node(op, list(inputs), names, name=f"{name}_{self.count}", **attributes)
        if not self.legacy:
            node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=repr(["", scope, f"{op.lower()}"]))
        self.nodes.append(node)
        return out

    def constant(self, scope: str, value: Any) -> str:
        """A Constant node, or an initializer `val_N`."""
        value = np.asarray(value)
        if self.legacy:
            return self.op(scope, "Constant", [], value=numpy_helper.from_array(value))
        self.count += 1
        return self.weight(f"val_{self.count}", value)

    def weight(self, name: str, value: Array) -> str:
        self.weights[name] = value
        return name

    def linear(self, scope: str, x: str, n: int, m: int) -> str:
        """A dense layer on three axes: its kernel is stored turned, under a name that says nothing."""
        self.count += 1
        name = f"onnx::MatMul_{self.count}" if self.legacy else f"val_{self.count}"
        kernel = self.weight(name, f(n, m, seed=self.count, scale=n**-0.5))
        bias = self.weight(f"{scope}.bias", f(m, seed=self.count + 500, scale=0.3))
        y = self.op(scope, "MatMul", [x, kernel])
        return self.op(scope, "Add", [bias, y] if self.legacy else [y, bias])

    def norm(self, scope: str, x: str) -> str:
        scale = self.weight(f"{scope}.weight", 1 + f(WIDTH, seed=self.count, scale=0.2))
        offset = self.weight(f"{scope}.bias", f(WIDTH, seed=self.count + 500, scale=0.2))
        if not self.legacy:
            return self.op(scope, "LayerNormalization", [x, scale, offset], axis=-1, epsilon=1e-12)
        off = self.op(scope, "Sub", [x, self.op(scope, "ReduceMean", [x], axes=[-1])])
        square = self.op(scope, "Pow", [off, self.constant(scope, np.float32(2))])
        mean = self.op(scope, "ReduceMean", [square], axes=[-1])
        root = self.op(scope, "Sqrt", [self.op(scope, "Add", [mean, self.constant(scope, np.float32(1e-12))])])
        return self.op(scope, "Add", [self.op(scope, "Mul", [self.op(scope, "Div", [off, root]), scale]), offset])

    def gelu(self, scope: str, x: str) -> str:
        if not self.legacy:
            return self.op(scope, "Gelu", [x], approximate="none")
        erf = self.op(scope, "Erf", [self.op(scope, "Div", [x, self.constant(scope, np.float32(2**0.5))])])
        y = self.op(scope, "Mul", [x, self.op(scope, "Add", [erf, self.constant(scope, np.float32(1))])])
        return self.op(scope, "Mul", [y, self.constant(scope, np.float32(0.5))])

    def dimension(self, scope: str, x: str, axis: int) -> str:
        """A length, worked out when the model runs."""
        if self.legacy:
            shape = self.op(scope, "Shape", [x])
            found = self.op(scope, "Gather", [shape, self.constant(scope, np.int64(axis))], axis=0)
            return self.op(scope, "Unsqueeze", [found, self.constant(scope, np.asarray([0]))])
        return self.op(scope, "Shape", [x], start=axis, end=axis + 1)

    # -- the parts of the model --

    def embeddings(self) -> str:
        scope, found = "bert.embeddings", []
        length = self.dimension(scope, "input_ids", 1)
        known = self.weight(f"{scope}.position_ids", np.arange(PLACES)[None])
        bounds = [self.constant(scope, np.asarray([0])), length, self.constant(scope, np.asarray([1]))]
        place = self.op(scope, "Slice", [known, *bounds, self.constant(scope, np.asarray([1]))])
        tables = {"word": (WORDS, "input_ids"), "token_type": (2, "token_type_ids"), "position": (PLACES, place)}
        for i, (name, (rows, ids)) in enumerate(tables.items()):
            inner = f"{scope}.{name}_embeddings"
            found.append(self.op(inner, "Gather", [self.weight(f"{inner}.weight", f(rows, WIDTH, seed=90 + i)), ids]))
        x = self.op(scope, "Add", [self.op(scope, "Add", found[:2]), found[2]])
        return self.norm(f"{scope}.LayerNorm", x)

    def mask(self) -> str:
        """What is added to the scores, or (dynamo) which positions are seen."""
        scope = "bert"
        x = self.op(scope, "Unsqueeze", ["attention_mask", self.constant(scope, np.asarray([1]))])
        x = self.op(scope, "Unsqueeze", [x, self.constant(scope, np.asarray([2]))])
        if not self.legacy:
            lengths = [self.dimension(scope, "input_ids", i) for i in (0, 1)]
            one = self.constant(scope, np.asarray([1]))
            shape = self.op(scope, "Concat", [lengths[0], one, lengths[1], lengths[1]], axis=0)
            return self.op(scope, "Cast", [self.op(scope, "Expand", [x, shape])], to=TensorProto.BOOL)
        x = self.op(scope, "Cast", [x], to=TensorProto.FLOAT)
        x = self.op(scope, "Sub", [self.constant(scope, np.float32(1)), x])
        return self.op(scope, "Mul", [x, self.constant(scope, np.finfo(np.float32).min)])

    def heads(self, scope: str, x: str, perm: list[int]) -> str:
        """[batch, length, width] as [batch, head, length, size], or with the last two turned."""
        tail = self.constant(scope, np.asarray([HEADS])), self.constant(scope, np.asarray([SIZE]))
        lengths = [self.dimension(scope, x, i) for i in (0, 1)]
        shape = self.op(scope, "Concat", [*lengths, *tail], axis=0)
        return self.op(scope, "Transpose", [self.op(scope, "Reshape", [x, shape])], perm=perm)

    def attention(self, scope: str, x: str, mask: str) -> str:
        q, k, v = (self.linear(f"{scope}.self.{n}", x, WIDTH, WIDTH) for n in ("query", "key", "value"))
        own = f"{scope}.self"
        q, v = self.heads(own, q, [0, 2, 1, 3]), self.heads(own, v, [0, 2, 1, 3])
        k = self.heads(own, k, [0, 2, 3, 1])
        if self.legacy:
            scores = self.op(own, "Div", [self.op(own, "MatMul", [q, k]), self.constant(own, np.float32(SIZE**0.5))])
            scores = self.op(own, "Add", [scores, mask])
        else:
            root = self.constant(own, np.float32(SIZE**-0.25))
            scores = self.op(own, "MatMul", [self.op(own, "Mul", [q, root]), self.op(own, "Mul", [k, root])])
            zero, least = self.constant(own, np.float32(0)), self.constant(own, np.float32(-np.inf))
            scores = self.op(own, "Add", [scores, self.op(own, "Where", [mask, zero, least])])
        y = self.op(own, "MatMul", [self.op(own, "Softmax", [scores], axis=-1), v])
        y = self.op(own, "Transpose", [y], perm=[0, 2, 1, 3])
        shape = [*(self.dimension(own, y, i) for i in (0, 1)), self.constant(own, np.asarray([WIDTH]))]
        y = self.op(own, "Reshape", [y, self.op(own, "Concat", shape, axis=0)])
        y = self.linear(f"{scope}.output.dense", y, WIDTH, WIDTH)
        return self.norm(f"{scope}.output.LayerNorm", self.op(f"{scope}.output", "Add", [y, x]))

    def layer(self, scope: str, x: str, mask: str) -> str:
        x = self.attention(f"{scope}.attention", x, mask)
        y = self.gelu(f"{scope}.intermediate", self.linear(f"{scope}.intermediate.dense", x, WIDTH, INNER))
        y = self.linear(f"{scope}.output.dense", y, INNER, WIDTH)
        return self.norm(f"{scope}.output.LayerNorm", self.op(f"{scope}.output", "Add", [y, x]))

    def pooler(self, x: str) -> str:
        scope = "bert.pooler.dense"
        first = self.op("bert.pooler", "Gather", [x, self.constant("bert.pooler", np.int64(0))], axis=1)
        kernel = self.weight(f"{scope}.weight", f(WIDTH, WIDTH, seed=77, scale=WIDTH**-0.5))
        bias = self.weight(f"{scope}.bias", f(WIDTH, seed=78))
        y = self.op(scope, "Gemm", [first, kernel, bias], transB=1)
        return self.op("bert.pooler", "Tanh", [y])


class Dynamo(Writer):
    """`torch.onnx.export(dynamo=True)`."""

    legacy = False


def encoder(style: str) -> onnx.ModelProto:
    """The model; batch and length are free."""
    w = {"legacy": Writer, "dynamo": Dynamo}[style]()
    x, mask = w.embeddings(), w.mask()
    for i in range(LAYERS):
        x = w.layer(f"bert.encoder.layer.{i}", x, mask)
    names = {x: ["batch", "length", WIDTH], w.pooler(x): ["batch", WIDTH]}
    inputs = [helper.make_tensor_value_info(n, TensorProto.INT64, ["batch", "length"]) for n in INPUTS]
    outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in names.items()]
    stored = [numpy_helper.from_array(v, n) for n, v in w.weights.items()]
    graph = helper.make_graph(w.nodes, "main_graph", inputs, outputs, stored)
    opset = helper.make_opsetid("", 14 if w.legacy else 20)
    return helper.make_model(graph, opset_imports=[opset], ir_version=8, producer_name="pytorch")
