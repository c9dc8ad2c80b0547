"""How far things moved, as a table: the layer that moved most first, below it its gates or tensors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from wexport.delta.change import Change
from wexport.delta.difference import Difference
from wexport.delta.models import VALUES, Fact

_FEW = 3  # tensors of a layer that are shown unless all are asked for
_MANY = 12  # layers


@dataclass(frozen=True, slots=True)
class Row:
    """A tensor that moved, or (`depth` 0, above its tensors) a layer with all of its tensors together."""

    name: str
    depth: int
    change: Change


def rows(found: Difference, everything: bool) -> Iterator[Row | int]:
    """What moved, the layer that moved most first; a number says how many tensors of a layer are not shown.

    A negative one says how many layers are not.
    """
    by_layer: dict[str, list[Fact]] = {}
    for fact in found.facts:
        if fact.category == VALUES and fact.change is not None:
            side, name = (found.b, fact.b) if fact.b is not None else (found.a, fact.a)
            by_layer.setdefault(str(side.manifest["tensors"][name]["layer"] or ""), []).append(fact)
    sums = {group.layer: group.change for group in found.groups if not group.part}
    # a layer's row is shown above several tensors; one tensor stands for itself, and its layer does not count
    shown_by = {layer: facts[0].change if len(facts) == 1 else sums.get(layer) for layer, facts in by_layer.items()}
    order = sorted(by_layer, key=lambda layer: -weight(shown_by[layer]))
    for layer in order if everything else order[:_MANY]:
        facts = sorted(by_layer[layer], key=lambda fact: -weight(fact.change))
        if len(facts) > 1 and layer in sums:
            yield Row(layer, 0, sums[layer])
        parts = _parts(found, layer) if len(facts) > _FEW else []
        yield from parts
        shown = facts if everything else [] if parts else facts[:_FEW]
        for fact in shown:
            assert fact.change is not None
            yield Row(fact.name, int(len(facts) > 1), fact.change)
        if len(facts) > len(shown):
            yield len(facts) - len(shown)
    if not everything and len(order) > _MANY:
        yield -(len(order) - _MANY)


def _parts(found: Difference, layer: str) -> list[Row]:
    """The gates, directions or sources of a layer that moved, each as one; none where it is but one."""
    groups = [g for g in found.groups if g.layer == layer and g.part and g.change.moved != 0]
    rows = [Row(f"{layer}.{g.part}", 1, g.change) for g in sorted(groups, key=lambda g: -weight(g.change))]
    return rows if len(rows) > 1 else []


def weight(change: Change | None) -> float:
    """What things are sorted by: NaN that appeared and what was zero come first, then the largest relative change."""
    if change is not None and change.jumps:
        return float("inf")
    if change is None or (change.relative is None and not change.from_zero):
        return -1.0
    return float("inf") if change.from_zero else change.relative or 0.0


def percent(x: float) -> str:
    """A part of one, in percent, with three digits."""
    return f"{100 * x:.3g} %" if x < 1e4 else f"{x:.3g} times"


def cells(change: Change) -> tuple[str, str, str, str]:
    """A change in a table: relative, the largest of an element, cosine, share of the elements."""
    if change.relative is not None:
        about = "~" if change.estimated and change.error else ""
        small = change.estimated and change.moved is not None and change.moved <= change.floor
        relative = (
            f"< {percent(change.floor / change.size_a)}"
            if small and change.size_a
            else about + percent(change.relative)
        )
    else:
        relative = "from zero" if change.from_zero else "?"
    largest = "" if change.max_abs is None else f"{change.max_abs:.3g}"
    cosine = "" if change.cosine is None else f"{change.cosine:.4f}".replace("1.0000", "1")
    share = "" if change.share is None else percent(change.share)
    if change.nonfinite:
        share = f"{share}, {change.nonfinite:,} now NaN or infinite".removeprefix(", ")
    elif change.jumps:
        share = f"{share}, {change.jumps:,} were NaN or infinite".removeprefix(", ")
    return relative, largest, cosine, share


def table_cells(change: Change) -> tuple[str, str, str, str]:
    """As `cells`, but empty where numbers became NaN and the others did not move: zeros would say all is well."""
    found = cells(change)
    return ("", "", "", found[3]) if change.jumps and not change.moved else found


def top_lines(found: Difference) -> list[str]:
    """The places of each tensor that moved most."""
    lines = []
    for fact in found.facts:
        if fact.change is not None:
            for axis, places in fact.change.top.items():
                words = [f"{i} ({'from zero' if r is None else percent(r)})" for i, _, r in places]
                lines.append(f"{fact.name}, {axis}: {', '.join(words)}")
    return lines
