"""The graph in a normal form: local functions inlined, every value's name unique, the order of execution checked.

What a function or a body stores is one array however often it is called: `Graph.stored` maps the names of values,
of which each call has its own, to arrays, of which there is one.

Source: onnx/docs/IR.md (functions, subgraphs, name scopes).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto

from wexport.errors import SourceError
from wexport.layers import complete  # noqa: F401 - signs all operators in
from wexport.layers.onnx import ATTRIBUTES
from wexport.model import Array, LeftOut
from wexport.names import Names, unique
from wexport.readers.onnx.container import Container
from wexport.readers.onnx.ops import PROGRAM, Body, Graph, Held, Op, rename
from wexport.storage import Bytes

_DEEPEST = 40  # functions and bodies in each other
_MOST = 100_000  # operators in functions and bodies: functions that call each other twice grow without bounds
_TENSORS = {AttributeProto.TENSOR, AttributeProto.SPARSE_TENSOR}


def read_graph(container: Container) -> Graph:
    """The graph of a model file.

    Raises:
        SourceError: names clash, values are missing, the graph is cyclic, or functions call each other in a circle.
    """
    return _Reader(container).graph()


class _Reader:
    def __init__(self, container: Container) -> None:
        self.container, self.path = container, container.path
        self.model = container.proto
        self.versions = {o.domain or "": int(o.version) for o in self.model.opset_import}
        self.versions.setdefault("", self.versions.pop("ai.onnx", 1))
        self.functions = {(f.domain, f.name, _overload(f)): f for f in self.model.functions}
        self.taken = Names()
        self.count = 0
        self.sparse: list[Op] = []
        self.unread: set[str] = set()
        self.called: set[tuple[str, str, str]] = set()
        self.found = Graph([], [], [])

    def graph(self) -> Graph:
        proto = self.model.graph
        names = {i.name for i in proto.initializer}
        names |= {s.values.name for s in proto.sparse_initializer}
        self.found.inputs = [i for i in proto.input if i.name not in names]
        self.taken |= {i.name for i in self.found.inputs}
        self._initializers(proto, lambda name: name)
        self._metadata(proto)
        outer = {i.name: i.name for i in self.found.inputs} | {name: name for name in names}
        ops, scope = self._ops(proto.node, outer, self.versions, "", "", None)
        self.found.outputs = [self._seen(o.name, scope, "the model's outputs") for o in proto.output]
        self.found.ops = [*self.sparse, *ops]
        for function in self.model.functions:
            if (function.domain, function.name, _overload(function)) not in self.called:
                self._uncalled(function.node, f"{function.domain}.{function.name}/")
        self._unread_training()
        return self.found

    def _refuse(self, what: str) -> SourceError:
        return SourceError(f"{self.path}: {what}")

    def _uncalled(self, nodes: Iterable[onnx.NodeProto], keys: str) -> None:
        """What a function stores that nothing calls."""
        for node in nodes:
            for attribute in node.attribute:
                if attribute.type == AttributeProto.TENSOR:
                    key = unique(f"{keys}{node.output[0] if node.output else node.name}", self.found.arrays)
                    made = self.container.array(attribute.t, key)
                    self.found.left_out.append(LeftOut(made.key, made.shape, "nothing calls the function that has it"))
                for graph in [attribute.g] if attribute.type == AttributeProto.GRAPH else attribute.graphs:
                    self._uncalled(graph.node, keys)

    def _seen(self, name: str, scope: Mapping[str, str], who: str) -> str:
        if name not in scope:
            raise self._refuse(f"{who}: nothing gives the value {name!r}; the graph is damaged, export it again")
        return scope[name]

    # -- what is stored --

    def _initializers(self, graph: onnx.GraphProto, named: Callable[[str], str], keys: str = "") -> None:
        """Store them; `keys` stands before those of a function's, which are stored once for all calls."""
        seen: set[str] = set()
        for tensor in graph.initializer:
            if not tensor.name:
                raise self._refuse("an initializer has no name; nothing can read it, export the model again")
            if tensor.name in seen:
                raise self._refuse(f"two initializers are called {tensor.name!r}; export the model again")
            seen.add(tensor.name)
            self._store(tensor, value := named(tensor.name), f"{keys}{tensor.name}" if keys else value)
        for sparse in graph.sparse_initializer:
            name = sparse.values.name
            if not name or name in seen:
                raise self._refuse(f"a sparse initializer is called {name!r}, as another one is; export it again")
            seen.add(name)
            self._sparse(sparse, value := named(name), f"{keys}{name}" if keys else value)

    def _store(self, tensor: onnx.TensorProto, value: str, key: str) -> None:
        self.found.stored[value] = key
        if key in self.found.arrays:
            return
        made = self.container.array(tensor, key)
        if isinstance(made, LeftOut):
            if all(made.key != other.key for other in self.found.left_out):
                self.found.left_out.append(made)
            self.found.stored.pop(value)
            if tensor.data_type == onnx.TensorProto.STRING and len(tensor.string_data) == math.prod(made.shape):
                texts = [text.decode("utf-8", "replace") for text in tensor.string_data]
                self.found.texts[value] = np.array(texts, dtype=np.str_).reshape(made.shape)
        else:
            self.found.arrays[key] = made

    def _sparse(self, sparse: onnx.SparseTensorProto, value: str, key: str) -> None:
        values, indices, dims = self.container.sparse(sparse, key)
        parts = []
        for word, made in (("values", values), ("indices", indices)):
            if isinstance(made, LeftOut):
                self.found.left_out.append(made)
                continue
            self.found.arrays[made.key] = made
            parts.append(unique(f"{value}.{word}", self.taken))
            self.taken.add(parts[-1])
            self.found.stored[parts[-1]] = made.key
        if len(parts) == 2:
            self.sparse.append(Op("Spread", PROGRAM, 1, value, parts, [value], {"shape": list(dims)}))

    def _unread(
        self, node: onnx.NodeProto, function: onnx.FunctionProto, attributes: Mapping[str, AttributeProto], keys: str
    ) -> None:
        """What a call hands to a function that has no use for it (an exporter does so with a module's weights)."""
        used = set(_references(function.node))
        for name, attribute in attributes.items():
            key = f"{keys}{node.output[0] if node.output else node.name}.{name}"
            if attribute.type != AttributeProto.TENSOR or name in used or key in self.unread:
                continue
            self.unread.add(key)
            made = self.container.array(attribute.t, key)
            self.found.left_out.append(LeftOut(key, made.shape, "no output of the model needs it"))

    def _metadata(self, graph: onnx.GraphProto) -> None:
        for info in graph.value_info:
            found = {p.key: p.value for p in getattr(info, "metadata_props", ())}
            if found or info.name in self.found.stored:
                self.found.meta[info.name] = found

    def _unread_training(self) -> None:
        for number, info in enumerate(self.model.training_info):
            for graph in (info.initialization, info.algorithm):
                for tensor in graph.initializer:
                    made = self.container.array(tensor, unique(f"training_{number}/{tensor.name}", self.found.arrays))
                    self.found.left_out.append(LeftOut(made.key, made.shape, "only training reads it"))

    # -- operators --

    def _ops(
        self, nodes: Iterable[onnx.NodeProto], outer: Mapping[str, str], versions: Mapping[str, int],
        path: str, keys: str, bound: Mapping[str, AttributeProto] | None,
    ) -> tuple[list[Op], dict[str, str]]:  # fmt: skip
        """The operators of a graph in an order of execution, and its names with those of their values.

        `outer` are the names that are visible; `keys` stands before the keys of arrays that are stored here; `bound`
        are the attributes of the function call around.
        """
        scope = dict(outer)
        own = list(nodes)
        self.count += len(own) if path else 0
        if path.count("\0") > _DEEPEST or self.count > _MOST:
            raise self._refuse("its functions and bodies stand too deeply in each other, or are too many")
        given: set[str] = set()
        for node in own:
            for name in filter(None, node.output):
                if name in given:
                    raise self._refuse(f"two operators give the value {name!r}; the graph is damaged")
                given.add(name)
                scope[name] = unique(f"{_readable(path)}{name}", self.taken)
                self.taken.add(scope[name])
        ops: list[Op] = []
        for node in self._sorted(own, scope):
            ops += self._op(node, scope, versions, path, keys, bound)
        return ops, scope

    def _sorted(self, nodes: list[onnx.NodeProto], scope: Mapping[str, str]) -> list[onnx.NodeProto]:
        """In an order of execution; the file's own, where it is one."""
        giver = {name: i for i, node in enumerate(nodes) for name in node.output if name}
        takers: dict[int, list[int]] = {}
        waits: list[int] = []
        for i, node in enumerate(nodes):
            who = f"operator {node.name or node.op_type!r}"
            needs = {giver[n] for n in _captured(node, 0) if self._seen(n, scope, who) is not None and n in giver}
            waits.append(len(needs))
            for need in needs:
                takers.setdefault(need, []).append(i)
        ready = [i for i, n in enumerate(waits) if not n]
        order: list[int] = []
        while ready:
            order.append(heapq.heappop(ready))
            for taker in takers.get(order[-1], ()):
                waits[taker] -= 1
                if not waits[taker]:
                    heapq.heappush(ready, taker)
        if len(order) < len(nodes):
            stuck = nodes[next(i for i, n in enumerate(waits) if n)]
            raise self._refuse(
                f"operator {stuck.name or stuck.op_type!r} waits for its own result; "
                "the graph is cyclic, export it again"
            )
        return [nodes[i] for i in order]

    def _op(
        self, node: onnx.NodeProto, scope: dict[str, str], versions: Mapping[str, int],
        path: str, keys: str, bound: Mapping[str, AttributeProto] | None,
    ) -> list[Op]:  # fmt: skip
        domain = "" if node.domain == "ai.onnx" else node.domain
        function = self.functions.get((node.domain, node.op_type, getattr(node, "overload", "")))
        attributes = {a.name: b for a in node.attribute if (b := _bound(a, bound)) is not None}
        inputs = [scope[n] if n else "" for n in node.input]
        outputs = [scope[n] if n else "" for n in node.output]
        if function is not None:
            self._unread(node, function, attributes, keys)
            return self._call(node, function, inputs, outputs, attributes, path)
        if not outputs:
            return []  # nobody can read what it gives
        if not domain and node.op_type == "Constant":
            given = any(a.ref_attr_name for a in node.attribute)  # by the caller, for this call
            if self._constant(node, attributes, outputs[0], "" if given else keys):
                return []
        meta = {p.key: p.value for p in getattr(node, "metadata_props", ())}
        version = versions.get(domain, 1)
        weights = ATTRIBUTES.get((domain, node.op_type), frozenset())
        found = Op(node.op_type, domain, version, node.name, inputs, outputs, path=_readable(path), meta=meta)
        for name, attribute in _singly(attributes):
            if attribute.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS):
                graphs = [attribute.g] if attribute.type == AttributeProto.GRAPH else list(attribute.graphs)
                for i, graph in enumerate(graphs):
                    label = name.removesuffix("_branch") if len(graphs) == 1 else f"{name}_{i}"
                    within = keys and f"{keys}{node.output[0] if node.output else node.name}/{label}/"
                    found.bodies[label] = self._body(graph, scope, versions, path, within, node, label, bound)
            elif attribute.type in _TENSORS or name in weights:
                own = keys and not any(a.name == name and a.ref_attr_name for a in node.attribute)
                found.attributes[name] = self._held(node, attribute, name, keys if own else "", name in weights)
            else:
                found.attributes[name] = _plain(onnx.helper.get_attribute_value(attribute))
        return [found]

    def _held(self, node: onnx.NodeProto, attribute: AttributeProto, name: str, keys: str, weight: bool) -> Held:
        """An attribute as a stored array; one of a function's own (`keys`) is stored once for all calls."""
        place = f"{node.name if weight and node.name and not keys else node.output[0]}.{name}"
        value = unique(place, self.taken)
        while value in self.found.arrays:
            self.taken.add(value)
            value = unique(place, self.taken)
        self.taken.add(value)
        key = f"{keys}{place}" if keys else value
        if attribute.type in _TENSORS:
            self._tensor(attribute, value, key)
        else:
            self.found.stored[value] = key
            self.found.arrays.setdefault(key, self._listed(attribute, key))
        return Held(value, weight)

    def _listed(self, attribute: AttributeProto, key: str) -> Array:
        """A list of numbers as an array; protobuf has their bytes in memory."""
        floats = attribute.type == AttributeProto.FLOATS
        made = np.asarray(attribute.floats if floats else attribute.ints, "<f4" if floats else "<i8")
        storage = self.container.placed(Bytes(made.tobytes()), attribute.doc_string)
        return Array(key, made.shape, "float32" if floats else "int64", storage)

    def _constant(self, node: onnx.NodeProto, attributes: Mapping[str, AttributeProto], value: str, keys: str) -> bool:
        """A Constant operator is an array; one with plain numbers is one that this program writes down."""
        for name, attribute in attributes.items():
            if attribute.type in _TENSORS:
                self._tensor(attribute, value, f"{keys}{node.output[0]}" if keys else value)
                return True
            if name in {"value_float", "value_floats", "value_int", "value_ints"}:
                made = onnx.helper.get_attribute_value(attribute)
                if AttributeProto.AttributeType.Name(attribute.type).lower() != name.removeprefix("value_"):
                    return False
                number = onnx.TensorProto.FLOAT if "float" in name else onnx.TensorProto.INT64
                dims = [] if name in {"value_float", "value_int"} else [len(made)]
                tensor = onnx.helper.make_tensor(value, number, dims, made if dims else [made])
                tensor.doc_string = attribute.doc_string  # which may tell where it is
                self._store(tensor, value, f"{keys}{node.output[0]}" if keys else value)
                return True
        return False

    def _tensor(self, attribute: AttributeProto, value: str, key: str) -> None:
        if attribute.type == AttributeProto.TENSOR:
            self._store(attribute.t, value, key)
        else:
            self._sparse(attribute.sparse_tensor, value, key)

    def _body(
        self, graph: onnx.GraphProto, scope: Mapping[str, str], versions: Mapping[str, int],
        path: str, keys: str, node: onnx.NodeProto, label: str, bound: Mapping[str, AttributeProto] | None,
    ) -> Body:  # fmt: skip
        inner = f"{path}{node.name or node.op_type}/{label}/\0"
        names: dict[str, str] = {}

        def named(name: str) -> str:
            if name not in names:
                names[name] = unique(name if name not in self.taken else f"{_readable(inner)}{name}", self.taken)
                self.taken.add(names[name])
            return names[name]

        inputs = [named(i.name) for i in graph.input if i.name not in {t.name for t in graph.initializer}]
        self._initializers(graph, named, keys)
        ops, visible = self._ops(graph.node, {**scope, **names}, versions, inner, keys, bound)
        who = f"the body {label!r} of {node.name or node.op_type!r}"
        return Body(inputs, [self._seen(o.name, visible, who) for o in graph.output], ops)

    def _call(
        self, node: onnx.NodeProto, function: onnx.FunctionProto, inputs: list[str], outputs: list[str],
        attributes: Mapping[str, AttributeProto], path: str,
    ) -> list[Op]:  # fmt: skip
        mark = f"{function.domain}.{function.name}"
        self.called.add((function.domain, function.name, _overload(function)))
        if path.count("\0") > _DEEPEST:
            raise self._refuse(f"function {mark!r} calls itself, or functions stand too deeply in each other")
        defaults = {a.name: a for a in function.attribute_proto}
        inner = f"{path}{node.name or function.name}/\0"
        names = dict(zip(function.input, inputs, strict=False))
        names |= dict.fromkeys(list(function.input)[len(inputs) :], "")
        versions = {**self.versions, **{o.domain or "": int(o.version) for o in function.opset_import}}
        ops, scope = self._ops(function.node, names, versions, inner, f"{mark}/", {**defaults, **attributes})
        renamed: dict[str, str] = {}
        for inner_name, outer_name in zip(function.output, outputs, strict=False):
            source = self._seen(inner_name, scope, f"function {mark!r}")
            if not outer_name:
                continue
            if source in renamed or source in inputs or source in self.found.stored:
                ops.append(
                    Op("Identity", "", 13, "", [renamed.get(source, source)], [outer_name], path=_readable(inner))
                )
            else:
                renamed[source] = outer_name
        rename(ops, renamed)
        return ops


