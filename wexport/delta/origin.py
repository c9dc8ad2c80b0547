"""Where two models come from, and what of them could not be compared."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from typing import Any

from wexport.delta.change import Change
from wexport.delta.graph import Graph
from wexport.delta.models import Models
from wexport.delta.side import Side
from wexport.delta.tensors import Pair
from wexport.sketch import ERROR

ESTIMATES = f"changes are estimated from sketches, with a relative standard error of {ERROR:.0%}"


def provenance(one: Mapping[str, Any], two: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What differs of the files that the models come from; never alone a difference."""
    a, b = _origin(one), _origin(two)
    return {key: (a[key], b[key]) for key in a if a[key] != b[key]}


def _origin(manifest: Mapping[str, Any]) -> dict[str, Any]:
    about = manifest["model"]
    classes: dict[str, dict[str, None]] = {}
    for layer in manifest["layers"].values():
        classes.setdefault(layer["kind"], {})[str(layer.get("class"))] = None
    return {
        "framework": about.get("framework"),
        "version": about.get("framework_version"),
        "file": about.get("source", {}).get("file"),
        "format": about.get("source", {}).get("format"),
        "model": about.get("name"),
        "classes": {kind: sorted(words) for kind, words in sorted(classes.items())},
        "left out": len(manifest["left_out"]),
    }


def notes(a: Side, b: Side, changes: Mapping[Pair, Change], m: Models) -> Iterator[str]:
    """What could not be compared, and why."""
    yield from a.warnings
    yield from b.warnings
    bare = [side for side in (a, b) if not side.has_data]
    if changes and bare:
        where = " and ".join(str(side.path) for side in bare)
        yield f"{where}: no data at hand: {ESTIMATES}; max |change|, share and top are unavailable"
    if missing := sum(change.moved is None for change in changes.values()):
        yield f"no sketch of {missing:,} changed tensors: how far they moved is unavailable; compare the bundles"
    if m.bare:
        side = a if not m.a["calls"] else b
        yield f"{side.path}: tells no graph; layers without weights, inputs and wiring are not compared"
    if m.loose:
        yield from _folded(a, m.layers.a, m.layers.to_b, {m.a["tensors"][p.a]["layer"] for p in changes if p.a})
        yield from _folded(b, m.layers.b, m.layers.to_a, {m.b["tensors"][p.b]["layer"] for p in changes if p.b})
        for one, two in m.layers.to_b.items():
            kinds = m.layers.a.nodes[one].kind, m.layers.b.nodes[two].kind
            if kinds[0] != kinds[1] and any(map(_folds, kinds)):
                yield f"{two}: {kinds[0]} in A, {kinds[1]} in B, with numbers computed from the other's"
        yield "other frameworks: layers that only move data are looked through, their notation is no difference"


def _folds(kind: str) -> bool:
    from wexport.layers.complete import KINDS  # a comparison within one framework need not load the rooms

    return kind in KINDS and KINDS[kind].folds


def _folded(side: Side, graph: Graph, partners: Mapping[str, str], moved: Container[str]) -> Iterator[str]:
    """Layers that the other side lacks, behind a layer that moved: exporters fold them into its weights."""
    for node in graph.nodes.values():
        if node.name not in partners and _folds(node.kind):
            for layer in dict.fromkeys(o[1] for o in node.operands() if o[0] == "layer" and o[1] in moved):
                yield f"{side.path}: {node.name} may be folded into the other side's {layer}: its numbers then differ"
