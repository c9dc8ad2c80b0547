"""Which layer of one graph is which layer of the other.

First by bytes: a tensor whose bytes no other tensor of either side has ties its layers together. Then by position: a
layer of the same kind and shapes that reads the same matched values, or is read by the same matched layers; where
several would do, the one of the same name. Then by name. What is left was added or removed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from difflib import SequenceMatcher
from typing import Any

from wexport.delta.graph import Graph, Operand

BYTES, POSITION, NAME = "bytes", "position", "name"
_MOST_ALIGNED = 250_000  # pairs of layers that nothing else ties which are tried against each other

Forms = Mapping[str, Any]  # each layer's kind and its tensors' shapes


class Matching:
    """The pairs of layers found so far, and how each was found."""

    def __init__(self, a: Graph, b: Graph, forms: tuple[Forms, Forms]) -> None:
        self.a, self.b, self.forms = a, b, forms
        self.to_b: dict[str, str] = {}
        self.to_a: dict[str, str] = {}
        self.how: dict[str, str] = {}  # by the layer of A
        self.calls: dict[tuple[str, int], int] = {}  # which call of its partner a call of a layer of A is
        self.inputs = pair_ports(a.inputs, b.inputs)
        self.outputs = pair_ports(list(a.outputs), list(b.outputs))
        self._inputs_a = {two: one for one, two in self.inputs.items()}
        self._reads = [{n.name: [o for o in n.operands() if is_value(o)] for n in g.nodes.values()} for g in (a, b)]
        self._uses_b = _uses(b)

    def add(self, a: str, b: str, how: str) -> None:
        """Note a pair."""
        self.to_b[a], self.to_a[b], self.how[a] = b, a, how

    def image(self, operand: Operand) -> Operand | None:
        """What an operand of A is in B; None where its layer has no partner."""
        found = _renamed(operand, self.inputs, self.to_b)
        if found is not None and found[0] == "layer" and (call := self.calls.get(operand[1:3])) is not None:
            return (*found[:2], call, *found[3:])
        return found

    def copy(self) -> Matching:
        """The same pairs, to try more on."""
        found = Matching.__new__(Matching)
        found.__dict__.update(self.__dict__)
        found.to_b, found.to_a, found.how = dict(self.to_b), dict(self.to_a), dict(self.how)
        return found

    @property
    def complete(self) -> bool:
        """Whether every layer of both sides has its partner."""
        return len(self.to_b) == len(self.a.nodes) == len(self.b.nodes)

    def forward(self, strict: bool, guarded: bool) -> bool:
        """Match layers that read the same values; says whether any was found."""
        before = len(self.to_b)
        roots = [name for name, reads in self._reads[0].items() if not reads]
        for name, node in self.b.nodes.items():
            if name in self.to_a or not node.calls:
                continue
            origins = [_renamed(o, self._inputs_a, self.to_a) for o in self._reads[1][name]]
            reads = [o for o in origins if o is not None]
            if len(reads) < len(origins):
                continue
            users = dict.fromkeys(use[0] for use in self.a.users.get(reads[0], ())) if reads else roots
            self._choose((a for a in users if self._reads[0][a] == reads), name, strict, guarded)
        return len(self.to_b) > before

    def backward(self, strict: bool, guarded: bool) -> bool:
        """Match layers that are read by the same layers, or are the same outputs; says whether any was found."""
        before = len(self.to_b)
        for name in reversed(self.b.nodes):
            if name not in self.to_a:
                places = set(self._read_instead(name))
                if len(places) == 1:
                    self._choose(places, name, strict, guarded)
        return len(self.to_b) > before

    def _read_instead(self, name: str) -> Iterator[str]:
        """The layers of A that stand where readers of a layer of B, and outputs, read it."""
        for layer, call, role, place in self._uses_b.get(name, ()):
            if layer is None:
                one = next((o for o, two in self.outputs.items() if two == role), None)
                operands = self.a.outputs.get(one, []) if one is not None else []
            else:
                calls = self.a.nodes[self.to_a[layer]].calls if layer in self.to_a else []
                operands = calls[call].get(role, []) if call < len(calls) else []
            if place < len(operands) and operands[place][0] == "layer":
                yield operands[place][1]

    def _choose(self, names: Iterable[str], b: str, strict: bool, guarded: bool) -> None:
        """Pair a layer of B with the first of these that fits; one of its name, or with its attributes, if there is."""
        fits = [a for a in names if a not in self.to_b and self._alike(a, b, strict)]
        if b not in fits:
            if guarded and b in self.a.nodes and b not in self.to_b and self._alike(b, b, True):
                return  # its namesake has its form, too, and awaits it
            free = [a for a in fits if not self._awaited(a)]
            fits = free if guarded else free or fits
        if fits:
            same = self.b.nodes[b].attributes
            self.add(min(fits, key=lambda a: (a != b, self.a.nodes[a].attributes != same)), b, POSITION)

    def _awaited(self, a: str) -> bool:
        return a in self.b.nodes and a not in self.to_a and self._alike(a, a, True)

    def _alike(self, a: str, b: str, strict: bool) -> bool:
        one, two = self.a.nodes[a], self.b.nodes[b]
        return one.kind == two.kind and (not strict or self.forms[0][a] == self.forms[1][b])

    def align(self) -> None:
        """Match what is left in the order of the layers, between those that have partners."""
        rows = [n for n in self.a.nodes if n in self.to_b or not self._awaited(n)]
        columns = [n for n in self.b.nodes if n in self.to_a or not (n in self.a.nodes and self._awaited(n))]
        if (len(rows) - len(self.to_b)) * (len(columns) - len(self.to_a)) in range(1, _MOST_ALIGNED):
            one = [self.to_b.get(n) or self.forms[0][n] for n in rows]
            two = [n if n in self.to_a else self.forms[1][n] for n in columns]
            for start, other, size in SequenceMatcher(None, one, two, autojunk=False).get_matching_blocks():
                for a, b in zip(rows[start : start + size], columns[other : other + size], strict=True):
                    if a not in self.to_b and b not in self.to_a:
                        self.add(a, b, POSITION)

    def by_name(self, any_kind: bool = False) -> bool:
        """Match layers of the same name; says whether any was found."""
        before = len(self.to_b)
        for name, node in self.a.nodes.items():
            other = self.b.nodes.get(name)
            free = other is not None and name not in self.to_b and name not in self.to_a
            if free and (any_kind or node.kind == self.b.nodes[name].kind):
                self.add(name, name, NAME)
        return len(self.to_b) > before


def match_layers(a: Graph, b: Graph, forms: tuple[Forms, Forms], anchors: Iterable[tuple[str, str]]) -> Matching:
    """Pair the layers of two graphs.

    Args:
        a: one graph.
        b: the other.
        forms: for each side, every layer's kind and its tensors' shapes, as something that can be compared.
        anchors: pairs of layers that hold a tensor of the same bytes, which nothing else has; the likeliest first.
    """
    found = Matching(a, b, forms)
    for one, two in anchors:
        if one not in found.to_b and two not in found.to_a:
            found.add(one, two, BYTES)
    whole = found.copy()
    whole.forward(strict=True, guarded=False)
    if whole.complete:  # nothing was inserted or rewired: the positions tell all
        return whole
    moved = True
    while moved:
        while found.forward(strict=True, guarded=True) or found.backward(strict=True, guarded=True):
            pass
        found.align()
        moved = found.by_name()
    while found.forward(strict=False, guarded=True) or found.backward(strict=False, guarded=True):
        pass
    found.by_name(any_kind=True)
    return found


def match_names(a: Graph, b: Graph, forms: tuple[Forms, Forms]) -> Matching:
    """Pair the layers of two graphs by their names alone."""
    found = Matching(a, b, forms)
    found.by_name(any_kind=True)
    return found


def pair_ports(a: list[str], b: list[str]) -> dict[str, str]:
    """Inputs (or outputs) of the same name, then the others in their order."""
    known = set(b)
    found = {name: name for name in a if name in known}
    rest = [name for name in b if name not in found]
    return found | dict(zip((name for name in a if name not in found), rest, strict=False))


def is_value(operand: Operand) -> bool:
    """Whether an argument is a value of the graph, not a constant."""
    return operand[0] in ("input", "layer", "body")


def _renamed(operand: Operand, inputs: Mapping[str, str], layers: Mapping[str, str]) -> Operand | None:
    if operand[0] == "input":
        found = inputs.get(operand[1])
    elif operand[0] in ("layer", "body"):
        found = layers.get(operand[1])
    else:
        return operand
    return None if found is None else (operand[0], found, *operand[2:])


def _uses(graph: Graph) -> dict[str, list[tuple[str | None, int, str, int]]]:
    """For each layer, who reads its values: layer, call, role and place; for an output, None and its name."""
    found: dict[str, list[tuple[str | None, int, str, int]]] = {}
    for operand, uses in graph.users.items():
        if operand[0] == "layer":
            found.setdefault(operand[1], []).extend(uses)
    for name, operands in graph.outputs.items():
        for place, operand in enumerate(operands):
            if operand[0] == "layer":
                found.setdefault(operand[1], []).append((None, 0, name, place))
    return found
