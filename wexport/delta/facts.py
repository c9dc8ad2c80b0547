"""What changed between two matched models, as facts: one difference each, in the names that a person uses."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from typing import Any

from wexport.delta.attributes import alike, same_padding
from wexport.delta.change import Change
from wexport.delta.graph import Graph, Node
from wexport.delta.match import is_value
from wexport.delta.models import GRAPH, NAMES, STRUCTURE, VALUES, Fact, Manifest, Models
from wexport.delta.tensors import Pair
from wexport.delta.wiring import called, names, reads_alike, wiring_facts

_DERIVED = frozenset({"reads", "zero"})  # follow from the graph and the tensors


def layer_facts(m: Models, gone: Container[str], new: Container[str]) -> Iterator[Fact]:
    """Layers added, removed, renamed, rewired, and their attributes; `gone` and `new` are tensors without a partner."""
    graph_a, graph_b = m.layers.a, m.layers.b
    readers_a, readers_b = _readers(graph_a), _readers(graph_b)
    for name, node in graph_a.nodes.items():
        if name not in m.layers.to_b and (category := _lone_category(m, node, gone)):
            yield Fact("layer removed", category, name, None, _place(graph_a, node, readers_a))
    for name, node in graph_b.nodes.items():
        other = m.layers.to_a.get(name)
        if other is None:
            if category := _lone_category(m, node, new):
                yield Fact("layer added", category, None, name, _place(graph_b, node, readers_b))
            continue
        mine = graph_a.nodes[other]
        if other != name:
            yield Fact("layer renamed", NAMES, other, name, {"how": m.layers.how[other]})
        if mine.folded != node.folded and not m.loose and not m.bare:
            yield Fact("layer renamed", NAMES, mine.folded, node.folded, {"how": "activation", "layer": name})
        yield from _attributes(m, mine, node, gone, new)
        yield from wiring_facts(m, mine, node)


def _lone_category(m: Models, node: Node, lone: Container[str]) -> str | None:
    """The category of a layer without a partner.

    A layer all of whose tensors stand in layers of the other side is but another way of writing these; a file of
    weights alone names the parts of a wrapper so, and that is no difference.
    """
    spread = not any(tensor in lone for tensor in node.tensors)
    if spread and m.bare:
        return None
    return GRAPH if spread and m.loose else STRUCTURE


def _readers(graph: Graph) -> dict[str, list[str]]:
    """For each layer, the layers that read its values."""
    found: dict[str, dict[str, None]] = {}
    for operand, uses in graph.users.items():
        if operand[0] == "layer":
            found.setdefault(operand[1], {}).update(dict.fromkeys(use[0] for use in uses))
    return {name: list(readers) for name, readers in found.items()}


def _place(graph: Graph, node: Node, readers: Mapping[str, list[str]]) -> dict[str, Any]:
    after = list(dict.fromkeys(called(graph, o) for o in node.operands() if is_value(o)))
    return {"kind": node.kind, "after": after, "before": readers.get(node.name, []), "tensors": len(node.tensors)}


def _attributes(m: Models, a: Node, b: Node, gone: Container[str], new: Container[str]) -> Iterator[Fact]:
    if a.kind != b.kind:
        category = (
            _lone_category(m, a, gone) if m.loose and not any(tensor in new for tensor in b.tensors) else STRUCTURE
        )
        if category and not (m.bare and "unknown" in (a.kind, b.kind)):
            kinds = {"attribute": "kind", "from": a.kind, "to": b.kind}
            yield Fact("attribute changed", category, a.name, b.name, kinds)
        return
    partial = m.loose or m.bare or "partial" in a.attributes or "partial" in b.attributes
    keys = [key for key in a.attributes if key in b.attributes or not partial]
    keys += [key for key in b.attributes if key not in a.attributes and not partial]
    skipped = _notation() if m.loose else _DERIVED
    for key in keys:
        one, two = a.attributes.get(key), b.attributes.get(key)
        if key in skipped or alike(one, two) or (m.loose and key == "padding" and same_padding(a, b)):
            continue
        detail = {"attribute": key, "from": one, "to": two}
        if key == "activation" and a.folded and b.folded:
            detail["layer"] = b.folded
        apart = key == "activation" and m.loose and (_is_taken_apart(m, a) or _is_taken_apart(m, b))
        yield Fact("attribute changed", GRAPH if apart else STRUCTURE, a.name, b.name, detail)


def _is_taken_apart(m: Models, node: Node) -> bool:
    """Whether a linear layer is read by nothing but layers that only its side has: they may compute the activation."""
    mine = m.layers.a.nodes.get(node.name) is node
    graph, partners = (m.layers.a, m.layers.to_b) if mine else (m.layers.b, m.layers.to_a)
    uses = [use for i in range(len(node.calls)) for use in graph.users.get(("layer", node.name, i, 0), ())]
    linear = node.attributes.get("activation", {}).get("name") == "linear"
    return linear and bool(uses) and not any(use[0] in partners for use in uses)


def _notation() -> frozenset[str]:
    from wexport.layers.registry import NOTATION  # two manifests of one framework are compared without the rooms

    return NOTATION


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
        taken = set(pairs.values())
        yield from (Fact(f"{word} added", STRUCTURE, None, name) for name in two if name not in taken)
        yield from _order(word, pairs, two, m)
        for a, b in pairs.items():
            if a != b:
                yield Fact(f"{word} renamed", NAMES, a, b)
            yield from _port(word, a, b, [_port_of(word, a, m.a, values[0]), _port_of(word, b, m.b, values[1])], m)
    for a, b in m.layers.outputs.items():
        old, new = graphs[0].outputs[a], graphs[1].outputs[b]
        if category := reads_alike(m, old, new):
            yield Fact("output rewired", category, a, b, {"from": names(graphs[0], old), "to": names(graphs[1], new)})


def _order(word: str, pairs: Mapping[str, str], listed: list[str], m: Models) -> Iterator[Fact]:
    """Inputs or outputs in another order, in which callers give and take them; those without a partner aside."""
    if m.loose:  # formats list them in orders of their own
        return
    taken = set(pairs.values())
    places = {b: i for i, b in enumerate(b for b in listed if b in taken)}
    for i, a in enumerate(a for a in m.a[f"{word}s"] if a in pairs):
        if places[pairs[a]] != i:
            yield Fact(f"{word} reordered", STRUCTURE, a, pairs[a], {"from": i, "to": places[pairs[a]]})


def _port(word: str, a: str, b: str, ports: list[Mapping[str, Any]], m: Models) -> Iterator[Fact]:
    one, two = (_dims(port.get("shape")) for port in ports)
    if one is not None and two is not None and not _same_shape(one, two, m.loose):
        turned = m.loose and sorted(map(str, one[1:])) == sorted(map(str, two[1:]))  # channels first, or last
        yield Fact(f"{word} reshaped", GRAPH if turned else STRUCTURE, a, b, {"from": one, "to": two})
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
        if change is not None and change.moved == 0 and not change.jumps:
            return  # zeros on both sides, stored on one
        yield Fact("values changed", VALUES, pair.a, pair.b, {"zero": "a" if a is None else "b"}, change)
        return
    if pair.b not in (pair.a, expected):
        yield Fact("tensor renamed", NAMES, pair.a, pair.b, {"how": pair.how})
    if a["shape"] != b["shape"]:
        category = GRAPH if m.loose and a["sha256"] == b["sha256"] else STRUCTURE  # heads, packed or not
        yield Fact("tensor reshaped", category, pair.a, pair.b, {"from": a["shape"], "to": b["shape"]})
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
