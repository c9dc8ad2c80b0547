"""What many tensors come to: how far a layer or gate moved as one, what is equal, whether all weights are."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wexport.delta.change import Change, together
from wexport.delta.models import Fact, Models
from wexport.delta.tensors import Pair, Tensors, source_of


@dataclass(frozen=True, slots=True)
class Group:
    """A layer, a gate (or direction, or head part) of it, or what it reads from one source: how far it moved as one."""

    layer: str
    part: str
    change: Change


def groups_of(m: Models, tensors: Tensors, changes: Mapping[Pair, Change]) -> Iterator[Group]:
    """Each layer with tensors that moved, its gates and its sources, all their tensors together."""
    members: dict[tuple[str, str], list[tuple[Pair, Change | None]]] = {}
    for pair in tensors.pairs:
        change = changes.get(pair)
        side, name = (m.b, pair.b) if pair.b is not None else (m.a, pair.a)
        item = side["tensors"][name]
        layer = str(item["layer"] or "") if pair.b is not None else m.layers.to_b.get(item["layer"], "")
        for part in ("", *parts_of(side, item)) if layer else ():
            members.setdefault((layer, part), []).append((pair, change))
    moving = {layer for (layer, _), pairs in members.items() if any(change is not None for _, change in pairs)}
    for (layer, part), pairs in members.items():
        if layer in moving:
            moved = [change for _, change in pairs if change is not None]
            still = (m.a["stats"].get(pair.a, {}).get("l2") for pair, change in pairs if change is None)
            yield Group(layer, part, together(moved, still))


def parts_of(manifest: Mapping[str, Any], item: Mapping[str, Any]) -> Iterator[str]:
    """The labels of a tensor, together, and its source."""
    labels = [label for label in item["at"].values() if isinstance(label, str) and label not in ("", item["role"])]
    if labels:
        yield ".".join(labels)
    source, _ = source_of(manifest, item)
    if source:
        yield f"from.{source}"


def equal_counts(m: Models, pairs: Sequence[Pair], facts: Sequence[Fact]) -> dict[str, int]:
    """How many layers and tensors nothing is said of, and the parameters of these."""
    touched_tensors = {fact.b for fact in facts if fact.what.startswith(("tensor", "values"))}
    equal = [pair.b for pair in pairs if pair.a == pair.b and pair.a is not None and pair.b not in touched_tensors]
    touched = {fact.b for fact in facts if fact.what.startswith(("layer", "attribute"))}
    touched |= {m.b["tensors"][name]["layer"] for name in touched_tensors if name in m.b["tensors"]}
    touched |= {m.layers.to_b.get(m.a["tensors"][fact.a]["layer"]) for fact in facts if fact.a in m.a["tensors"]}
    layers = sum(1 for a, b in m.layers.to_b.items() if a == b and b not in touched)
    size = sum(math.prod(m.b["tensors"][name]["shape"]) for name in equal)
    return {"layers": layers, "of_layers": len(m.layers.b.nodes), "tensors": len(equal), "parameters": size}


def same_weights(pairs: Sequence[Pair], gone: Sequence[str], new: Sequence[str], m: Models) -> bool:
    """Whether every weight of each side has a partner with the same bytes; constants are none."""
    left = [m.a["tensors"][name]["layer"] for name in gone] + [m.b["tensors"][name]["layer"] for name in new]
    return not any(left) and all(
        pair.a is not None
        and pair.b is not None
        and m.a["tensors"][pair.a]["sha256"] == m.b["tensors"][pair.b]["sha256"]
        for pair in pairs
    )
