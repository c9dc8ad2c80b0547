"""Where layers read other values than before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from wexport.delta.attributes import alike
from wexport.delta.graph import Arguments, Graph, Node, Operand
from wexport.delta.match import is_value
from wexport.delta.models import GRAPH, STRUCTURE, Fact, Models

Operands = tuple[Operand | None, ...]


def wiring_facts(m: Models, a: Node, b: Node) -> Iterator[Fact]:
    """Where a layer reads other values; not where it merely reads through a layer that came in between, or went."""
    if not a.calls or not b.calls:
        return
    if len(a.calls) != len(b.calls):
        category = GRAPH if m.loose else STRUCTURE
        yield Fact("layer rewired", category, a.name, b.name, {"calls": [len(a.calls), len(b.calls)]})
        return
    for i, one in enumerate(a.calls):
        two = b.calls[m.layers.calls.get((a.name, i), i)]
        if m.loose:
            one, two = ({"x": [o for found in call.values() for o in found]} for call in (one, two))
        for role in dict.fromkeys((*one, *two)):
            yield from _argument(m, a, b, role, (one, two))


def _argument(m: Models, a: Node, b: Node, role: str, calls: tuple[Arguments, Arguments]) -> Iterator[Fact]:
    old, new = ([o for o in call.get(role, []) if is_value(o)] for call in calls)
    if category := reads_alike(m, old, new):
        category = category if m.sure(a, b) else GRAPH
        detail = {"argument": role, "from": names(m.layers.a, old), "to": names(m.layers.b, new)}
        yield Fact("layer rewired", category, a.name, b.name, detail)
    consts = [[o[1] for o in call.get(role, []) if o[0] == "const"] for call in calls]
    if not m.loose and not alike(*consts):
        one, two = (found[0] if len(found) == 1 else found for found in consts)
        detail = {"attribute": f"argument {role}", "from": one, "to": two}
        yield Fact("attribute changed", STRUCTURE, a.name, b.name, detail)


def reads_alike(m: Models, old: list[Operand], new: list[Operand]) -> str | None:
    """None where the same values are read, if through layers that only one side has; else the difference's category.

    Between frameworks it is of the graph's notation where one of the layers on the way is written otherwise.
    """
    if [m.layers.image(o) for o in old] == new:
        return None
    one = [m.layers.image(o) for o in _through(m.layers.a, old, m.layers.to_b)]
    two: list[Operand | None] = list(_through(m.layers.b, new, m.layers.to_a))
    if _known_as(m, one) == _known_as(m, two):
        return None
    if not m.loose:
        return STRUCTURE
    return STRUCTURE if all(_is_sure(m, o) for o in new) and all(_is_sure(m, m.layers.image(o)) for o in old) else GRAPH


def _plain(operand: Operand | None) -> Operand | None:
    """A value whichever call gave it: one framework calls a layer for each step, the other once for all."""
    return operand[:2] if operand is not None and operand[0] == "layer" else operand


def _is_sure(m: Models, operand: Operand | None) -> bool:
    """Whether a value of B comes from an input, or from a layer that both sides write in the same way."""
    if operand is None or operand[0] != "layer":
        return operand is not None
    b = m.layers.b.nodes.get(operand[1])
    return m.sure(m.layers.a.nodes.get(m.layers.to_a.get(operand[1], "")), b)


def _through(graph: Graph, operands: list[Operand], partners: Mapping[str, str]) -> list[Operand]:
    """What is read, as if the layers without a partner passed on what they read, each value once."""
    return [source for operand in operands for source in _sources(graph, operand, partners)]


def _sources(graph: Graph, operand: Operand, partners: Mapping[str, str]) -> list[Operand]:
    found: dict[Operand, None] = {}
    waiting = [operand]
    while waiting:
        operand = waiting.pop()
        if operand in found:
            continue
        found[operand] = None
        if operand[0] == "layer" and operand[1] not in partners:
            call = graph.nodes[operand[1]].calls[operand[2]]
            waiting += reversed(_values(call))
    return [o for o in found if o[0] != "layer" or o[1] in partners]


def align_calls(m: Models) -> None:
    """Find which call of a shared layer is which: their order says nothing where neither reads the other's value."""
    for name, node in m.layers.a.nodes.items():
        other = m.layers.to_b.get(name)
        calls = m.layers.b.nodes[other].calls if other is not None else []
        if len(node.calls) < 2 or len(node.calls) != len(calls):
            continue
        free = dict.fromkeys(range(len(calls)))
        places: dict[Operands, dict[int, None]] = {}
        for j, call in enumerate(calls):
            places.setdefault(_known_as(m, _through(m.layers.b, _values(call), m.layers.to_a)), {})[j] = None
        for i, call in enumerate(node.calls):
            old = [m.layers.image(o) for o in _through(m.layers.a, _values(call), m.layers.to_b)]
            fits = places.get(_known_as(m, old), {})
            j = i if i in fits else next(iter(fits), -1)
            if j >= 0:
                del fits[j], free[j]
                m.layers.calls[name, i] = j
        for i in range(len(node.calls)):
            if (name, i) not in m.layers.calls:
                m.layers.calls[name, i] = next(iter(free))
                del free[m.layers.calls[name, i]]


def _values(call: Arguments) -> list[Operand]:
    return [o for given in call.values() for o in given if is_value(o)]


def _known_as(m: Models, operands: Sequence[Operand | None]) -> Operands:
    """What is read, as it is compared."""
    return tuple(dict.fromkeys(map(_plain, operands))) if m.loose else tuple(operands)


def called(graph: Graph, operand: Operand) -> str:
    """What a value is called."""
    if operand[0] != "layer":
        return str(operand[1])
    call = f"@{operand[2] + 1}" if operand[2] else ""
    return f"{operand[1]}{call}" + (f":{operand[3]}" if operand[3] else "")


def names(graph: Graph, operands: list[Operand]) -> list[str]:
    """What values are called."""
    return [called(graph, operand) for operand in operands]
