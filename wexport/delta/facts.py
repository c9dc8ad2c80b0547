"""What changed between two matched models, as facts: one difference each, in the names that a person uses."""

from __future__ import annotations

import struct
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from wexport.delta.change import Change
from wexport.delta.graph import Arguments, Graph, Node, Operand
from wexport.delta.match import Matching, is_value
from wexport.delta.tensors import Pair

STRUCTURE, GRAPH, NAMES, VALUES = "structure", "graph", "names", "values"
_DERIVED = frozenset({"reads", "zero"})  # follow from the graph and the tensors
Manifest = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Fact:
    """One difference.

    `what` says what it is (`layer added`, `attribute changed` ...); `a` and `b` are the layer, tensor, input or output
    on both sides; `detail` is what was found, from A to B. `category` is `structure`, `names`, `values`, or `graph`:
    layers without weights that only one of two frameworks writes, which may compute the same with other layers.
    """

    what: str
    category: str
    a: str | None
    b: str | None
    detail: Mapping[str, Any] = field(default_factory=dict)
    change: Change | None = None

    @property
    def name(self) -> str:
        """What B calls it, or A if B has none."""
        return self.b if self.b is not None else self.a or ""


@dataclass(frozen=True, slots=True)
class Models:
    """Two manifests and how their layers were matched.

    `loose` compares across frameworks; `bare` says that one side is a file of weights alone, which tells no graph.
    """

    a: Manifest
    b: Manifest
    layers: Matching
    loose: bool
    bare: bool


def layer_facts(m: Models, gone: Container[str], new: Container[str]) -> Iterator[Fact]:
    """Layers added, removed, renamed, rewired, and their attributes; `gone` and `new` are tensors without a partner."""
    graph_a, graph_b = m.layers.a, m.layers.b
    for name, node in graph_a.nodes.items():
        if name not in m.layers.to_b and not (m.bare and _is_spread(node, gone)):
            yield Fact("layer removed", _weight_of(m, node), name, None, _place(graph_a, node))
    for name, node in graph_b.nodes.items():
        other = m.layers.to_a.get(name)
        if other is None and m.bare and _is_spread(node, new):
            continue
        if other is None:
            yield Fact("layer added", _weight_of(m, node), None, name, _place(graph_b, node))
            continue
        mine = graph_a.nodes[other]
        if other != name:
            yield Fact("layer renamed", NAMES, other, name, {"how": m.layers.how[other]})
        if mine.folded != node.folded and not m.loose and not m.bare:
            yield Fact("layer renamed", NAMES, mine.folded, node.folded, {"how": "activation", "layer": name})
        yield from _attributes(m, mine, node)
        yield from _wiring(m, mine, node)


def _is_spread(node: Node, lone: Container[str]) -> bool:
    """Whether a layer's tensors stand in layers of the other side: a file of weights names the parts of a wrapper."""
    return not any(tensor in lone for tensor in node.tensors)


def _weight_of(m: Models, node: Node) -> str:
    return GRAPH if m.loose and not node.tensors else STRUCTURE


def _place(graph: Graph, node: Node) -> dict[str, Any]:
    after = dict.fromkeys(called(graph, o) for o in node.operands() if is_value(o))
    before = dict.fromkeys(
        use[0] for out, uses in graph.users.items() if out[:2] == ("layer", node.name) for use in uses
    )
    return {"kind": node.kind, "after": list(after), "before": list(before), "tensors": len(node.tensors)}


def _attributes(m: Models, a: Node, b: Node) -> Iterator[Fact]:
    if a.kind != b.kind and m.bare and "unknown" in (a.kind, b.kind):
        return
    if a.kind != b.kind:
        yield Fact("attribute changed", STRUCTURE, a.name, b.name, {"attribute": "kind", "from": a.kind, "to": b.kind})
        return
    partial = m.loose or m.bare or "partial" in a.attributes or "partial" in b.attributes
    keys = [key for key in a.attributes if key in b.attributes or not partial]
    keys += [key for key in b.attributes if key not in a.attributes and not partial]
    skipped = _notation() if m.loose else _DERIVED
    for key in keys:
        one, two = a.attributes.get(key), b.attributes.get(key)
        if key not in skipped and not alike(one, two) and not (m.loose and key == "padding" and _same_padding(a, b)):
            detail = {"attribute": key, "from": one, "to": two}
            if key == "activation" and a.folded and b.folded:
                detail["layer"] = b.folded
            yield Fact("attribute changed", STRUCTURE, a.name, b.name, detail)


def _notation() -> frozenset[str]:
    from wexport.layers.registry import NOTATION  # two manifests of one framework are compared without the rooms

    return NOTATION


