"""Projections that one layer makes for a whole attention: which of its outputs are query, key and value.

The features of each operand are followed back (`lineage`); a dense layer is taken apart where they are runs of its
outputs, equally long, that together are all of them. Attentions fold the batch and the heads into one axis, which can
only be followed for a batch of known length: so it is done for two lengths, and both must give the same.
"""

from __future__ import annotations

from dataclasses import replace

from wexport.features import span
from wexport.layout import Rule, parse_side
from wexport.lineage import Lineage, trace
from wexport.model import Layer, Model, every

_PARTS = ("query", "key", "value")


_LENGTHS = (1009, 2003)  # primes, so that no product of other lengths is taken for one


def packed(model: Model) -> dict[str, tuple[str, ...]]:
    """For each layer that is several projections, their parts in the order of its outputs."""
    if not model.attentions:
        return {}
    one, two = (_packed(model, trace(_sized(model, length))) for length in _LENGTHS)
    return {name: parts for name, parts in one.items() if two.get(name) == parts}


def _sized(model: Model, length: int) -> Model:
    """The model with a length for each free dimension of its inputs: one for each name."""
    names: dict[object, int] = {}
    inputs = {}
    for name, port in model.inputs.items():
        shape = port.shape
        if shape is not None:
            free = {i: n or (name, i) for i, n in enumerate(shape) if not isinstance(n, int)}
            shape = tuple(
                names.setdefault(free[i], length + 2 * len(names)) if i in free else n for i, n in enumerate(shape)
            )
        inputs[name] = replace(port, shape=shape)
    return replace(model, inputs=inputs)


def _packed(model: Model, lineage: Lineage) -> dict[str, tuple[str, ...]]:
    makers = {call.out[0].value: call.layer for call in every(model.calls) if call.out and call.out[0].value}
    layers = {layer.name: layer for layer in model.layers}
    found: dict[str, set[tuple[int, int, str]]] = {}
    for attention in model.attentions:
        for part, operand in zip(_PARTS, attention, strict=True):
            value = lineage.values.get(operand)
            for source in {p.source for p in (value.parts if value else None) or ()}:
                rank = lineage.values[source].rank if source in lineage.values else 0
                run = span(value, rank - 1) if value else None
                layer = makers.get(source)
                if run is not None and layer is not None and layers[layer].kind == "dense":
                    found.setdefault(layer, set()).add((run[1], run[2], part))
    return {name: parts for name, runs in found.items() if (parts := _tiled(runs, layers[name]))}


def _tiled(runs: set[tuple[int, int, str]], layer: Layer) -> tuple[str, ...]:
    """The parts, if they are different ones, equally long, and all of the layer's outputs; else nothing."""
    ordered = sorted(runs)
    size = layer.attributes["units"] // len(ordered)
    fits = [start for start, *_ in ordered] == [i * size for i in range(len(ordered))]
    same = all(n == size for _, n, _ in ordered) and size * len(ordered) == layer.attributes["units"]
    parts = tuple(part for *_, part in ordered)
    return parts if len(parts) > 1 and fits and same and len(set(parts)) == len(parts) else ()


def apart(rule: Rule, parts: tuple[str, ...]) -> Rule:
    """A rule of such a layer, with a tensor for each part."""
    axes = [a for group in parse_side(rule.layout) for a in group]
    if "out" not in axes or "layer" in rule.labels or rule.steps:
        return rule
    name, _, kept = rule.target.partition(":")
    sizes = {a: n for a, n in rule.sizes.items() if a != "out"}
    layout = " ".join(_spelled(group) for group in parse_side(rule.layout))
    return replace(
        rule, layout=layout, target=f"{{part}}.{name}:{kept}", labels={"part": parts, **rule.labels}, sizes=sizes
    )


def _spelled(group: tuple[str, ...]) -> str:
    words = [w for a in group for w in (("part", "out") if a == "out" else (a,))]
    return words[0] if len(words) == 1 else f"({' '.join(words)})" if words else "1"
