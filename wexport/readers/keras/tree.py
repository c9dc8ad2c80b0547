"""A Keras config, of any version, as a tree of layers and their calls.

    Keras 1       Sequential: a bare list; nodes are lists of [layer, node, tensor]
    Keras 2, tf   [layer, node, tensor, kwargs]; operations are one bare leaf; constants "_CONSTANT_VALUE"
    Keras 3       {"args", "kwargs"} with `__keras_tensor__` leaves, which state shapes

Sources: keras/engine/topology.py (1.2.2), keras/engine/network.py (2.2.4), keras/src/engine/functional.py (2.15),
keras/src/models/functional.py, sequential.py and keras/src/ops/node.py (3.15.1).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from wexport.errors import SourceError
from wexport.layers.keras import ROOMS, Era, Keras, is_builtin, plain
from wexport.model import Json, Port
from wexport.names import unique

MODELS = {"Sequential", "Model", "Functional", "Container", "Network"}
_MAX_DEPTH = 50


@dataclass(frozen=True, slots=True)
class Ref:
    """An output of a call, as a config names it; `node` is the number of the call, from 0."""

    layer: str
    node: int
    tensor: int


@dataclass(frozen=True, slots=True)
class Node:
    """One call: positional and keyword arguments, nested as the config has them."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


@dataclass(slots=True)
class Entry:
    """A layer of a model. `nodes` are its calls; `model` is its inside if it is a model (or wraps one).

    `name` is unique in the model, `full` in all of the tree (dotted); `distributed` counts the TimeDistributed
    wrappers around a wrapped model.
    """

    name: str
    layer: Keras
    nodes: list[Node] = field(default_factory=list)
    model: Tree | None = None
    trainable: bool = True
    distributed: int = 0
    operation: bool = False
    full: str = ""

    @property
    def is_input(self) -> bool:
        """Whether it only stands for an input."""
        return self.layer.class_name == "InputLayer" and self.model is None


@dataclass(slots=True)
class Tree:
    """A model: its layers in the config's order, its inputs and outputs as pairs of a name and a reference."""

    name: str
    class_name: str
    entries: list[Entry] = field(default_factory=list)
    inputs: list[tuple[str, Ref]] = field(default_factory=list)
    outputs: list[tuple[str, Ref]] = field(default_factory=list)
    known: dict[Ref, Port] = field(default_factory=dict)

    def entry(self, name: str) -> Entry:
        """A layer by its name.

        Raises:
            SourceError: there is none.
        """
        for entry in self.entries:
            if entry.name == name:
                return entry
        raise SourceError(f"the model's config refers to a layer {name!r}, which it does not list")

    def walk(self) -> Iterator[Entry]:
        """Every layer, nested models after their entry."""
        for entry in self.entries:
            yield entry
            if entry.model:
                yield from entry.model.walk()


def read_tree(config: Json, era: Era) -> Tree:
    """The tree of a model config: `{"class_name": ..., "config": ...}`.

    Raises:
        SourceError: it is not one, or refers to what is not there.
    """
    if not isinstance(config, Mapping) or not isinstance(config.get("class_name"), str):
        raise SourceError('the architecture has no "class_name"; expected what model.to_json() gives')
    try:
        tree = _Reader(era).model(config, 0)
    except RecursionError as error:
        raise SourceError("the architecture is nested too deeply") from error
    _name_all(tree, "", set())
    return tree


def _name_all(tree: Tree, prefix: str, taken: set[str]) -> None:
    """Give every layer its full name: those of a nested model stand behind the model's and a dot."""
    for entry in tree.entries:
        entry.full = unique(prefix + entry.name, taken)
        taken.add(entry.full)
    for entry in tree.entries:
        if entry.model is not None:
            _name_all(entry.model, f"{entry.full}.", taken)