def alike(a: Any, b: Any) -> bool:
    """Whether two attributes are equal; numbers as float32, in which one of two formats may keep them."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return set(a) == set(b) and all(alike(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(alike, a, b))
    if isinstance(a, float) or isinstance(b, float):
        numbers = isinstance(a, float | int) and isinstance(b, float | int)
        return a == b or (numbers and not isinstance(a, bool) and _single(a) == _single(b))
    return type(a) is type(b) and bool(a == b)


def _single(x: float) -> bytes:
    try:
        return struct.pack("<f", x)
    except (OverflowError, struct.error):  # too large for it, or an integer too large for any float
        return repr(x).encode()


def _same_padding(a: Node, b: Node) -> bool:
    """Whether a word for padding and numbers for it mean the same; with strides, the word's numbers depend on x."""
    word, numbers = sorted((a.attributes["padding"], b.attributes["padding"]), key=lambda p: not isinstance(p, str))
    if not isinstance(word, str) or not isinstance(numbers, list):
        return False
    if word == "valid":
        return all(n == [0, 0] for n in numbers)
    steps = a.attributes.get("strides", [1]), b.attributes.get("strides", [1])
    if any(n != 1 for step in steps for n in step):
        return True
    sizes = b.attributes.get("kernel_size") or b.attributes.get("size") or []
    dilation = b.attributes.get("dilation") or [1] * len(sizes)
    reach = [(n - 1) * d for n, d in zip(sizes, dilation, strict=False)]
    halves = {"same": lambda n: [n // 2, n - n // 2], "same_lower": lambda n: [n - n // 2, n // 2]}
    return numbers == [halves.get(word, lambda n: [n, 0])(n) for n in reach]


# -- wiring ------------------------------------------------------------------------------------------------------------


def _wiring(m: Models, a: Node, b: Node) -> Iterator[Fact]:
    """Where a layer reads other values; not where it merely reads through a layer that came in between, or went."""
    if not a.calls or not b.calls:
        return
    if len(a.calls) != len(b.calls):
        yield Fact("layer rewired", STRUCTURE, a.name, b.name, {"calls": [len(a.calls), len(b.calls)]})
        return
    for one, two in zip(a.calls, b.calls, strict=True):
        if m.loose:
            one, two = ({"x": list(dict.fromkeys(o for found in call.values() for o in found))} for call in (one, two))
        for role in dict.fromkeys((*one, *two)):
            yield from _argument(m, a, b, role, (one, two))


def _argument(m: Models, a: Node, b: Node, role: str, calls: tuple[Arguments, Arguments]) -> Iterator[Fact]:
    old, new = ([o for o in call.get(role, []) if is_value(o)] for call in calls)
    if [m.layers.image(o) for o in old] != new and _seen_through(m, old) != _reached(m, new):
        detail = {"argument": role, "from": _called(m.layers.a, old), "to": _called(m.layers.b, new)}
        yield Fact("layer rewired", STRUCTURE, a.name, b.name, detail)
    consts = [[o[1] for o in call.get(role, []) if o[0] == "const"] for call in calls]
    if not alike(*consts) and not m.loose:
        one, two = (found[0] if len(found) == 1 else found for found in consts)
        detail = {"attribute": f"argument {role}", "from": one, "to": two}
        yield Fact("attribute changed", STRUCTURE, a.name, b.name, detail)


def _seen_through(m: Models, operands: list[Operand]) -> list[Operand | None]:
    """What is read in A, in B's terms, as if the layers that B lacks passed it on."""
    found = [m.layers.image(o) for o in _through(m.layers.a, operands, m.layers.to_b)]
    return list(dict.fromkeys(found)) if m.loose else found


def _reached(m: Models, operands: list[Operand]) -> list[Operand | None]:
    found = _through(m.layers.b, operands, m.layers.to_a)
    return list(dict.fromkeys(found)) if m.loose else list(found)


def _through(graph: Graph, operands: list[Operand], partners: Mapping[str, str]) -> list[Operand]:
    found: list[Operand] = []
    waiting = list(reversed(operands))
    for _ in range(10_000):  # a graph has no loops, but a file may claim one
        if not waiting:
            break
        operand = waiting.pop()
        if operand[0] != "layer" or operand[1] in partners:
            found.append(operand)
            continue
        call = graph.nodes[operand[1]].calls[operand[2]]
        waiting += reversed([o for given in call.values() for o in given if is_value(o)])
    return found


def called(graph: Graph, operand: Operand) -> str:
    """What a value is called."""
    if operand[0] != "layer":
        return str(operand[1])
    call = f"@{operand[2] + 1}" if operand[2] else ""
    return f"{operand[1]}{call}" + (f":{operand[3]}" if operand[3] else "")


def _called(graph: Graph, operands: list[Operand]) -> list[str]:
    return [called(graph, operand) for operand in operands]


# -- inputs and outputs ------------------------------------------------------------------------------------------------


def port_facts(m: Models) -> Iterator[Fact]:
    """Inputs and outputs that came, went, have other names, shapes or types, or are other values."""
    if m.bare:
        return
    values = [_values(manifest) for manifest in (m.a, m.b)]
    graphs = m.layers.a, m.layers.b
    for word, pairs in (("input", m.layers.inputs), ("output", m.layers.outputs)):
        one, two = (list(manifest[f"{word}s"]) for manifest in (m.a, m.b))
        yield from (Fact(f"{word} removed", STRUCTURE, name, None) for name in one if name not in pairs)
        yield from (Fact(f"{word} added", STRUCTURE, None, name) for name in two if name not in set(pairs.values()))
        for a, b in pairs.items():
            if a != b:
                yield Fact(f"{word} renamed", NAMES, a, b)
            yield from _port(word, a, b, [_port_of(word, a, m.a, values[0]), _port_of(word, b, m.b, values[1])], m)
    for a, b in m.layers.outputs.items():
        old, new = graphs[0].outputs[a], graphs[1].outputs[b]
        if [m.layers.image(o) for o in old] != new and _seen_through(m, old) != _reached(m, new):
            detail = {"from": _called(graphs[0], old), "to": _called(graphs[1], new)}
            yield Fact("output rewired", STRUCTURE, a, b, detail)


def _port(word: str, a: str, b: str, ports: list[Mapping[str, Any]], m: Models) -> Iterator[Fact]:
    one, two = (_dims(port.get("shape")) for port in ports)
    if one is not None and two is not None and not _same_shape(one, two, m.loose):
        yield Fact(f"{word} reshaped", STRUCTURE, a, b, {"from": one, "to": two})
    types = [port.get("dtype") for port in ports]
    if None not in types and types[0] != types[1]:
        yield Fact(f"{word} retyped", STRUCTURE, a, b, {"from": types[0], "to": types[1]})


def _same_shape(a: list[int | None], b: list[int | None], loose: bool) -> bool:
    free = loose and len(a) == len(b)
    return a == b or (free and all(x == y or None in (x, y) for x, y in zip(a, b, strict=True)))


def _dims(shape: Any) -> list[int | None] | None:
    """A shape; what a free dimension is called does not matter."""
    return [n if isinstance(n, int) else None for n in shape] if isinstance(shape, list) else None


def _values(manifest: Manifest) -> dict[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = dict(manifest["inputs"])
    found.update((out["value"], out) for call in manifest["calls"] for out in call["out"] if out["value"] is not None)
    return found


def _port_of(word: str, name: str, manifest: Manifest, values: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    found = manifest[f"{word}s"][name]
    return found if word == "input" else values.get(found["value"], {})


# -- tensors -----------------------------------------------------------------------------------------------------------


def tensor_facts(m: Models, pair: Pair, change: Change | None, expected: str | None) -> Iterator[Fact]:
    """What changed from one tensor to its partner; `expected` is its name if nothing but its layer was renamed."""
    a, b = m.a["tensors"].get(pair.a), m.b["tensors"].get(pair.b)
    if a is None or b is None:
        yield Fact("values changed", VALUES, pair.a, pair.b, {"zero": "a" if a is None else "b"}, change)
        return
    if pair.b not in (pair.a, expected):
        yield Fact("tensor renamed", NAMES, pair.a, pair.b, {"how": pair.how})
    if a["shape"] != b["shape"]:
        yield Fact("tensor reshaped", STRUCTURE, pair.a, pair.b, {"from": a["shape"], "to": b["shape"]})
    one, two = (item.get("stored_as") or item["dtype"] for item in (a, b))
    if one != two:
        yield Fact("tensor retyped", STRUCTURE, pair.a, pair.b, {"from": one, "to": two}, change)
        if change is None or change.rounded is not False:
            return
    if a["sha256"] != b["sha256"] and change is not None:
        yield Fact("values changed", VALUES, pair.a, pair.b, {}, change)


def alias_facts(m: Models, names: Mapping[str, str]) -> Iterator[Fact]:
    """Layers that came to share an array, or no longer do."""

    def uses(manifest: Manifest, tensors: Mapping[str, str], layers: Mapping[str, str]) -> dict[Any, str]:
        return {
            (tensors.get(i["tensor"], i["tensor"]), layers.get(i["layer"], i["layer"]), i["role"]): name
            for name, i in manifest["aliases"].items()
        }  # fmt: skip

    one, two = uses(m.a, names, m.layers.to_b), uses(m.b, {}, {})
    yield from (Fact("alias removed", STRUCTURE, one[k], None, {"tensor": k[0]}) for k in one if k not in two)
    yield from (Fact("alias added", STRUCTURE, None, two[k], {"tensor": k[0]}) for k in two if k not in one)
