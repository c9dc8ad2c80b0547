"""Two sides compared: what matches what, the facts, and how far each tensor, gate and layer moved."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wexport.delta.change import Change, estimated
from wexport.delta.facts import alias_facts, layer_facts, port_facts, tensor_facts
from wexport.delta.graph import graph_of
from wexport.delta.match import Matching, match_layers, match_names
from wexport.delta.models import GRAPH, STRUCTURE, VALUES, Fact, Models
from wexport.delta.origin import notes, provenance
from wexport.delta.side import Progress, Side
from wexport.delta.sums import Group, equal_counts, groups_of, same_weights
from wexport.delta.tensors import Pair, Tensors, anchors, forms, source_of, unique_bytes
from wexport.delta.wiring import align_calls

_INTEGERS = ("I", "U", "BOOL")


@dataclass(frozen=True, slots=True)
class Difference:
    """What changed from A to B.

    `facts` are the differences; `provenance` what differs of where the models come from, from A to B; `layers` and
    `tensors` what was matched with what, and how; `equal` counts what is the same under the same name, `within` the
    tensors that moved no further than the tolerance; `notes` say what could not be compared.
    """

    a: Side
    b: Side
    facts: tuple[Fact, ...]
    provenance: Mapping[str, tuple[Any, Any]]
    layers: tuple[Pair, ...]
    tensors: tuple[Pair, ...]
    groups: tuple[Group, ...]
    equal: Mapping[str, int]
    within: int
    same_weights: bool
    notes: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether nothing differs, provenance aside."""
        return not self.facts


def difference(
    a: Side,
    b: Side,
    *,
    by_name: bool = False,
    known: Iterable[tuple[str, str]] = (),
    tolerance: float = 0.0,
    top: int = 0,
    progress: Progress = lambda size: None,
) -> Difference:
    """Compare two sides.

    Args:
        a: one side, the older.
        b: the other.
        by_name: match by names alone.
        known: layers that are known to be each other's.
        tolerance: tensors whose relative change is at most this count as equal.
        top: how many places of each axis of a changed tensor to name that moved most.
        progress: called with the number of bytes read, from several threads.

    Raises:
        BundleError: a bundle's data do not fit its manifest.
        SourceError: a file cannot be read to its end.
    """
    one, two = a.manifest, b.manifest
    loose = _family(one) != _family(two)
    same = {} if by_name else unique_bytes(one, two)
    layers = _matched(one, two, loose, by_name, [*known, *anchors(one, two, same)])
    models = Models(one, two, layers, loose, bool(one["calls"]) != bool(two["calls"]))
    align_calls(models)
    tensors = Tensors(one, two, layers)
    gone, new = tensors.match(same, by_name)
    changes = _changes(a, b, tensors.pairs, top, progress)
    facts = [*port_facts(models), *layer_facts(models, set(gone), set(new))]
    for name in gone:
        facts += _lone("tensor removed", name, None, models)
    for name in new:
        facts += _lone("tensor added", None, name, models)
    names = {pair.a: pair.b for pair in tensors.pairs if pair.a is not None and pair.b is not None}
    for pair in tensors.pairs:
        facts += tensor_facts(models, pair, changes.get(pair), _expected(models, tensors, pair))
    facts += alias_facts(models, names)
    kept = [fact for fact in facts if not _within(fact, tolerance)]
    return Difference(
        a,
        b,
        tuple(kept),
        provenance(one, two),
        tuple(Pair(x, y, layers.how[x]) for x, y in layers.to_b.items()),
        tuple(tensors.pairs),
        tuple(groups_of(models, tensors, changes)),
        equal_counts(models, tensors.pairs, kept),
        len(facts) - len(kept),
        same_weights(tensors.pairs, gone, new, models),
        tuple(notes(a, b, changes, models)),
    )


def _family(manifest: Mapping[str, Any]) -> tuple[str, str]:
    """What two models must have in common to be compared as they are: the framework, and its kind of file."""
    about = manifest["model"]
    return about.get("framework", ""), about.get("source", {}).get("format", "").partition("-")[0]