def is_model(config: Json) -> bool:
    """Whether a layer's config is that of a model with layers of its own."""
    if not isinstance(config, Mapping):
        return False
    inner = config.get("config")
    if config.get("class_name") in MODELS and is_builtin(config):
        return isinstance(inner, Mapping | list)
    return isinstance(inner, Mapping) and isinstance(inner.get("layers"), list) and "output_layers" in inner


class _Reader:
    def __init__(self, era: Era) -> None:
        self.era = era

    def model(self, config: Mapping[str, Json], depth: int) -> Tree:
        if depth > _MAX_DEPTH:
            raise SourceError(f"the architecture nests models more than {_MAX_DEPTH} deep")
        name, inner = str(config["class_name"]), config.get("config")
        if isinstance(inner, Mapping) and "output_layers" in inner and isinstance(inner.get("layers"), list):
            return self.functional(name, inner, depth)
        if name == "Sequential":
            return self.sequential(config, depth)
        own = inner.get("name") if isinstance(inner, Mapping) else None
        return Tree(str(own or name), name)

    # -- one layer -------------------------------------------------------------------------------------------------

    def entry(self, config: Json, depth: int) -> Entry:
        if not isinstance(config, Mapping) or not isinstance(config.get("class_name"), str):
            raise SourceError(f"the architecture lists something that is no layer: {str(config)[:60]!r}")
        inner = config.get("config")
        class_name = str(config["class_name"])
        own = inner.get("name") if isinstance(inner, Mapping) else None
        name = str(config.get("name") or own or class_name.lower())
        build = config.get("build_config")
        layer = Keras(
            name,
            class_name,
            inner if isinstance(inner, Mapping) else {"layers": inner},
            self.era,
            build if isinstance(build, Mapping) else {},
            is_builtin(config),
        )
        module = str(config.get("module") or "")
        entry = Entry(name, layer, operation=self._is_operation(config, module))
        if isinstance(inner, Mapping):
            entry.trainable = bool(inner.get("trainable", True))
        self._inside(entry, config, depth)
        return entry

    def _is_operation(self, config: Mapping[str, Json], module: str) -> bool:
        """Keras 3: single operations stand among the layers; `.h5` files do not give their module."""
        inner = config.get("config")
        if module or self.era.major < 3 or not isinstance(inner, Mapping):
            return ".ops." in f"{module}."
        known_layer = config["class_name"] in ROOMS and "dtype" in inner
        return not (known_layer or {"trainable", "batch_shape", "layers"} & set(inner))

    def _inside(self, entry: Entry, config: Mapping[str, Json], depth: int) -> None:
        """The model that a layer is, or that TimeDistributed wraps."""
        inner = config
        while inner.get("class_name") == "TimeDistributed" and isinstance(inner.get("config"), Mapping):
            wrapped = inner["config"].get("layer")
            if not isinstance(wrapped, Mapping):
                return
            inner = wrapped
            entry.distributed += 1
        if is_model(inner):
            entry.model = self.model(inner, depth + 1)
            entry.model.name = entry.name
        else:
            entry.distributed = 0

    # -- sequential --------------------------------------------------------------------------------------------------

    def sequential(self, config: Mapping[str, Json], depth: int) -> Tree:
        inner = config.get("config")
        layers = inner.get("layers") if isinstance(inner, Mapping) else inner
        if not isinstance(layers, list):
            raise SourceError("the Sequential model's config has no list of layers")
        name = str((inner.get("name") if isinstance(inner, Mapping) else None) or config.get("name") or "sequential")
        tree = Tree(name, "Sequential")
        before: Ref | None = None
        for raw in layers:
            merged = (
                raw.get("config", {}).get("layers")
                if isinstance(raw, Mapping) and raw.get("class_name") == "Merge"
                else None
            )
            if before is None and isinstance(merged, list):
                before = self._merge_first(tree, raw, merged, depth)
                continue
            entry = self.entry(raw, depth)
            if before is None:
                before = self._first_input(tree, entry, raw)
                if entry.is_input:
                    continue
            before = self._chain(tree, entry, before)
        if before is not None:
            tree.outputs.append((before.layer, before))
        return tree

    def _chain(self, tree: Tree, entry: Entry, before: Ref) -> Ref:
        taken = next((e for e in tree.entries if e.name == entry.name), None)
        if taken is None:
            tree.entries.append(entry)
        else:  # the same layer added twice
            entry = taken
        entry.nodes.append(Node((before,), {}))
        return Ref(entry.name, len(entry.nodes) - 1, 0)

    def _first_input(self, tree: Tree, entry: Entry, raw: Json) -> Ref:
        """A Sequential without an InputLayer: its input is described by its first layer."""
        if entry.is_input:
            tree.entries.append(entry)
            entry.nodes.append(Node((), {}))
            tree.inputs.append((entry.name, Ref(entry.name, 0, 0)))
            return tree.inputs[-1][1]
        shape, dtype = first_shape(raw)
        name = f"{entry.name}_input"
        config = {"name": name, "batch_input_shape": shape, "dtype": dtype}
        made = Entry(name, Keras(name, "InputLayer", config, self.era), [Node((), {})])
        tree.entries.append(made)
        tree.inputs.append((name, Ref(name, 0, 0)))
        return tree.inputs[-1][1]

    def _merge_first(self, tree: Tree, raw: Mapping[str, Json], branches: Sequence[Json], depth: int) -> Ref:
        """Keras 1: a Merge of whole models as the first layer; their layers are saved beside the others."""
        ends = []
        for number, branch in enumerate(branches):
            if not isinstance(branch, Mapping):
                raise SourceError("the Merge layer's config lists something that is no layer")
            if branch.get("class_name") == "Sequential":
                inner = self.sequential(branch, depth + 1)
            else:
                inner = self.sequential({"class_name": "Sequential", "config": [branch]}, depth + 1)
            for entry in inner.entries:
                if all(e.name != entry.name for e in tree.entries):
                    tree.entries.append(entry)
            tree.inputs += [pair for pair in inner.inputs if pair not in tree.inputs]
            if not inner.outputs:
                raise SourceError(f"branch {number} of the Merge layer is empty")
            ends.append(inner.outputs[0][1])
        entry = self.entry({**raw, "config": {k: v for k, v in raw["config"].items() if k != "layers"}}, depth)
        tree.entries.append(entry)
        entry.nodes.append(Node((list(ends),), {}))
        return Ref(entry.name, 0, 0)

    # -- functional ----------------------------------------------------------------------------------------------------

    def functional(self, class_name: str, config: Mapping[str, Json], depth: int) -> Tree:
        tree = Tree(str(config.get("name") or class_name.lower()), class_name)
        for raw in config["layers"]:
            entry = self.entry(raw, depth)
            if any(e.name == entry.name for e in tree.entries):
                raise SourceError(f"the architecture lists two layers named {entry.name!r}")
            tree.entries.append(entry)
            nodes = raw.get("inbound_nodes") or []
            entry.nodes = [self._node(n, tree.known) for n in nodes] or ([Node((), {})] if entry.is_input else [])
        tree.inputs = list(_named_leaves(config.get("input_layers")))
        tree.outputs = list(_named_leaves(config.get("output_layers")))
        _renumber(tree, self.era)
        tree.inputs = [(name, replace(ref, node=0)) for name, ref in tree.inputs]
        return tree

    def _node(self, raw: Json, known: dict[Ref, Port]) -> Node:
        if isinstance(raw, Mapping) and ("args" in raw or "kwargs" in raw):
            args = _tensors(raw.get("args") or [], known)
            return Node(tuple(args), dict(_tensors(raw.get("kwargs") or {}, known)))
        if is_leaf(raw):
            return Node((_leaf(raw),), _leaf_kwargs(raw))
        if isinstance(raw, list) and len(raw) == 1 and (is_leaf(raw[0]) or _is_constant(raw[0])):
            return Node((_structure(raw[0]),), _leaf_kwargs(raw[0]))
        first = _first_leaf(raw)
        return Node((_structure(raw),), _leaf_kwargs(first) if first is not None else {})


