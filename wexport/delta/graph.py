"""A manifest's graph as it is compared: layers, their calls, and what each call reads.

Two graphs of one framework are compared as they are. Between frameworks, layers that only move data (a transpose that
one exporter needs and the other does not) are looked through. In both, an activation layer that alone follows a linear
layer counts as that layer's activation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

# What an argument is: `("input", name)`, `("layer", layer, call, output)`, `("body", layer, call, label, place)`,
# `("tensor",)` for a weight or stored constant, or `("const", value)`.
Operand = tuple[Any, ...]
Arguments = dict[str, list[Operand]]
Use = tuple[str, int, str, int]  # layer, call, role, place


@dataclass(slots=True)
class Node:
    """A layer: what it is, its tensors in the manifest's order, and the arguments of each of its calls.

    `folded` is the activation layer that counts as its activation.
    """

    name: str
    kind: str
    attributes: dict[str, Any]
    place: int
    tensors: list[str] = field(default_factory=list)
    calls: list[Arguments] = field(default_factory=list)
    folded: str | None = None

    def operands(self) -> Iterator[Operand]:
        """What its calls read, in order."""
        for call in self.calls:
            for found in call.values():
                yield from found


@dataclass(slots=True)
class Graph:
    """A model's layers in the order of their first calls, and what its outputs are."""

    nodes: dict[str, Node]
    inputs: list[str]
    outputs: dict[str, list[Operand]]
    values: dict[str, Operand]
    users: dict[Operand, list[Use]] = field(default_factory=dict)

    def index(self) -> None:
        """Note who reads each value."""
        self.users = {}
        for node in self.nodes.values():
            for i, call in enumerate(node.calls):
                for role, operands in call.items():
                    for k, operand in enumerate(operands):
                        if operand[0] != "const":
                            self.users.setdefault(operand, []).append((node.name, i, role, k))

    def keep_weighted(self) -> None:
        """Forget the wiring, and the layers without weights: what a file of weights alone does not tell."""
        self.nodes = {name: node for name, node in self.nodes.items() if node.tensors}
        for node in self.nodes.values():
            node.calls = []
        self.inputs, self.outputs, self.users = [], {}, {}


def graph_of(manifest: Mapping[str, Any], reduced: bool) -> Graph:
    """The graph that a manifest describes; `reduced` looks through layers that only move data."""
    nodes = {name: _node(name, layer, i) for i, (name, layer) in enumerate(manifest["layers"].items())}
    for name, item in manifest["tensors"].items():
        if item["layer"] in nodes:
            nodes[item["layer"]].tensors.append(name)
    values: dict[str, Operand] = {name: ("input", name) for name in manifest["inputs"]}
    order: dict[str, None] = {}
    _read_calls(manifest["calls"], nodes, values, order)
    ordered = {name: nodes[name] for name in (*order, *(name for name in nodes if name not in order))}
    outputs = {name: [values.get(item["value"], ("unknown",))] for name, item in manifest["outputs"].items()}
    graph = Graph(ordered, list(manifest["inputs"]), outputs, values)
    if reduced:
        _look_through(graph)
    graph.index()
    _fold_activations(graph)
    for place, node in enumerate(graph.nodes.values()):
        node.place = place
    return graph


def _node(name: str, layer: Mapping[str, Any], place: int) -> Node:
    attributes = {key: value for key, value in layer.items() if key not in ("kind", "class")}
    return Node(name, str(layer["kind"]), attributes, place)


def _read_calls(
    calls: list[Mapping[str, Any]], nodes: dict[str, Node], values: dict[str, Operand], order: dict[str, None]
) -> None:
    for call in calls:
        node = nodes[call["layer"]]
        order[node.name] = None
        number = len(node.calls)
        arguments = {role: _operands(arg, values) for role, arg in call["args"].items() if arg is not None}
        node.calls.append(arguments)
        for i, out in enumerate(call["out"]):
            if out["value"] is not None:
                values[out["value"]] = ("layer", node.name, number, i)
        for label, body in call.get("bodies", {}).items():
            for i, name in enumerate(body["inputs"]):
                values[name] = ("body", node.name, number, label, i)
            _read_calls(body["calls"], nodes, values, order)
            arguments[f"bodies.{label}"] = [o for arg in body["outputs"] for o in _operands(arg, values)]


def _operands(arg: Any, values: Mapping[str, Operand]) -> list[Operand]:
    if isinstance(arg, list):
        return [operand for item in arg for operand in _operands(item, values)]
    if isinstance(arg, Mapping):
        return [("tensor",)] if "tensor" in arg else [("const", arg.get("const"))]
    return [] if arg is None else [values.get(arg, ("unknown",))]


def _look_through(graph: Graph) -> None:
    """Let the readers of what only moved data read the data themselves; a value read in parts is read once."""
    from wexport.layers.complete import KINDS  # a comparison within one framework need not load the rooms

    movers = {
        node.name: list(node.operands())
        for node in graph.nodes.values()
        if (kind := KINDS.get(node.kind)) is not None and kind.moves and not node.tensors and len(node.calls) == 1
    }

    def resolved(operands: list[Operand]) -> list[Operand]:
        found: list[Operand] = []
        waiting, seen = list(reversed(operands)), set()
        while waiting:
            operand = waiting.pop()
            if operand[0] == "layer" and operand[1] in movers:
                if operand[1] not in seen:
                    seen.add(operand[1])
                    waiting += reversed(movers[operand[1]])
            elif operand[0] == "layer":
                found.append((*operand[:3], 0))
            elif operand[0] in ("input", "body"):
                found.append(operand)
        return list(dict.fromkeys(found))

    for name in movers:
        del graph.nodes[name]
    for node in graph.nodes.values():
        node.calls = [{role: found for role, arg in call.items() if (found := resolved(arg))} for call in node.calls]
    graph.outputs = {name: resolved(operands) for name, operands in graph.outputs.items()}


def _fold_activations(graph: Graph) -> None:
    """Give a linear layer the activation layer that alone follows it."""
    outputs = {operand for operands in graph.outputs.values() for operand in operands}
    for name, node in list(graph.nodes.items()):
        source = _lone_source(graph, node)
        if source is None or source in outputs:
            continue
        host = graph.nodes[source[1]]
        host.attributes = {**host.attributes, **node.attributes}
        host.folded = name
        value = ("layer", name, 0, 0)
        graph.users[source] = graph.users.pop(value, [])
        for reader, i, role, k in graph.users[source]:
            graph.nodes[reader].calls[i][role][k] = source
        graph.outputs = {key: [source if o == value else o for o in found] for key, found in graph.outputs.items()}
        if value in outputs:
            outputs.add(source)
        del graph.nodes[name]


def _lone_source(graph: Graph, node: Node) -> Operand | None:
    """The value that an activation layer alone reads, of a layer that is linear and called once."""
    if node.kind != "activation" or len(node.calls) != 1 or set(node.attributes) != {"activation"}:
        return None
    operands = list(node.operands())
    if len(operands) != 1 or operands[0][0] != "layer" or len(graph.users[operands[0]]) != 1:
        return None
    host = graph.nodes[operands[0][1]]
    activation = host.attributes.get("activation")
    linear = isinstance(activation, Mapping) and activation.get("name") == "linear" and host.folded is None
    last = host.kind != "activation" and "recurrent_activation" not in host.attributes  # it is what the layer does last
    return operands[0] if linear and last and len(host.calls) == 1 else None
