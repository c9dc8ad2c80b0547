"""Which tensor of one model is which tensor of the other, and the layers that they tie together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wexport.delta.graph import Graph
from wexport.delta.match import BYTES, NAME, Matching

Entry = Mapping[str, Any]
Manifest = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two tensors that are the same part of the model; `how` they were matched: `name and bytes`, `bytes`, ...

    Where one side is None, that side states that the tensor is all zero, and stores none.
    """

    a: str | None
    b: str | None
    how: str


def unique_bytes(a: Manifest, b: Manifest) -> dict[str, str]:
    """The tensors whose bytes only one tensor of each side has; elements that are all alike tell nothing of whose."""
    one, two = (
        {name: item["sha256"] for name, item in m["tensors"].items() if not _is_constant(m["stats"].get(name))}
        for m in (a, b)
    )
    counts = [Counter(sums.values()) for sums in (one, two)]
    places = {digest: name for name, digest in two.items()}
    return {
        name: places[digest] for name, digest in one.items() if counts[0][digest] == 1 and counts[1].get(digest) == 1
    }


def _same_bytes(a: Manifest, b: Manifest, mine: Sequence[str], rest: Sequence[str]) -> dict[str, str]:
    """The tensors among these whose bytes only one of each side has."""
    sums = [Counter(m["tensors"][t]["sha256"] for t in names) for m, names in ((a, mine), (b, rest))]
    places = {b["tensors"][t]["sha256"]: t for t in rest}
    digests = {t: a["tensors"][t]["sha256"] for t in mine}
    return {t: places[d] for t, d in digests.items() if sums[0][d] == sums[1].get(d) == 1}


def _is_constant(stats: Entry | None) -> bool:
    low = stats.get("min") if stats is not None else None
    return stats is not None and low is not None and low == stats.get("max")


def anchors(a: Manifest, b: Manifest, same: Mapping[str, str]) -> list[tuple[str, str]]:
    """Pairs of layers that hold the same bytes, those that hold the most of them first."""
    votes: Counter[tuple[str, str]] = Counter()
    for one, two in same.items():
        layers = a["tensors"][one]["layer"], b["tensors"][two]["layer"]
        if layers[0] in a["layers"] and layers[1] in b["layers"]:
            alike = a["layers"][layers[0]]["kind"] == b["layers"][layers[1]]["kind"]
            votes[layers] += (1 << 20) * alike + (layers[0] == layers[1]) + 1
    return [pair for pair, _ in votes.most_common()]


def forms(manifest: Manifest, graph: Graph) -> dict[str, Any]:
    """Each layer's tensors as roles and shapes: what tells two layers of one kind apart before their bytes do."""
    tensors = manifest["tensors"]
    return {
        name: (node.kind, *sorted((tensors[t]["role"], *tensors[t]["shape"]) for t in node.tensors))
        for name, node in graph.nodes.items()
    }