# -- leaves ------------------------------------------------------------------------------------------------------------


def is_leaf(raw: Json) -> bool:
    """Whether this is `[layer, node, tensor]` or `[layer, node, tensor, kwargs]`."""
    if (
        not isinstance(raw, list)
        or len(raw) not in (3, 4)
        or not isinstance(raw[0], str)
        or raw[0] == "_CONSTANT_VALUE"
    ):
        return False
    return all(isinstance(i, int) and not isinstance(i, bool) for i in raw[1:3])


def _is_constant(raw: Json) -> bool:
    return isinstance(raw, list) and len(raw) in (3, 4) and raw[0] == "_CONSTANT_VALUE"


def _leaf(raw: Json) -> Ref:
    return Ref(raw[0], raw[1], raw[2])


def _leaf_kwargs(raw: Json) -> dict[str, Any]:
    found = raw[3] if isinstance(raw, list) and len(raw) == 4 else None
    return {k: _structure(v) for k, v in found.items()} if isinstance(found, Mapping) else {}


def _structure(raw: Json) -> Any:
    """Nested lists and dicts with their leaves as references."""
    if is_leaf(raw):
        return _leaf(raw)
    if _is_constant(raw):
        return plain(raw[2])
    if isinstance(raw, list):
        return [_structure(r) for r in raw]
    if isinstance(raw, Mapping):
        return {k: _structure(v) for k, v in raw.items()}
    return raw


