"""The plan: every tensor's name, shape and place in its array, before a byte is read.

A model and the rooms' layout rules go in; names, views and the order of the data come out. All that is wrong with a
model is found here, together. The only values read are those that decide what is stored: whether a second bias is
all zero, and whether an array that a format stores twice is indeed the same twice.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from wexport import dtypes
from wexport.errors import LayoutError, PlanError
from wexport.features import Value
from wexport.layers import KINDS
from wexport.layers.step import Terms
from wexport.layout import Leaf, Piece, Refold, Rule, axis_sizes, element_type, expand, parse_side
from wexport.lineage import Lineage, trace
from wexport.model import Arg, Array, Json, Layer, LeftOut, Model, Ref, Weight, every, unpacking
from wexport.names import Names, label_rank, role_rank, tensor_name, unique
from wexport.packed import apart, packed
from wexport.view import View

Split = Literal["all", "gates", "none"]


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of the bundle: `dtype` is the safetensors code, `stored_as` the source's type where it has none.

    A constant that the graph reads has no layer.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    axes: str
    layer: str | None
    role: str
    at: Mapping[str, str | int]
    array: Array
    view: View
    stored_as: str | None = None

    @property
    def nbytes(self) -> int:
        """The size of its data."""
        return math.prod(self.shape) * dtypes.itemsize(dtypes.name_of(self.dtype) or "uint8")


@dataclass(frozen=True, slots=True)
class Alias:
    """Another name for a tensor, of another layer that uses the same array, with that layer's words for its axes;
    `transposed` where it reads them in reverse order."""

    name: str
    tensor: str
    layer: str
    role: str
    axes: str
    transposed: bool = False


@dataclass(frozen=True, slots=True)
class Stored:
    """An array of the source and the rule, as it was used, that says what became of it."""

    array: Array
    rule: Rule
    sizes: Mapping[str, int]
    leaves: Mapping[str, tuple[Leaf, ...]] = field(default_factory=dict)
    copy_of: str | None = None
    constant: Json = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What an export will write. `layers` have the attributes that planning adds (`reads`, `zero`); `whole` are the
    tensors that are one array."""

    model: Model
    layers: tuple[Layer, ...]
    values: Mapping[str, Value]
    weights: tuple[Stored, ...]
    tensors: tuple[Tensor, ...]
    aliases: tuple[Alias, ...]
    equations: Mapping[str, tuple[str, ...]]
    left_out: tuple[LeftOut, ...]
    warnings: tuple[str, ...]
    unknown: tuple[str, ...]
    whole: Mapping[str, str] = field(default_factory=dict)

    def tensor(self, name: str) -> Tensor:
        """A tensor by its name.

        Raises:
            KeyError: there is none.
        """
        for tensor in self.tensors:
            if tensor.name == name:
                return tensor
        raise KeyError(name)

    def of_array(self, key: str) -> str | None:
        """The tensor that is an array as it is stored; None where its type cannot be one."""
        return self.whole.get(key)

    def close(self) -> None:
        """Close the files that the arrays are read from."""
        self.model.close()


def make_plan(model: Model, split: Split = "all", strict: bool = False) -> Plan:
    """Plan the export of a model.

    Args:
        model: what a reader gave.
        split: `all`, only by `gates` (and directions, parts), or `none`: a tensor for each stored array.
        strict: whether unknown layers and doubtful names are errors.

    Raises:
        PlanError: something cannot be named; every reason is given.
    """
    lineage = trace(model)
    planner = _Planner(model, lineage, split)
    layers = [planner.layer(layer) for layer in model.layers]
    planner.constants()
    unknown = tuple(layer.name for layer in layers if layer.kind == "unknown")
    findings = list(planner.findings)
    if strict:
        findings += [*model.warnings, *planner.warnings]
    if findings:
        raise PlanError(findings)
    by_name = {layer.name: layer for layer in layers}
    tensors = _ordered(planner.tensors, layers)
    return Plan(
        model,
        tuple(layers),
        lineage.values,
        tuple(sorted(planner.weights, key=_file_order(model))),
        tuple(tensors),
        tuple(planner.aliases),
        _equations(by_name, tensors, planner.aliases, model),
        (*model.left_out, *planner.left_out),
        (*model.warnings, *planner.warnings),
        unknown,
        {t.array.key: t.name for t in tensors if t.view.size == t.array.count},
    )


