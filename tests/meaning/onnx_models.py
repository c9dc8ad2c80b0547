"""Random ONNX graphs: a pool of values, each with its numbers, that grows by operators.

What an operator gives is asked of onnxruntime as it is added, so that the next one knows the shapes, and so that
numbers which are too large to go on with are left as outputs. The families of operators stand in `onnx_graph_*.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from onnx_files import Array, runtime

# onnxruntime 1.23, the last one for Python 3.10, has not all of opset 23
OPSETS = range(9, 24 if tuple(map(int, version("onnxruntime").split(".")[:2])) > (1, 23) else 23)
_SCALAR = {"f": "value_float", "i": "value_int"}


@dataclass
class Builder:
    """A graph that grows; `values` are the numbers of all its values, `inputs` and `stored` those of the file."""

    draw: Callable[[Any], Any]
    opset: int
    inputs: dict[str, Array] = field(default_factory=dict)
    stored: dict[str, onnx.TensorProto] = field(default_factory=dict)
    weights: dict[str, Array] = field(default_factory=dict)  # by the name under which the file stores them
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    values: dict[str, Array] = field(default_factory=dict)
    rounded: set[str] = field(default_factory=set)  # stored numbers that could as well be one rounding off
    made: set[str] = field(default_factory=set)  # what operators gave
    pool: list[str] = field(default_factory=list)  # what operators gave and later ones may read
    count: int = 0

    # -- choices --

    def one_of(self, *options: Any) -> Any:
        """One of these."""
        return options[0] if len(options) == 1 else self.draw(st.sampled_from(options))

    def flag(self) -> bool:
        """Yes or no."""
        return bool(self.draw(st.booleans()))

    def size(self, low: int = 1, high: int = 4) -> int:
        """A whole number from low to high."""
        return int(self.draw(st.integers(low, high)))

    def maybe(self, **settings: Any) -> dict[str, Any]:
        """Some of these attributes."""
        return {k: v for k, v in settings.items() if self.flag()}

    def order(self, count: int) -> list[int]:
        """The numbers below `count` in some order."""
        return list(self.draw(st.permutations(range(count))))

    def shape(self, rank: int) -> tuple[int, ...]:
        """A shape of so many axes."""
        return tuple(self.size() for _ in range(rank))

    # -- values --

    def name(self, word: str) -> str:
        """A new name."""
        self.count += 1
        return f"{word}{self.count}"

    def noise(self, *shape: int, scale: float = 1.0) -> Array:
        """Numbers of a normal distribution, others for each value."""
        return (np.random.default_rng(self.count).normal(size=shape) * scale).astype(np.float32)

    def of(self, name: str) -> tuple[int, ...]:
        """A value's shape."""
        return tuple(self.values[name].shape)

    def input(self, value: Array) -> str:
        """An input of the model."""
        name = self.name("x")
        self.inputs[name] = self.values[name] = np.asarray(value)
        return name

    def x(
        self,
        rank: int | Sequence[int] | None = None,
        fits: Callable[[tuple[int, ...]], bool] | None = None,
        first: int | None = None,
    ) -> str:
        """A value of the pool with so many axes, or a new input; `first` is the length of its first axis."""
        ranks = [rank] if isinstance(rank, int) else list(rank or range(1, 5))
        found = [n for n in self.pool if self._fits(n, ranks, fits) and first in (None, self.of(n)[0])]
        choice = self.one_of(*found, None)
        if choice is not None:
            return str(choice)
        shape = self.shape(self.one_of(*ranks))
        shape = shape if first is None else (first, *shape[1:])
        return self.input(self.noise(*(shape if fits is None or fits(shape) else (n + 2 for n in shape))))

    def _fits(self, name: str, ranks: Sequence[int], fits: Any) -> bool:
        value = self.values[name]
        return value.dtype == np.float32 and value.ndim in ranks and (fits is None or fits(value.shape))

    def apart(self, *shape: int) -> str:
        """An input whose numbers lie apart from each other, and from halves: what jumps there does not here."""
        count = int(np.prod(shape, dtype=int))
        steps = np.random.default_rng(self.count).permutation(count) - count // 2
        return self.input((steps * 0.37 + 0.11).astype(np.float32).reshape(shape))

    def weight(self, *shape: int, scale: float | None = None, positive: bool = False) -> str:
        """Stored numbers: of such a size that a sum of products keeps it."""
        size = scale if scale is not None else float(max(np.prod(shape[1:], dtype=float), 1.0)) ** -0.5
        value = self.noise(*shape, scale=size)
        value = np.abs(value) + np.float32(0.5) if positive else value
        name = self.constant(value)
        self.rounded |= {name, f"{name}_stored"}
        return name

    def constant(self, value: Any, plain: bool = False) -> str:
        """A stored array, in one of the ways to store one; `plain`: an initializer."""
        value = np.asarray(value)
        name = self.name("w")
        self.values[name] = value
        way = "raw" if plain else self.one_of("raw", "typed", "constant", "short", "identity")
        if way == "short" and (self.opset < 12 or value.ndim > 1 or value.dtype.name not in {"float32", "int64"}):
            way = "raw"
        if way == "short":
            word = _SCALAR[value.dtype.kind] + ("s" if value.ndim else "")
            self.nodes.append(helper.make_node("Constant", [], [name], name=name, **{word: value.tolist()}))
            self.weights[name] = value
            return name
        tensor = numpy_helper.from_array(value, name)
        if way == "typed":
            code = helper.np_dtype_to_tensor_dtype(value.dtype)
            tensor = helper.make_tensor(name, code, value.shape, value.reshape(-1).tolist())
        if way == "constant":
            self.nodes.append(helper.make_node("Constant", [], [name], name=name, value=tensor))
        elif way == "identity":
            tensor.name = f"{name}_stored"
            self.stored[tensor.name] = tensor
            self.nodes.append(helper.make_node("Identity", [tensor.name], [name], name=name))
        else:
            self.stored[name] = tensor
        self.weights[tensor.name] = value
        return name

    def ints(self, *numbers: int) -> str:
        """A list of whole numbers, stored."""
        return self.constant(np.asarray(numbers, np.int64))

    # -- operators --

    def add(self, op: str, inputs: Sequence[str], outputs: int = 1, domain: str = "", **attributes: Any) -> str:
        """Add an operator; gives its first output. An attribute that is None is left out."""
        return self.many(op, inputs, outputs, domain, **attributes)[0]

    def many(
        self, op: str, inputs: Sequence[str], outputs: int | Sequence[str] = 1, domain: str = "", **attributes: Any
    ) -> list[str]:
        """Add an operator; gives all its outputs."""
        names = [self.name("v") for _ in range(outputs)] if isinstance(outputs, int) else list(outputs)
        given = list(inputs)
        while given and not given[-1]:
            given.pop()
        settings = {k: v for k, v in attributes.items() if v is not None}
        node = helper.make_node(op, given, names, name=names[0], domain=domain, **settings)
        reads = dict.fromkeys([*(i for i in given if i), *captured(node)])
        single = self._model([node], {n: self.values[n] for n in reads if n in self.values}, [n for n in names if n])
        found = runtime(single, {n: self.values[n] for n in reads if n in self.values})
        self.nodes.append(node)
        held = {f"{node.name}.{a.name}": a.t for a in node.attribute if a.type == onnx.AttributeProto.TENSOR}
        self.weights |= {name: numpy_helper.to_array(t) for name, t in held.items()}
        for name, value in zip((n for n in names if n), map(np.asarray, found), strict=True):
            self.values[name] = value
            self.made.add(name)
            if tame(value):
                self.pool.append(name)
        return names

    def setting(self, name: str, numbers: Sequence[int], since: int) -> tuple[list[str], dict[str, Any]]:
        """A list of whole numbers that is an attribute before this opset and an input from then on."""
        if self.opset < since:
            return [], {name: list(numbers)}
        return [self.ints(*numbers)], {}

    def _model(
        self, nodes: Sequence[onnx.NodeProto], inputs: Mapping[str, Array], outputs: Sequence[str]
    ) -> onnx.ModelProto:
        ports = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
            for name, x in inputs.items()
        ]
        ends = [onnx.ValueInfoProto(name=name) for name in outputs]
        stored = list(self.stored.values()) if nodes is self.nodes else []
        graph = helper.make_graph(list(nodes), "g", ports, ends, stored)
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8 if self.opset < 19 else 10)

    def model(self) -> onnx.ModelProto:
        """The model; every value that nothing reads is an output, and so are some others."""
        read = {i for node in self.nodes for i in [*node.input, *captured(node)]}
        made = [o for node in self.nodes if node.op_type != "Constant" for o in node.output if o and o in self.made]
        outputs = [o for o in made if o not in read or self.flag()]
        proto = self._model(self.nodes, self.inputs, outputs)
        for port in proto.graph.output:
            code = helper.np_dtype_to_tensor_dtype(self.values[port.name].dtype)
            port.type.tensor_type.elem_type = code
        if self.flag():  # lengths that the file does not tell
            for port in proto.graph.input:
                for i, dim in enumerate(port.type.tensor_type.shape.dim):
                    if self.flag():
                        dim.Clear()
                        dim.dim_param = f"{port.name}_{i}"
        return proto


def captured(node: onnx.NodeProto) -> list[str]:
    """The values that an operator's bodies read from outside."""
    found: list[str] = []
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            own = {*(p.name for p in attribute.g.input), *(t.name for t in attribute.g.initializer)}
            for inner in attribute.g.node:
                found += [i for i in [*inner.input, *captured(inner)] if i and i not in own]
                own.update(inner.output)
            found += [p.name for p in attribute.g.output if p.name not in own]
    return found


def tame(value: Array) -> bool:
    """Whether later operators may read a value: numbers that are not many, not large, and not all nothing."""
    if value.dtype != np.float32 or value.ndim == 0 or not 0 < value.size <= 600:
        return False
    return bool(np.isfinite(value).all()) and 1e-2 < np.abs(value).max() < 20


Family = Callable[[Builder], None]
FAMILIES: dict[str, Family] = {}
SINCE: dict[str, int] = {}


def family(since: int = 9) -> Callable[[Family], Family]:
    """Sign in a family of operators that opsets from this one on have."""

    def sign(function: Family) -> Family:
        name = function.__name__.strip("_")
        assert name not in FAMILIES
        FAMILIES[name], SINCE[name] = function, since
        return function

    return sign