def _first_leaf(raw: Json) -> Json:
    if is_leaf(raw):
        return raw
    items = raw.values() if isinstance(raw, Mapping) else raw if isinstance(raw, list) else ()
    return next((found for r in items if (found := _first_leaf(r)) is not None), None)


def _tensors(raw: Json, known: dict[Ref, Port]) -> Any:
    """Arguments of a Keras 3 call, with tensors as references; what they say of shapes is kept in `known`."""
    if isinstance(raw, Mapping):
        inner = raw.get("config")
        if (
            raw.get("class_name") == "__keras_tensor__"
            and isinstance(inner, Mapping)
            and is_leaf(inner.get("keras_history"))
        ):
            ref = _leaf(inner["keras_history"])
            shape = plain(inner.get("shape"))
            if isinstance(shape, list):
                dims = tuple(n if isinstance(n, int) else None for n in shape)
                known[ref] = Port(dims, inner.get("dtype") if isinstance(inner.get("dtype"), str) else None)
            return ref
        return {k: _tensors(v, known) for k, v in raw.items()}
    return [_tensors(r, known) for r in raw] if isinstance(raw, list) else raw


def refs(found: Any) -> Iterator[Ref]:
    """Every reference in nested arguments, in order."""
    if isinstance(found, Ref):
        yield found
    elif isinstance(found, Mapping):
        for v in found.values():
            yield from refs(v)
    elif isinstance(found, list | tuple):
        for v in found:
            yield from refs(v)


def _named_leaves(raw: Json) -> Iterator[tuple[str, Ref]]:
    """The leaves of input_layers or output_layers; a dict gives them names and keeps its own order."""
    if is_leaf(raw):
        yield raw[0], _leaf(raw)
    elif isinstance(raw, Mapping):
        for key, value in raw.items():
            for name, ref in _named_leaves(value):
                yield (str(key) if is_leaf(value) else name), ref
    elif isinstance(raw, list):
        for r in raw:
            yield from _named_leaves(r)


# -- node numbers ------------------------------------------------------------------------------------------------------