class Tensors:
    """The pairs of tensors of two matched models, and what has no partner."""

    def __init__(self, a: Manifest, b: Manifest, layers: Matching) -> None:
        self.a, self.b, self.layers = a, b, layers
        self.pairs: list[Pair] = []
        self.sources = _source_names(layers)

    def match(self, same: Mapping[str, str], by_name: bool) -> tuple[list[str], list[str]]:
        """Find the pairs; gives the tensors of each side that have no partner."""
        tensors_a, tensors_b = self.a["tensors"], self.b["tensors"]
        if by_name:
            self.pairs = [Pair(name, name, NAME) for name in tensors_a if name in tensors_b]
            return [n for n in tensors_a if n not in tensors_b], [n for n in tensors_b if n not in tensors_a]
        found = {one: Pair(one, two, f"{NAME} and {BYTES}" if one == two else BYTES) for one, two in same.items()}
        taken = set(same.values())
        for one, two, how in self._in_layers(found, taken):
            equal = tensors_a[one]["sha256"] == tensors_b[two]["sha256"]
            found[one] = Pair(one, two, f"{NAME} and {BYTES}" if one == two and equal else how)
            taken.add(two)
        self.pairs = [found[name] for name in tensors_a if name in found]
        left_a = [name for name in tensors_a if name not in found]
        left_b = [name for name in tensors_b if name not in taken]
        return self._zeros(left_a, left_b)

    def _in_layers(self, found: Mapping[str, Pair], taken: set[str]) -> Iterator[tuple[str, str, str]]:
        """Tensors of matched layers, by what they are there; those of no layer by their names."""
        for a, b in self.layers.to_b.items():
            rest = [t for t in self.layers.b.nodes[b].tensors if t not in taken]
            mine = [t for t in self.layers.a.nodes[a].tensors if t not in found]
            if not rest or not mine:
                continue
            if self.layers.a.nodes[a].kind == self.layers.b.nodes[b].kind:
                same = self._in_layer(a, b, mine, rest)
            else:  # the roles of another kind of layer mean something else
                same = _same_bytes(self.a, self.b, mine, rest)
            for one, two in same.items():
                yield one, two, self.layers.how[a]
        for name, item in self.a["tensors"].items():
            other = self.b["tensors"].get(name, {"layer": ""})
            if item["layer"] is None and other["layer"] is None and name not in found and name not in taken:
                yield name, name, NAME

    def _in_layer(self, a: str, b: str, mine: Sequence[str], rest: Sequence[str]) -> dict[str, str]:
        """Tensors that are called alike in their layers, else those of the same role, labels and source."""
        ends = {t.removeprefix(b): t for t in rest if not source_of(self.b, self.b["tensors"][t])[0]}
        found = {t: ends[t.removeprefix(a)] for t in mine if t.removeprefix(a) in ends}
        taken = set(found.values())
        places = {key: t for t, key in self._keys(self.b, rest, {}).items() if t not in taken}
        for t, key in self._keys(self.a, mine, self.sources).items():
            if t not in found and key in places:
                found[t] = places.pop(key)
        return found

    def _keys(self, manifest: Manifest, names: Iterable[str], sources: Mapping[str, str]) -> dict[str, Any]:
        """What tells the tensors of one layer apart: role, labels, and the source as B calls it."""
        found: dict[str, Any] = {}
        for name in names:
            item = manifest["tensors"][name]
            # a label that repeats the role (the two biases of an operator) tells nothing
            labels = [
                pair for pair in item["at"].items() if isinstance(pair[1], str) and pair[1] not in ("", item["role"])
            ]
            source, number = source_of(manifest, item)
            found[name] = (item["role"], *sorted(labels), sources.get(source, source), number)
        return found

    def _zeros(self, left_a: list[str], left_b: list[str]) -> tuple[list[str], list[str]]:
        """Tensors that the other side says are zero are paired with that."""
        zeros_b = {
            name for name in left_a
            if (layer := self.layers.to_b.get(self.a["tensors"][name]["layer"])) is not None
            and self.a["tensors"][name]["role"] in self.b["layers"][layer].get("zero", ())
        }  # fmt: skip
        zeros_a = {
            name for name in left_b
            if (layer := self.layers.to_a.get(self.b["tensors"][name]["layer"])) is not None
            and self.b["tensors"][name]["role"] in self.a["layers"][layer].get("zero", ())
        }  # fmt: skip
        self.pairs += [Pair(name, None, "zero") for name in left_a if name in zeros_b]
        self.pairs += [Pair(None, name, "zero") for name in left_b if name in zeros_a]
        return [n for n in left_a if n not in zeros_b], [n for n in left_b if n not in zeros_a]


def source_of(manifest: Manifest, item: Entry) -> tuple[str, int]:
    """The value whose features a part of a split kernel reads, and which of its segments; no name if it is whole."""
    for axis, place in item["at"].items():
        if isinstance(place, int):
            segments = manifest["weights"].get(item["weight"], {}).get("segments", {}).get(axis, [])
            if place < len(segments):
                name = segments[place]["from"]
                return str(name), sum(segment["from"] == name for segment in segments[:place])
    return "", 0


def _source_names(layers: Matching) -> dict[str, str]:
    """What the values of A, which kernels are split by, are called in B."""
    names = {operand: name for name, operand in layers.b.values.items()}
    images = ((name, layers.image(operand)) for name, operand in layers.a.values.items())
    return {name: names[image] for name, image in images if image is not None and image in names}