class _Planner:
    def __init__(self, model: Model, lineage: Lineage, split: Split) -> None:
        self.model, self.lineage, self.split = model, lineage, split
        self.tensors: list[Tensor] = []
        self.weights: list[Stored] = []
        self.left_out: list[LeftOut] = []
        self.warnings: list[str] = []
        self.findings: list[str] = []
        self.names = Names()
        self.aliases: list[Alias] = []
        self.arrays = {w.array.key: w.array for layer in model.layers for w in layer.weights}
        self.packed = packed(model) if split != "none" else {}
        self.reads = _agreed(model, lineage) if split == "all" else {}
        self.owned: dict[str, list[Tensor]] = {}

    def layer(self, layer: Layer) -> Layer:
        """Plan a layer's tensors; gives it back with what planning learned."""
        added: dict[str, Json] = {}
        parts = self.packed.get(layer.name)
        if parts and all(w.rule != apart(w.rule, parts) for w in layer.weights):
            layer = replace(layer, weights=tuple(replace(w, rule=apart(w.rule, parts)) for w in layer.weights))
            added["parts"] = list(parts)
        dropped = self._zero(layer)
        if dropped:
            added["zero"] = ["recurrent_bias"]
        for weight in layer.weights:
            try:
                if self._copied(weight):
                    continue
                self._weight(layer, weight, added, dropped)
            except LayoutError as error:
                self.findings.append(f"{weight.array.key}: {error}")
        return replace(layer, attributes={**layer.attributes, **added}) if added else layer

    def _copied(self, weight: Weight) -> bool:
        """An array that its format stores twice, if it is the same twice."""
        first = self.arrays.get(weight.copy_of or "")
        if first is None or first.shape != weight.array.shape or not _same_bytes(first, weight.array):
            return False
        self.weights.append(Stored(weight.array, weight.rule, {}, copy_of=first.key))
        return True

    def _weight(self, layer: Layer, weight: Weight, added: dict[str, Json], dropped: bool) -> None:
        array, rule = weight.array, _unsplit(weight.rule) if self.split == "none" else weight.rule
        if not dtypes.is_stored(array.dtype):
            self.left_out.append(LeftOut(array.key, array.shape, f"{array.dtype} is no type that a tensor can have"))
            return
        rule, parts = self._read(array, _unpacked(rule, array), self.reads.get(array.key), added)
        pieces = [p for p in expand(rule, array.shape, parts) if not (dropped and p.role == "recurrent_bias")]
        if array.key in self.owned:
            self._alias(layer, array, pieces)
            return
        self.owned[array.key] = [
            self._tensor(piece.at.get("layer", layer.name), array, rule, piece) for piece in pieces
        ]
        self.weights.append(Stored(array, rule, axis_sizes(rule, array.shape), parts))

    def _alias(self, layer: Layer, array: Array, pieces: Sequence[Piece]) -> None:
        """The names that another use of an array would give its tensors; those of a shared array are given."""
        for piece in () if "layer" in pieces[0].at else pieces:
            name = unique(tensor_name(layer.name, piece.name, piece.leaf.label if piece.leaf else None), self.names)
            turned = piece.view.permute(tuple(reversed(range(len(piece.shape)))))
            found = next((t for t in self.owned[array.key] if t.view in (piece.view, turned)), None)
            if found is None:
                raise LayoutError(f"{layer.name} takes it apart otherwise than the layer before")
            self.names.add(name)
            self.aliases.append(Alias(name, found.name, layer.name, piece.role, piece.axes, found.view != piece.view))

    def constants(self) -> None:
        """Plan what the graph reads besides weights: in the manifest if it is short, else tensors."""
        for constant in self.model.constants:
            array = constant.array
            rule = _whole_rule(array)
            if constant.value is None and dtypes.is_stored(array.dtype):
                piece = replace(expand(rule, array.shape)[0], name=array.key)
                self._tensor(None, array, rule, piece)
                self.weights.append(Stored(array, rule, axis_sizes(rule, array.shape)))
            elif constant.value is None:
                reason = f"{array.dtype} is no type that a tensor can have"
                self.left_out.append(LeftOut(array.key, array.shape, reason))
            else:
                self.weights.append(Stored(array, rule, {}, constant=constant.value))

    def _read(
        self, array: Array, rule: Rule, reads: tuple[Leaf, ...] | None, added: dict[str, Json]
    ) -> tuple[Rule, dict[str, tuple[Leaf, ...]]]:
        """The rule and the parts of its `in` axis, as lineage gives them."""
        if not reads or axis_sizes(rule, array.shape).get("in") != sum(leaf.size for leaf in reads):
            return rule, {}
        if len(reads) == 1:
            leaf = reads[0]
            if len(leaf.axes) == 1:
                return rule, {}
            if not leaf.plain:
                added["reads"] = [_reading(leaf)]
            return rule.with_axis("in", leaf), {}
        added["reads"] = [_reading(leaf) for leaf in reads]
        return rule, {"in": reads}

    def _zero(self, layer: Layer) -> bool:
        """Whether the second bias of a recurrent layer is not stored: every byte of it is zero."""
        if layer.kind not in {"lstm", "gru", "rnn"} or layer.attributes.get("reset_after"):
            return False
        try:
            seconds = [
                (weight.array, piece)
                for weight in layer.weights
                if "bias" in weight.rule.target
                for piece in expand(weight.rule, weight.array.shape)
                if piece.role == "recurrent_bias"
            ]
        except LayoutError:
            return False  # said when the weight is planned
        return bool(seconds) and all(not _taken(a, p.view).any() for a, p in seconds)

    def _tensor(self, layer: Any, array: Array, rule: Rule, piece: Piece) -> Tensor:
        label = piece.leaf.label if piece.leaf else None
        wanted = tensor_name("constants" if layer is None else layer, piece.name, label)
        if "layer" in piece.at:  # several layers' array: its rule gives whole names
            wanted = piece.name
        name = unique(wanted, self.names)
        if name != wanted:
            self.warnings.append(f"{wanted}: two tensors have this name; the later one is called {name}")
        if any("\ud800" <= c <= "\udfff" for c in name):
            self.findings.append(f"{name}: holds half a character, which no tensor's name can; rename the layer")
        self.names.add(name)
        dtype = element_type(array.dtype, rule.steps)
        stored_as = None if dtypes.held_as(dtype) == dtype else dtype
        code, axes, at = dtypes.code(dtype), piece.axes, piece.at
        role = "constant" if layer is None else piece.role
        tensor = Tensor(name, code, piece.shape, axes, layer, role, at, array, piece.view, stored_as)
        self.tensors.append(tensor)
        return tensor


