"""A difference in the order in which people read it: a verdict, lines by section, a table of what moved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wexport.delta.difference import Difference
from wexport.delta.models import GRAPH, NAMES, STRUCTURE, VALUES, Fact
from wexport.delta.table import cells, percent, weight
from wexport.words import attribute, count, shape_text

_FEW = 3  # tensors of a layer that are shown unless all are asked for


@dataclass(frozen=True, slots=True)
class Line:
    """A difference in words: `sign` is `+`, `-`, `~` or `>` (renamed); `name` whose it is; `text` what."""

    sign: str
    name: str
    text: str


def verdict(found: Difference) -> str:
    """The difference in a few words."""
    if found.same:
        return "the same" if not found.within else "the same, within the tolerance"
    if not found.same_weights:
        return "different"
    otherwise = {fact.category for fact in found.facts} <= {NAMES, GRAPH}
    return "same weights, other names" if otherwise else "same weights, another graph"


def headline(found: Difference) -> str:
    """What differs, counted: `2 layers added, 1 attribute changed, 14 tensors moved, most of all ...`."""
    counts = Counter(fact.what for fact in found.facts if fact.category != GRAPH)
    moved = counts.pop("values changed", 0)
    if alone := sum(_is_lone_activation(fact) for fact in found.facts):
        counts["layer renamed"] -= alone
        counts += Counter()  # without those of which none is left
    words = [f"{count(n, what.partition(' ')[0])} {what.partition(' ')[2]}" for what, n in counts.items()]
    words += [f"{count(alone, 'activation')} written otherwise"] if alone else []
    words += [f"{count(moved, 'tensor')} moved"] if moved else []
    if broken := sum(bool(fact.change and fact.change.nonfinite) for fact in found.facts):
        words.append(f"NaN or infinity appeared in {count(broken, 'tensor')}")
    elif moved > 1:
        most = max((fact for fact in found.facts if fact.category == VALUES), key=lambda fact: weight(fact.change))
        relative = cells(most.change)[0] if most.change is not None else "?"
        words[-1] += f", {most.name} most ({relative})"
    return ", ".join(words)


def _is_lone_activation(fact: Fact) -> bool:
    """Whether one side has a layer of its own for what the other side's layer does itself."""
    return fact.detail.get("how") == "activation" and (fact.a is None or fact.b is None)


def equal_text(found: Difference) -> str:
    """What is the same, counted."""
    equal, tensors = found.equal, len(found.b.manifest["tensors"])
    within = f"; {count(found.within, 'tensor')} within the tolerance" if found.within else ""
    return (
        f"equal: {equal['tensors']:,} of {count(tensors, 'tensor')} ({count(equal['parameters'], 'parameter')}), "
        f"{equal['layers']:,} of {count(equal['of_layers'], 'layer')}{within}"
    )


def structure(found: Difference, everything: bool) -> list[Line]:
    """What was added, removed, rewired, reshaped; attributes; many tensors of one layer or type in one line."""
    facts = [fact for fact in found.facts if fact.category == STRUCTURE]
    lines = []
    keys = [_group(found, fact) for fact in facts]
    alike: dict[tuple[str, ...] | None, list[Fact]] = {}
    for key, fact in zip(keys, facts, strict=True):
        alike.setdefault(key, []).append(fact)
    for key, fact in zip(keys, facts, strict=True):
        if key is None or everything or len(alike[key]) <= _FEW:
            lines.append(_line(fact))
        elif fact is alike[key][0]:
            lines.append(_together(key, alike[key]))
    graph = [fact for fact in found.facts if fact.category == GRAPH]
    if everything:
        lines += map(_line, graph)
    elif graph:
        ways = Counter(fact.what.split()[1] for fact in graph)
        other = len(graph) - ways["added"] - ways["removed"]  # attributes, wiring, shapes
        parts = [f"{n:,} only in {side}" for word, side in (("removed", "A"), ("added", "B")) if (n := ways[word])]
        parts += [f"{count(other, 'detail')} of notation"] if other else []
        lines.append(
            Line("~", "layers without weights", f"written otherwise by the other framework: {', '.join(parts)}")
        )
    return lines


def _group(found: Difference, fact: Fact) -> tuple[str, ...] | None:
    """Facts that may share a line: the same of many tensors of a layer, or a type of many tensors."""
    if fact.what == "tensor retyped":
        return (fact.what, str(fact.detail["from"]), str(fact.detail["to"]))
    if not fact.what.startswith("tensor"):
        return None
    side, name = (found.b, fact.b) if fact.b is not None else (found.a, fact.a)
    return (fact.what, str(side.manifest["tensors"][name]["layer"]))


def _together(key: tuple[str, ...], facts: Sequence[Fact]) -> Line:
    what = key[0].partition(" ")[2]
    if what == "retyped":
        most = max((fact.change.relative or 0.0 for fact in facts if fact.change is not None), default=None)
        rounded = all(fact.change is not None and fact.change.rounded for fact in facts)
        moved = "" if most is None else f"{'rounded' if rounded else 'moved'} by at most {percent(most)}"
        return Line("~", count(len(facts), "tensor"), f"{key[1]} -> {key[2]}" + (f", {moved}" if moved else ""))
    first = _line(facts[0])
    sign = first.sign
    name = first.name.removeprefix(f"{key[1]}.")
    return Line(sign, key[1], f"{count(len(facts), 'tensor')} {what}, such as {name} {first.text}".rstrip())