def _renumber(tree: Tree, era: Era) -> None:
    """Give every reference the number of the call among those that the config lists, from 0.

    Nested models of Keras 1 and 2 count from 1 (their own graph is node 0); so do, in Keras 3, nested Functional
    models among the outputs. Keras 3.0 and 3.1 wrote the numbers of all calls ever made: those are ranked.
    """
    inside: dict[str, set[int]] = {}
    for entry in tree.entries:
        for node in entry.nodes:
            for ref in refs((node.args, node.kwargs)):
                inside.setdefault(ref.layer, set()).add(ref.node)
    ends: dict[str, set[int]] = {}
    for _, ref in tree.outputs:
        ends.setdefault(ref.layer, set()).add(ref.node)
    moves, end_moves = {}, {}
    for entry in tree.entries:
        count = len(entry.nodes)
        seen, outer = inside.get(entry.name, set()), ends.get(entry.name, set())
        nested = entry.model is not None and entry.distributed == 0
        if era.major < 3:
            base = _base(seen | outer, count, nested)
            moves[entry.name] = end_moves[entry.name] = _mapping(seen | outer, count, base)
        else:
            one = nested and entry.model is not None and entry.model.class_name != "Sequential"
            shifted = {n - 1 for n in outer} if one and 0 not in outer else outer
            joint = _mapping(seen | shifted, count, 0)
            moves[entry.name] = joint
            end_moves[entry.name] = {n: joint[n - 1 if one and 0 not in outer else n] for n in outer}
    for entry in tree.entries:
        entry.nodes = [Node(tuple(_moved(n.args, moves)), _moved(n.kwargs, moves)) for n in entry.nodes]
    tree.outputs = [(name, _moved(ref, end_moves)) for name, ref in tree.outputs]
    tree.known = {_moved(ref, moves): port for ref, port in tree.known.items() if ref.layer in moves}


def _base(seen: set[int], count: int, nested: bool) -> int:
    if 0 in seen:
        return 0
    return 1 if nested or (seen and max(seen) == count) else 0


def _mapping(seen: set[int], count: int, base: int) -> dict[int, int]:
    if all(0 <= n - base < count for n in seen):
        return {n: n - base for n in seen}
    return {n: min(rank, max(count - 1, 0)) for rank, n in enumerate(sorted(seen))}


def _moved(found: Any, moves: Mapping[str, Mapping[int, int]]) -> Any:
    if isinstance(found, Ref):
        if found.layer not in moves:
            raise SourceError(f"the model's config refers to a layer {found.layer!r}, which it does not list")
        return replace(found, node=moves[found.layer].get(found.node, found.node))
    if isinstance(found, Mapping):
        return {k: _moved(v, moves) for k, v in found.items()}
    if isinstance(found, list):
        return [_moved(v, moves) for v in found]
    return tuple(_moved(v, moves) for v in found) if isinstance(found, tuple) else found


# -- inputs ------------------------------------------------------------------------------------------------------------


def first_shape(config: Json) -> tuple[Json, str]:
    """The input shape (with the batch) and type that a first layer's config states, looking into models."""
    for _ in range(_MAX_DEPTH):
        if not isinstance(config, Mapping):
            break
        inner = config.get("config")
        layers = inner.get("layers") if isinstance(inner, Mapping) else inner
        if isinstance(layers, list) and layers:
            config = layers[0]
            continue
        if not isinstance(inner, Mapping):
            break
        shape = plain(inner.get("batch_input_shape", inner.get("batch_shape")))
        dtype = inner.get("input_dtype") or inner.get("dtype")
        if shape is None and isinstance(inner.get("layer"), Mapping):
            config = inner["layer"]
            continue
        return shape, dtype if isinstance(dtype, str) and not dtype.startswith("mixed") else "float32"
    return None, "float32"


def input_port(entry: Entry) -> Port:
    """What an InputLayer says of its value."""
    config = entry.layer.config
    shape = plain(config.get("batch_shape", config.get("batch_input_shape")))
    dims = None
    if isinstance(shape, list):
        dims = tuple(n if isinstance(n, int) and not isinstance(n, bool) else None for n in shape)
    found = config.get("dtype") or config.get("input_dtype") or "float32"
    return Port(dims, found if isinstance(found, str) else "float32")