def _agreed(model: Model, lineage: Lineage) -> dict[str, tuple[Leaf, ...] | None]:
    """What the kernel in each array reads; one that several layers use is split only if all of them agree."""
    found: dict[str, set[tuple[Leaf, ...] | None]] = {}
    for layer in model.layers:
        for weight in layer.weights:
            reads = lineage.reads.get(layer.name) if weight.splits else None
            found.setdefault(weight.array.key, set()).add(reads)
    return {key: next(iter(reads)) if len(reads) == 1 else None for key, reads in found.items()}


def _whole_rule(array: Array) -> Rule:
    axes = " ".join(f"axis_{i + 1}" for i in range(len(array.shape)))
    return _unpacked(Rule(axes, f"constant: {axes}"), array)


def _unpacked(rule: Rule, array: Array) -> Rule:
    step = unpacking(array)
    return rule if step is None else rule.with_steps(step)


def _reading(leaf: Leaf) -> Json:
    found: dict[str, Json] = {
        "from": leaf.label,
        "axes": list(leaf.axes),
        "sizes": list(leaf.sizes),
        "strides": list(leaf.strides),
        "start": leaf.start,
    }
    return {**found, "features": list(leaf.features)} if leaf.features else found


def _taken(array: Array, view: View) -> Any:
    return view.take(np.frombuffer(array.bytes(), dtypes.mover(array.dtype)))


def _same_bytes(a: Array, b: Array) -> bool:
    if a.dtype != b.dtype:
        return False
    size = a.nbytes
    one, two = (bytearray(min(size, 1 << 20)) for _ in range(2))
    for start in range(0, size, 1 << 20):
        n = min(1 << 20, size - start)
        a.storage.read_into(memoryview(one)[:n], start)
        b.storage.read_into(memoryview(two)[:n], start)
        if one[:n] != two[:n]:
            return False
    return True