def _matched(
    one: Mapping[str, Any], two: Mapping[str, Any], loose: bool, by_name: bool, tied: Iterable[tuple[str, str]]
) -> Matching:
    graphs = graph_of(one, loose), graph_of(two, loose)
    if bool(one["calls"]) != bool(two["calls"]):  # a file of weights alone tells of nothing else
        for graph in graphs:
            graph.keep_weighted()
    shapes = forms(one, graphs[0]), forms(two, graphs[1])
    return match_names(*graphs, shapes) if by_name else match_layers(*graphs, shapes, tied)


def _lone(what: str, a: str | None, b: str | None, m: Models) -> Iterator[Fact]:
    """A tensor without a partner, unless its whole layer has none."""
    item = m.b["tensors"][b] if b is not None else m.a["tensors"][a]
    layers = m.layers.to_a if b is not None else m.layers.to_b
    if item["layer"] is None or item["layer"] in layers:
        category = GRAPH if m.loose and item["layer"] is None else STRUCTURE
        yield Fact(what, category, a, b, {"dtype": item["dtype"], "shape": item["shape"]})


def _changes(a: Side, b: Side, pairs: Sequence[Pair], top: int, progress: Progress) -> dict[Pair, Change]:
    """How far each pair of the same shape moved whose bytes differ."""
    tensors = a.manifest["tensors"], b.manifest["tensors"]
    moved = [pair for pair in pairs if comparable(tensors[0].get(pair.a), tensors[1].get(pair.b))]
    exact = [pair for pair in moved if all(n is None or s.has_data for s, n in ((a, pair.a), (b, pair.b)))]
    known = set(exact)
    found = {pair: estimated(a.manifest, b.manifest, pair.a, pair.b) for pair in moved if pair not in known}
    if exact:
        found |= _measured(a, b, exact, top, progress)
    return {pair: found[pair] for pair in moved}


def _measured(a: Side, b: Side, pairs: Sequence[Pair], top: int, progress: Progress) -> dict[Pair, Change]:
    from wexport.delta.measure import measured
    from wexport.work import run_all

    found: dict[Pair, Change] = {}

    def size(pair: Pair) -> int:
        sides = ((a, pair.a), (b, pair.b))
        return sum(side.items[name].size for side, name in sides if name is not None)

    def measure(pair: Pair) -> None:
        found[pair] = measured(a, b, pair.a, pair.b, top)
        progress(size(pair))

    run_all(measure, sorted(pairs, key=lambda pair: -size(pair)), sum(map(size, pairs)))
    for pair in pairs:
        for side, name in ((a, pair.a), (b, pair.b)):
            side.read += side.items[name].size if name is not None and side.what == "bundle" else 0
    return found


def comparable(a: Mapping[str, Any] | None, b: Mapping[str, Any] | None) -> bool:
    """Whether two tensors of other bytes have their elements in the same places."""
    if a is None or b is None:
        return True
    differ = a["sha256"] != b["sha256"] or a["dtype"] != b["dtype"]
    if a["dtype"].startswith(_INTEGERS) != b["dtype"].startswith(_INTEGERS):
        return False  # one was quantized: its numbers mean something else
    return differ and [n for n in a["shape"] if n != 1] == [n for n in b["shape"] if n != 1]


def _within(fact: Fact, tolerance: float) -> bool:
    """Whether a tensor moved by no more than the tolerance, for certain, and no number became, or was, none."""
    if tolerance <= 0 or fact.category != VALUES or fact.change is None:
        return False
    most = fact.change.at_most
    return most is not None and most <= tolerance and fact.change.nonfinite == 0 and not fact.change.jumps


def _expected(m: Models, tensors: Tensors, pair: Pair) -> str | None:
    """What a tensor of A is called in B if only its layer, or the source that it reads, was renamed."""
    item = m.a["tensors"].get(pair.a)
    layer = m.layers.to_b.get(item["layer"]) if item is not None else None
    if item is None or layer is None or pair.a is None:
        return None
    name = f"{layer}{pair.a.removeprefix(item['layer'])}"
    source, number = source_of(m.a, item)
    end = f".from.{source}" + (f"~{number + 1}" if number else "")
    if source and name.endswith(end) and source in tensors.sources:
        name = name.removesuffix(end) + end.replace(source, tensors.sources[source])
    return name