def _overload(function: onnx.FunctionProto) -> str:
    return str(getattr(function, "overload", ""))


def _bound(attribute: AttributeProto, bound: Mapping[str, AttributeProto] | None) -> AttributeProto | None:
    """An attribute, or what the function's caller gave for it; None where the caller gave nothing."""
    if not attribute.ref_attr_name:
        return attribute
    return (bound or {}).get(attribute.ref_attr_name)


def _references(nodes: Iterable[onnx.NodeProto]) -> Iterator[str]:
    """The attributes of a function that its operators read."""
    for node in nodes:
        for attribute in node.attribute:
            if attribute.ref_attr_name:
                yield attribute.ref_attr_name
            for graph in (attribute.g, *attribute.graphs):
                yield from _references(graph.node)


def _singly(attributes: Mapping[str, AttributeProto]) -> Iterator[tuple[str, AttributeProto]]:
    """Attributes, with each tensor of a list of them as one of its own."""
    for name, attribute in attributes.items():
        if attribute.type not in {AttributeProto.TENSORS, AttributeProto.SPARSE_TENSORS}:
            yield name, attribute
            continue
        for i, tensor in enumerate(attribute.tensors):
            yield f"{name}_{i}", AttributeProto(name=name, type=AttributeProto.TENSOR, t=tensor)
        for i, sparse in enumerate(attribute.sparse_tensors):
            yield f"{name}_{i}", AttributeProto(name=name, type=AttributeProto.SPARSE_TENSOR, sparse_tensor=sparse)


def _plain(found: Any) -> Any:
    if isinstance(found, bytes):
        return found.decode("utf-8", "replace")
    if isinstance(found, list | tuple) or type(found).__name__.startswith("Repeated"):
        return [_plain(i) for i in found]
    return found if found is None or isinstance(found, bool | int | float | str) else " ".join(str(found).split())


def _readable(path: str) -> str:
    return path.replace("\0", "")


def _captured(node: onnx.NodeProto, depth: int) -> Iterator[str]:
    """The names from outside that a node reads, in its bodies too."""
    yield from filter(None, node.input)
    if depth > _DEEPEST:
        return
    for attribute in node.attribute:
        for graph in [attribute.g] if attribute.type == AttributeProto.GRAPH else attribute.graphs:
            own = {i.name for i in graph.input} | {t.name for t in graph.initializer}
            own |= {s.values.name for s in graph.sparse_initializer} | {o for n in graph.node for o in n.output}
            for inner in graph.node:
                yield from (name for name in _captured(inner, depth + 1) if name not in own)
            yield from (o.name for o in graph.output if o.name not in own)