def _unsplit(rule: Rule) -> Rule:
    """The rule with its named axes kept, so that an array is one tensor (a refolded one cannot be)."""
    if not rule.labels or any(isinstance(s, Refold) for s in rule.steps):
        return rule
    name, _, _ = rule.target.partition(":")
    words = [w for w in name.strip().split(".") if not (m := re.fullmatch(r"\{(\w+)\}", w)) or m[1] not in rule.labels]
    if name.rstrip().endswith("}"):
        words.append("bias")
    axes = " ".join(f"({' '.join(g)})" if len(g) > 1 else g[0] for g in parse_side(rule.layout) if g)
    sizes = {**rule.sizes, **{a: len(labels) for a, labels in rule.labels.items()}}
    return replace(rule, target=f"{'.'.join(words)}: {axes}", labels={}, sizes=sizes)


# -- order -------------------------------------------------------------------------------------------------------------


def _file_order(model: Model) -> Any:
    arrays = [*(w.array for layer in model.layers for w in layer.weights), *(c.array for c in model.constants)]
    order: dict[str, int] = {}
    for array in arrays:
        order.setdefault(array.key, len(order))

    def key(stored: Stored) -> tuple[int, int]:
        index = stored.array.index
        return (len(order) if index is None else index, order[stored.array.key])

    return key


def _ordered(tensors: Sequence[Tensor], layers: Sequence[Layer]) -> list[Tensor]:
    """Wider element types first; then layer, role, direction, cell, gate or part, source."""
    place = {layer.name: i for i, layer in enumerate(layers)}

    def key(item: tuple[int, Tensor]) -> tuple[Any, ...]:
        number, t = item
        width = dtypes.itemsize(dtypes.name_of(t.dtype) or "uint8")
        labels = [label_rank(str(t.at[a])) for a in ("direction", "cell", "part", "gate") if a in t.at]
        leaf = [n for n in t.at.values() if isinstance(n, int)]
        return (-width, place.get(t.layer or "", len(place)), role_rank(t.role), t.role, labels, leaf, number)

    return [t for _, t in sorted(enumerate(tensors), key=key)]


def _equations(
    layers: Mapping[str, Layer], tensors: Sequence[Tensor], aliases: Sequence[Alias], model: Model
) -> dict[str, tuple[str, ...]]:
    names: dict[str, set[str]] = {name: set() for name, layer in layers.items() if "computed" in layer.attributes}
    for layer_name, full in [(t.layer, t.name) for t in tensors] + [(a.layer, a.name) for a in aliases]:
        if layer_name is not None:
            names.setdefault(layer_name, set()).add(full[len(layer_name) + 1 :])
    found = {}
    args: dict[str, set[str]] = {}  # of all calls of a layer
    several: dict[str, dict[str, tuple[str | None, ...]]] = {}
    arrays = {t.array.key: t for t in tensors if t.view.size == t.array.count}
    for call in every(model.calls):
        args.setdefault(call.layer, set()).update(role for role, a in call.args.items() if a is not None)
        for role, a in call.args.items():
            parts = _own_parts(a, call.layer, arrays)
            several.setdefault(call.layer, {}).setdefault(role, parts)
    for name, own in names.items():
        layer = layers[name]
        write = KINDS[layer.kind].equations
        if write is None or layer.attributes.get("partial"):
            continue
        terms = Terms(layer.attributes, frozenset(own), "", frozenset(args.get(name, ())), several.get(name, {}))
        found[name] = tuple(write(terms))
    return found


def _own_parts(arg: Arg, layer: str, arrays: Mapping[str, Tensor]) -> tuple[str | None, ...]:
    """Which of an argument's values are tensors of the layer, by their names below it."""
    parts = arg if isinstance(arg, tuple) else (arg,)
    tensors = [arrays.get(a.array) if isinstance(a, Ref) else None for a in parts]
    names = [t.name[len(layer) + 1 :] if t is not None and t.layer == layer else None for t in tensors]
    return tuple(names) if isinstance(arg, tuple) or any(names) else ()
