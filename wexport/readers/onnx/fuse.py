"""Operators that are one layer together: a product and its bias, an activation behind a layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from wexport.layers.activation import LINEAR
from wexport.model import Port
from wexport.readers.onnx.biases import fuse_biases
from wexport.readers.onnx.lower import Draft, every
from wexport.readers.onnx.norms import fuse_norms
from wexport.readers.onnx.ops import Body, Graph, Op, rename
from wexport.readers.onnx.statics import Statics
from wexport.readers.onnx.tensors import element_type


def bypass(graph: Graph, ports: Mapping[str, Port]) -> None:
    """Take out what does nothing: Identity, and a Cast to the type that a value has."""
    ends = {
        *graph.outputs,
        *(o for ops in _lists(graph.ops) for op in ops for b in op.bodies.values() for o in b.outputs),
    }
    names: dict[str, str] = {}
    for ops in _lists(graph.ops):
        kept = []
        for op in ops:
            source = op.inputs[0] if op.inputs else ""
            port = ports.get(source)
            idle = op.type == "Identity" or (
                op.type == "Cast" and port is not None and port.dtype == element_type(op.attributes.get("to", 0))
            )
            if idle and not op.domain and port is not None and op.outputs[0] not in ends:
                names[op.outputs[0]] = names.get(source, source)
            else:
                kept.append(op)
        ops[:] = kept
    rename(graph.ops, names)


def settle_reshapes(graph: Graph, statics: Statics, ports: Mapping[str, Port]) -> None:
    """A target that the model works out, though every length of it is known, is x's own, or follows from the others."""
    for ops in _lists(graph.ops):
        for op in ops:
            if op.type != "Reshape" or op.domain or len(op.inputs) < 2 or op.inputs[1] in statics.known:
                continue
            target, port = statics.lengths.get(op.inputs[1]), ports.get(op.inputs[0])
            if target is None or port is None or 0 in target:
                continue
            own = list(port.shape or ())
            found = [n if isinstance(n, int) else 0 if own[i : i + 1] == [n] else -1 for i, n in enumerate(target)]
            if None not in target and found.count(-1) <= 1:
                op.attributes["shape"], op.attributes["allowzero"] = found, 0
                op.absorbed, op.inputs = (*op.absorbed, op.inputs[1]), op.inputs[:1]


def settle_loops(graph: Graph) -> None:
    """What a loop carries and never changes is a value from outside; exporters hand weights in so."""
    takers = count_takers(graph)
    for ops in _lists(graph.ops):
        for op in ops:
            if op.type == "Loop" and not op.domain and "body" in op.bodies:
                _settle(op, op.bodies["body"], takers)


def _settle(op: Op, body: Body, takers: Mapping[str, int]) -> None:
    same = {o.outputs[0]: o.inputs[0] for o in body.ops if o.type == "Identity" and not o.domain}
    outside: dict[str, str] = {}
    kept = []
    carried = len(op.inputs) - 2
    if len(body.inputs) != len(op.inputs) or len(body.outputs) <= carried:
        return  # no body of this loop: the room finds out
    for i in range(carried):
        given = body.outputs[1 + i]
        given = same.get(given, given)
        if given == body.inputs[2 + i] and op.inputs[2 + i]:
            outside[body.inputs[2 + i]] = op.inputs[2 + i]
        if body.inputs[2 + i] not in outside or takers.get(op.outputs[i]):
            kept.append(i)  # it changes, or it is read behind the loop
    op.inputs = [*op.inputs[:2], *(op.inputs[2 + i] for i in kept)]
    body.inputs = [*body.inputs[:2], *(body.inputs[2 + i] for i in kept)]
    body.outputs = [body.outputs[0], *(body.outputs[1 + i] for i in kept), *body.outputs[1 + carried :]]
    op.outputs = [*(op.outputs[i] for i in kept if i < len(op.outputs)), *op.outputs[carried:]]
    rename(body.ops, outside)
    body.outputs = [outside.get(o, o) for o in body.outputs]


def fuse(graph: Graph, statics: Statics, ports: Mapping[str, Port]) -> None:
    """Rewrite the graph's operators."""
    takers = count_takers(graph)
    for ops in _lists(graph.ops):
        fuse_biases(ops, statics, ports, takers)
        fuse_norms(ops, statics, ports, takers)


def count_takers(graph: Graph) -> dict[str, int]:
    """How often each value is read, as an output of the model too."""
    found: dict[str, int] = {}
    for name in graph.outputs:
        found[name] = found.get(name, 0) + 1
    for ops in _lists(graph.ops):
        for op in ops:
            for name in op.inputs:
                found[name] = found.get(name, 0) + 1
            for body in op.bodies.values():
                for name in body.outputs:
                    found[name] = found.get(name, 0) + 1
    return found


def _lists(ops: list[Op]) -> Iterator[list[Op]]:
    yield ops
    for op in list(ops):
        for body in op.bodies.values():
            yield from _lists(body.ops)


def merge_activations(drafts: list[Draft], module: Callable[[Draft], str]) -> list[Draft]:
    """An activation that the scope puts inside a layer is that layer's; `module` gives an operator's scope."""
    takers: dict[str, int] = {}
    makers: dict[str, Draft] = {}
    for draft in every(drafts):
        makers.update((o, draft) for o in draft.outputs if o)
        for value in (
            *(o.value for _, o in draft.operands()),
            *(v for b, _ in draft.bodies.values() for v in b.outputs),
        ):
            takers[value] = takers.get(value, 0) + 1
    gone: set[int] = set()
    for draft in every(drafts):
        if draft.lowered.kind != "activation" or draft.bodies:
            continue
        operands = list(draft.operands())
        value = operands[0][1].value
        layer = makers.get(value)
        if layer is None or len(operands) != 1 or takers[value] != 1 or layer.outputs[0] != value or not layer.uses:
            continue
        own = layer.lowered.attributes.get("activation")
        scope = module(layer)
        if own == LINEAR and scope and scope == module(draft):
            attributes = {**layer.lowered.attributes, "activation": draft.lowered.attributes["activation"]}
            layer.lowered = replace(layer.lowered, attributes=attributes)
            layer.outputs[0] = draft.outputs[0]
            gone.add(id(draft))
    return _without(drafts, gone)


def _without(drafts: list[Draft], gone: set[int]) -> list[Draft]:
    kept = [d for d in drafts if id(d) not in gone]
    for draft in kept:
        draft.bodies = {label: (body, _without(inner, gone)) for label, (body, inner) in draft.bodies.items()}
    return kept