def _line(fact: Fact) -> Line:
    """A difference of structure in words."""
    thing, _, way = fact.what.partition(" ")
    detail = fact.detail
    sign = {"added": "+", "removed": "-"}.get(way, "~")
    name = fact.name if thing in ("layer", "tensor", "attribute", "alias") else f"{thing} {fact.name}"
    if thing == "layer" and sign != "~":
        return Line(sign, name, _placed(detail, sign))
    if thing == "tensor" and sign != "~":
        return Line(sign, name, f"{detail['dtype']} {shape_text(detail['shape'])}")
    if thing == "alias":
        return Line(sign, name, f"{'shares' if sign == '+' else 'no longer shares'} {detail['tensor']}")
    if thing == "attribute":
        where = f"{detail['attribute']}: " + _change(detail, attribute)
        return Line(sign, str(detail.get("layer", name)), where)
    if way == "rewired" and "calls" in detail:
        old, new = (count(n, "time") for n in detail["calls"])
        return Line(sign, name, f"is called {new}, was {old}")
    if way == "rewired":
        role = detail.get("argument", "x")
        verb = "is" if thing == "output" else "reads" if role == "x" else f"reads as {role}"
        return Line(sign, name, f"{verb} {_names(detail['to'])}, was {_names(detail['from'])}")
    if way == "reordered":
        return Line(sign, name, f"is number {detail['to'] + 1}, was {detail['from'] + 1}")
    if way == "reshaped":
        return Line(sign, name, _change(detail, shape_text))
    moved = ""
    if fact.change is not None and fact.change.relative is not None:
        moved = f", {'rounded' if fact.change.rounded else 'moved'} by {percent(fact.change.relative)}"
    return Line(sign, name, (_change(detail, str) if "from" in detail else "") + moved)


def _change(detail: Mapping[str, Any], words: Any) -> str:
    old, new = (words(detail[key]) if detail[key] is not None else "none" for key in ("from", "to"))
    return f"{old} -> {new}"


def _placed(detail: Mapping[str, Any], sign: str) -> str:
    was = "was " if sign == "-" else ""
    after, before = _names(detail["after"]), _names(detail["before"])
    where = f", {was}after {after}" if after else ""
    if after and before:
        one = len(detail["after"]) == len(detail["before"]) == 1
        where = f", {was}between {after} and {before}" if one else f"{where}; before {before}"
    tensors = f", {count(detail['tensors'], 'tensor')}" if detail["tensors"] else ""
    return f"{detail['kind']}{where}{tensors}"


def _names(names: Sequence[str]) -> str:
    if len(names) > 4:
        return f"{', '.join(names[:3])} and {len(names) - 3} more"
    return ", ".join(names) if names else ""


def names(found: Difference) -> list[Line]:
    """What is called otherwise; tensors that merely follow their layer are counted with it."""
    tensors = found.b.manifest["tensors"]
    following = Counter(tensors[p.b]["layer"] for p in found.tensors if p.b is not None and p.a != p.b)
    lines = []
    for fact in found.facts:
        if fact.category != NAMES:
            continue
        thing, how = fact.what.partition(" ")[0], fact.detail.get("how")
        if how == "activation":
            a, b, host = fact.a or "none", fact.b or "none", fact.detail["layer"]
            side = "" if fact.a and fact.b else f"a layer of its own in {'B' if fact.b else 'A'} only, "
            name = f"{a} -> {b}" if not side else str(fact.b or fact.a)
            lines.append(Line(">", name, f"{side}the activation of {host}"))
            continue
        text = f"matched by {how}" if how else ""
        if thing == "layer" and following[fact.b]:
            text = f"{count(following[fact.b], 'tensor')} with it; {text}"
        lines.append(Line(">", f"{'' if thing in ('layer', 'tensor') else thing + ' '}{fact.a} -> {fact.b}", text))
    return lines


def origins(found: Difference) -> list[str]:
    """Where the two come from, as far as that differs."""
    lines = []
    for key, (a, b) in found.provenance.items():
        if key == "classes":
            words = [f"{kind}: {'/'.join(a.get(kind, ['none']))} -> {'/'.join(b.get(kind, ['none']))}"
                     for kind in dict.fromkeys((*a, *b)) if kind in a and kind in b and a[kind] != b[kind]]  # fmt: skip
            if words:
                lines.append(f"class words: {'; '.join(words[:4])}" + (" ..." if len(words) > 4 else ""))
        elif key == "left out":
            lines.append(f"left out: {count(a, 'array')} -> {b:,}")
        else:
            lines.append(f"{key}: {a if a is not None else 'unknown'} -> {b if b is not None else 'unknown'}")
    return lines
