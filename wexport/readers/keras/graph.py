"""From a tree of layers to layers and calls: nested models inlined, implicit masks made explicit.

The k-th call of a layer gives the values `name`, `name@2`, ...; further outputs `name:1`, masks `name:mask`. A layer
of a nested model is `model.layer`; if the model is called m times and calls the layer n times, it has m * n calls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from wexport.errors import LayoutError, SourceError
from wexport.layers.keras import Era, Keras, Stored, Tensor, plain, stored
from wexport.layers.keras_ops import operation
from wexport.model import Arg, Call, Const, Out, Port
from wexport.names import unique
from wexport.readers.keras.masks import MASK_ROLES, pass_masks
from wexport.readers.keras.tree import Entry, Node, Ref, Tree, input_port, refs

_MAX_CALLS = 200_000


NOTHING_KNOWN = Stored("unknown", {}, known=False)


@dataclass(slots=True)
class Draft:
    """A layer on its way: what its class stores, and whether all is known."""

    name: str
    entry: Entry
    stored: Stored
    distributed: int = 0

    @property
    def attributes(self) -> dict[str, Any]:
        """The attributes, with the steps of a TimeDistributed around the whole model."""
        total = self.distributed + self.stored.attributes.get("time_distributed", 0)
        return {**self.stored.attributes, **({"time_distributed": total} if total else {})}


def made_up(name: str, era: Era) -> Draft:
    """A layer that no config lists, of which nothing is known."""
    return Draft(name, Entry(name, Keras(name, "unknown", {}, era), full=name), NOTHING_KNOWN)


@dataclass(slots=True)
class Graph:
    """All layers, and the calls in the order of execution."""

    drafts: dict[str, Draft] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    inputs: dict[str, Port] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    known: dict[str, Port] = field(default_factory=dict)
    masks: dict[str, str | None] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def draft_layers(tree: Tree) -> dict[str, Draft]:
    """Every layer of a tree, nested ones by their dotted names, in the tree's order.

    Raises:
        SourceError: a config lacks what its class needs.
    """
    found: dict[str, Draft] = {}
    _draft(tree, 0, found)
    return found


def _draft(tree: Tree, distributed: int, found: dict[str, Draft]) -> None:
    for entry in tree.entries:
        if entry.model is not None:
            _draft(entry.model, distributed + entry.distributed, found)
        elif not entry.is_input:
            found[entry.full] = Draft(entry.full, entry, _stored(entry), distributed)


def _stored(entry: Entry) -> Stored:
    try:
        return operation(entry.layer) if entry.operation else stored(entry.layer)
    except LayoutError as error:
        raise SourceError(str(error)) from error
    except (TypeError, ValueError, KeyError, AttributeError, IndexError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise SourceError(
            f"{entry.name}: the {entry.layer.class_name} config cannot be understood ({reason})"
        ) from error


def lower(tree: Tree, drafts: dict[str, Draft]) -> Graph:
    """The graph of a model.

    Raises:
        SourceError: calls form a cycle, or there are too many of them.
    """
    graph = Graph(drafts)
    values = {}
    for name, ref in tree.inputs:
        entry = tree.entry(ref.layer)
        graph.inputs[unique(name, graph.inputs)] = input_port(entry)
        values[ref] = list(graph.inputs)[-1]
    _Lowering(graph).model(tree, values, 0)
    for name, ref in tree.outputs:
        if ref in values:
            graph.outputs[unique(name, graph.outputs)] = values[ref]
    _prune(graph)
    return graph


class _Lowering:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.taken = set(graph.inputs)

    def model(self, tree: Tree, values: dict[Ref, str], instance: int) -> None:
        """Emit the calls of one use of a model; `values` maps its inputs and receives all its values."""
        todo = [(e, i) for e in tree.entries for i in range(len(e.nodes)) if not e.is_input]
        used = _outputs_used(tree)
        while todo:
            left = []
            for entry, number in todo:
                node = entry.nodes[number]
                if all(r in values for r in refs((node.args, node.kwargs))):
                    self.call(entry, number, node, values, instance, used)
                else:
                    left.append((entry, number))
            if len(left) == len(todo):
                waiting = ", ".join(sorted({e.full for e, _ in left})[:5])
                raise SourceError(f"the calls of {waiting} wait for each other: the model's graph has a cycle or a gap")
            todo = left
        for ref, port in tree.known.items():
            if ref in values:
                self.graph.known.setdefault(values[ref], port)

    def call(
        self,
        entry: Entry,
        number: int,
        node: Node,
        values: dict[Ref, str],
        instance: int,
        used: Mapping[tuple[str, int], int],
    ) -> None:
        count = instance * len(entry.nodes) + number
        if len(self.graph.calls) > _MAX_CALLS:
            raise SourceError(f"the model has more than {_MAX_CALLS:,} calls once its nested models are spelled out")
        if entry.model is not None:
            self.nested(entry, number, node, values, count)
            return
        name = entry.full
        draft = self.graph.drafts[name]
        args = _resolved(node.args, values), {k: _resolved(v, values) for k, v in node.kwargs.items()}
        bound = self.bind(draft, *args)
        base = unique(name if count == 0 else f"{name}@{count + 1}", self.taken)
        total = used.get((entry.name, number), 1)
        plain = draft.stored.known and draft.stored.bind is None
        roles = list(draft.stored.roles) if plain else ["y"]
        roles += [f"y_{i}" for i in range(len(roles), total)]
        outs = [Out(role, base if i == 0 else unique(f"{base}:{i}", self.taken)) for i, role in enumerate(roles)]
        self.taken |= {o.value or "" for o in outs}
        for i, out in enumerate(outs):
            values[Ref(entry.name, number, i)] = out.value or ""
        self.graph.calls.append(pass_masks(self.graph.masks, draft.stored, entry.layer, name, bound, outs))

    def bind(self, draft: Draft, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Arg]:
        """The arguments of a call by their roles."""
        if draft.stored.bind is not None:
            found = draft.stored.bind(args, kwargs)
            if found is not None:
                kind, attributes, named = found
                fresh = not draft.stored.known or draft.stored.kind == "unknown"
                if fresh or (draft.stored.kind, draft.stored.attributes) == (kind, attributes):
                    draft.stored = replace(draft.stored, kind=kind, attributes=attributes, known=True)
                    return {role: _arg(a) for role, a in named.items()}
            draft.stored = replace(draft.stored, kind="unknown", known=False, bind=None)
        return bind_call(draft.stored, args, kwargs)

    def nested(self, entry: Entry, number: int, node: Node, values: dict[Ref, str], instance: int) -> None:
        tree = entry.model
        assert tree is not None
        given = [values[r] for r in refs(node.args)] or [values[r] for r in refs(node.kwargs)]
        inner: dict[Ref, str] = {}
        if len(given) < len(tree.inputs):
            raise SourceError(f"{entry.full}: the model has {len(tree.inputs)} inputs, its call gives {len(given)}")
        for (_, ref), value in zip(tree.inputs, given, strict=False):
            inner[ref] = value
        self.model(tree, inner, instance)
        for i, (_, ref) in enumerate(tree.outputs):
            values[Ref(entry.name, number, i)] = inner[ref]


def _outputs_used(tree: Tree) -> dict[tuple[str, int], int]:
    """How many outputs of each call are referred to."""
    used: dict[tuple[str, int], int] = {}
    sources = [ref for e in tree.entries for n in e.nodes for ref in refs((n.args, n.kwargs))]
    for ref in (*sources, *(ref for _, ref in tree.outputs)):
        key = (ref.layer, ref.node)
        used[key] = max(used.get(key, 1), ref.tensor + 1)
    return used


def _resolved(found: Any, values: Mapping[Ref, str]) -> Any:
    if isinstance(found, Ref):
        return Tensor(values[found])
    if isinstance(found, Mapping):
        if found.get("class_name") in {"__numpy__", "__tensor__"}:
            return plain(found)
        return {k: _resolved(v, values) for k, v in found.items()}
    if isinstance(found, list | tuple):
        return [_resolved(v, values) for v in found]
    return found


# -- arguments ---------------------------------------------------------------------------------------------------------

_KEYWORDS = {
    "initial_state": "initial_state", "states": "initial_state",
    "query": "query", "value": "value", "key": "key", "query_mask": "query_mask",
    "value_mask": "value_mask", "key_mask": "key_mask", "attention_mask": "mask", "use_causal_mask": "causal",
    "return_attention_scores": "returns_scores",
    "mask": "mask", "count_weights": "count_weights", "reverse": "reverse", "inputs": "x", "sequences": "x", "x": "x",
}  # fmt: skip


def bind_call(stored: Stored, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Arg]:
    """Positional and keyword arguments by the roles that a class gives them."""
    names, positional = list(stored.call), list(args)
    named: dict[str, Any] = {}
    if names and " " in names[0]:  # one list that holds several roles
        items = positional[0] if positional and isinstance(positional[0], list) else positional
        named = dict(zip(names[0].split(), items, strict=False))
    elif names == ["x*"]:
        items = positional[0] if len(positional) == 1 and isinstance(positional[0], list) else positional
        named = {"x": items}
    else:
        if positional and isinstance(positional[0], list) and len(names) > 1 and names[1].endswith("*"):
            positional = [positional[0][0], *([positional[0][1:]] if len(positional[0]) > 1 else []), *positional[1:]]
        for name, item in zip(names, positional, strict=False):
            named[name.rstrip("*")] = item
    for key, item in kwargs.items():
        role = _KEYWORDS.get(key)
        if role is not None and item is not None and item is not False and role not in named:
            named[role] = item
    if isinstance(states := named.get("initial_state"), list):
        named["initial_state"] = _flat(states)  # those of several cells are a list for each
    return {role: _arg(a) for role, a in named.items()}


def _flat(items: Sequence[Any]) -> list[Any]:
    return [i for item in items for i in (_flat(item) if isinstance(item, list) else [item])]


def _arg(found: Any) -> Arg:
    if isinstance(found, Tensor):
        return found.value
    if found is None:
        return None
    if isinstance(found, list | tuple) and _has_tensor(found):
        return tuple(_arg(f) for f in found)
    if isinstance(found, Mapping):
        flat = [f for f in found.values() if _has_tensor(f)]
        return tuple(_arg(f) for f in flat) if flat else None
    return Const(found, _const_type(found), _const_shape(found))


def _has_tensor(found: Any) -> bool:
    if isinstance(found, Tensor):
        return True
    items = found.values() if isinstance(found, Mapping) else found if isinstance(found, list | tuple) else ()
    return any(_has_tensor(f) for f in items)


def _const_type(found: Any) -> str:
    while isinstance(found, list | tuple) and found:
        found = found[0]
    return {bool: "bool", int: "int32", str: "string"}.get(type(found), "float32")


def _const_shape(found: Any) -> tuple[int, ...]:
    shape = []
    while isinstance(found, list | tuple):
        shape.append(len(found))
        found = found[0] if found else None
    return tuple(shape)


# -- outputs that nobody takes -----------------------------------------------------------------------------------------


def _prune(graph: Graph) -> None:
    """Drop masks that nobody takes, and further outputs' names; masks that only such masks needed go with them."""
    while True:
        used = {v for call in graph.calls for a in call.args.values() for v in _names(a)} | set(graph.outputs.values())
        changed = False
        for i, call in enumerate(graph.calls):
            outs = tuple(o for o in call.out if o.role != "mask" or o.value in used)
            outs = tuple(replace(o, value=None) if n and o.value not in used else o for n, o in enumerate(outs))
            args = call.args
            merged = graph.drafts[call.layer].stored
            if merged.mask == "merge" and not merged.attributes.get("masked") and all(o.role != "mask" for o in outs):
                args = {r: a for r, a in args.items() if r not in MASK_ROLES}
            if outs != call.out or len(args) != len(call.args):
                graph.calls[i] = replace(call, args=args, out=outs)
                changed = True
        if not changed:
            return


def _names(arg: Arg) -> list[str]:
    if isinstance(arg, str):
        return [arg]
    return [n for a in arg for n in _names(a)] if isinstance(arg, tuple) else []
