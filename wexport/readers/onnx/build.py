"""An ONNX file as a `Model`: drafts become layers with names, calls in order, and every stored array has its place."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from wexport import dtypes
from wexport.errors import SourceError
from wexport.layers.onnx import Argument, Lowered, Operand
from wexport.layers.unknown import whole
from wexport.layout import Rule
from wexport.model import Arg, Array, Body, Call, Const, Constant, Layer, LeftOut, Model, Out, Port, Ref, Weight
from wexport.names import Names, unique
from wexport.readers.onnx.attention import attention_cores, attention_parts
from wexport.readers.onnx.container import Container, read_small
from wexport.readers.onnx.fuse import bypass, fuse, merge_activations, settle_loops, settle_reshapes
from wexport.readers.onnx.graph import read_graph
from wexport.readers.onnx.lower import Draft, Lowering, Use, every
from wexport.readers.onnx.names import Style, fused_into, module_of, names_parameter, style_of
from wexport.readers.onnx.naming import name_layers
from wexport.readers.onnx.ops import Held, Op
from wexport.readers.onnx.shapes import infer, plain, port_of
from wexport.readers.onnx.static import analyse, stored_constants
from wexport.readers.onnx.statics import Statics

_INLINE = 64  # elements of a constant that stand in the manifest
_OPERANDS = {"x": "operand", "y": "operand"}


def build(container: Container) -> Model:
    """The model of an opened file.

    Raises:
        SourceError: the graph cannot be made sense of.
    """
    graph = read_graph(container)
    settle_loops(graph)
    constants = stored_constants(graph)
    ports = infer(container.proto, graph, constants.get)
    bypass(graph, ports)
    statics = analyse(graph, ports, {**constants, **graph.texts})
    settle_reshapes(graph, statics, ports)
    fuse(graph, statics, ports)
    lowering = Lowering(str(container.path), graph, ports, statics)
    style = style_of(container.proto.producer_name, graph)

    def module(draft: Draft) -> str:
        return module_of(draft.op, [use.array for use in draft.uses], graph, style)

    drafts = merge_activations(lowering.run(), module)
    return _Assembly(container, lowering, drafts, style).model()


@dataclass(slots=True)
class _Made:
    """A layer with its drafts, in the order of its calls."""

    drafts: list[Draft]
    name: str = ""
    weights: dict[tuple[str, str], Weight] = field(default_factory=dict)  # by array and role: one may have two
    part: str | None = None


class _Assembly:
    def __init__(self, container: Container, lowering: Lowering, drafts: list[Draft], style: Style) -> None:
        self.container, self.lowering, self.graph = container, lowering, lowering.graph
        self.statics: Statics = lowering.statics
        self.drafts = drafts
        self.all = list(every(drafts))
        self.style = style
        self.made: list[_Made] = []
        self.layer_of: dict[int, _Made] = {}
        self.values: dict[str, str] = {}  # the graph's names to the manifest's
        self.constants: dict[str, Constant] = {}
        self.owned: dict[str, _Made] = {}
        self.warnings: list[str] = []
        self.takers: dict[str, list[Draft]] = {}
        self.states = lowering.statics.states
        self.tied: set[str] = set()
        self.ends = {*self.graph.outputs, *(v for d in self.all for body, _ in d.bodies.values() for v in body.outputs)}
        self.cores = attention_cores(drafts)

    def model(self) -> Model:
        proto, graph = self.container.proto, self.graph
        for draft in self.all:
            for _, operand in draft.operands():
                self.takers.setdefault(operand.value, []).append(draft)
        self._group()
        self._name()
        self._own()
        inputs = {i.name: self._input(i) for i in graph.inputs}
        taken = Names(inputs)
        self.values |= {name: name for name in inputs}
        for made in self.made:
            self._name_values(made, taken)
        v = self.values
        calls = self._calls(self.drafts)
        outputs = self._outputs(calls)
        ports = self.lowering.ports
        known = {new: plain(ports[old]) for old, new in self.values.items() if old in ports and old not in inputs}
        self._warn()
        return Model(
            self.container.path.stem,
            *_framework(proto),
            {"file": self.container.path.name, "format": "onnx", "bytes": sum(f.size for f in self.container.files())},
            inputs,
            outputs,
            tuple(self._layer(made) for made in self.made),
            tuple(calls),
            tuple(self._left_out()),
            known,
            tuple(self.warnings),
            self.container.files(),
            tuple(self.constants.values()),
            tuple((v[q], v[k], v[x]) for q, k, x in self.cores if {q, k, x} <= v.keys()),
            named=False,
        )

    def _input(self, info: Any) -> Port:
        port = port_of(info.type) or Port(None, None)
        return Port(port.shape and tuple(None if _made_up(n) else n for n in port.shape), port.dtype)

    # -- layers --

    def _group(self) -> None:
        """Operators of equal attributes and equal weights are calls of one layer."""
        by_key: dict[Any, _Made] = {}
        for draft in self.all:
            key: Any = id(draft)
            if draft.uses:
                uses = sorted((u.array, u.part or 0, repr(u.rule)) for u in draft.uses)
                key = (draft.lowered.kind, json.dumps(draft.lowered.attributes, sort_keys=True, default=str), str(uses))
            made = by_key.get(key)
            if made is None:
                made = by_key[key] = _Made([])
                self.made.append(made)
            made.drafts.append(draft)
            self.layer_of[id(draft)] = made

    def _name(self) -> None:
        parts = attention_parts(self.drafts, self.cores)
        users = Counter(array for made in self.made for array in {u.array for u in made.drafts[0].uses})
        self.tied = {array for array, n in users.items() if n > 1}
        first = [made.drafts[0] for made in self.made]
        taken = {i.name for i in self.graph.inputs}
        names = name_layers(first, self._arrays, self._module, parts, self.style, taken)
        for made, name in zip(self.made, names, strict=True):
            made.name, made.part = name, parts.get(id(made.drafts[0]))

    def _arrays(self, draft: Draft) -> list[str]:
        return [u.array for u in draft.uses] or list(self._leaves(draft))

    def _module(self, draft: Draft, arrays: Sequence[str]) -> str:
        own = [a for a in arrays if a not in self.tied]  # a tied array has the name of one of its users only
        found = module_of(draft.op, own, self.graph, self.style) or module_of(draft.op, arrays, self.graph, self.style)
        if found or not self.style.keras:
            return found
        for value in draft.op.inputs:  # an operator without a scope: from what gives x
            op = self.lowering.makers.get(value)
            if op is not None and (found := module_of(op, [], self.graph, self.style)):
                return found
        return ""

    def _leaves(self, draft: Draft) -> Iterator[str]:
        for _, operand in draft.operands():
            key = self.lowering.leaf(operand)
            if key is not None and self._is_weight(key, draft):
                yield key

    def _is_weight(self, key: str, draft: Draft) -> bool:
        """Whether an array that an operator reads as it is stored is a weight."""
        if key in self.states:
            return False
        array = self.graph.arrays[key]
        if self._computed(draft) and dtypes.is_float(array.dtype):
            return array.count > 0
        return array.count > 1 and (dtypes.is_float(array.dtype) or dtypes.bits(array.dtype) < 8)

    def _computed(self, draft: Draft) -> bool:
        """Whether an operator computes on stored arrays alone."""
        return bool(draft.outputs) and all(o in self.statics.fixed for o in draft.outputs if o)

    def _own(self) -> None:
        """Give every array that is read as it is stored to a layer, or to the constants."""
        for made in self.made:
            for draft in made.drafts:
                for use in draft.uses:
                    self._give(made, Weight(self.graph.arrays[use.array], self._rule(use), use.own.splits))
        for draft in self.all:
            for role, operand in draft.operands():
                key = self.lowering.leaf(operand)
                if key is None or key in self.owned or key in self.constants:
                    continue
                if self._is_weight(key, draft):
                    made = self._owner(draft)
                    self._give(made, Weight(self.graph.arrays[key], self._whole(key, made, draft, role)))
                else:
                    self.constants[key] = self._constant(self.graph.arrays[key])

    def _rule(self, use: Use) -> Rule:
        """The rule of a use; where layers share an array, its labels are their names."""
        assert use.rule is not None
        if use.part is None:
            return use.rule
        names: dict[str, str] = {}
        for draft in self.all:
            for other in draft.uses:
                if other.array == use.array:
                    names[str(other.part)] = self.layer_of[id(draft)].name
        labels = {**use.rule.labels, "layer": tuple(names[i] for i in use.rule.labels["layer"])}
        return replace(use.rule, labels=labels)

    def _give(self, made: _Made, weight: Weight) -> None:
        made.weights.setdefault((weight.array.key, weight.rule.role), weight)
        self.owned.setdefault(weight.array.key, made)

    def _owner(self, draft: Draft) -> _Made:
        """The layer that takes what is computed from an array: behind arithmetic on weights alone."""
        seen: set[int] = set()
        while self._computed(draft) and id(draft) not in seen:
            seen.add(id(draft))
            later = [t for o in draft.outputs if o for t in self.takers.get(o, ())]
            if not later:
                break
            draft = next((t for t in later if not self._computed(t)), later[0])
        return self.layer_of[id(draft)]

    def _whole(self, key: str, made: _Made, draft: Draft, role: str) -> Rule:
        """The rule of an array that is one tensor; its role is the file's own word where it has one."""
        array = self.graph.arrays[key]
        name = _OPERANDS.get(role, role)
        own = made.drafts[0].unknown or draft not in made.drafts
        if own or (name == "operand" and names_parameter(key, draft.op, self.style)):
            name = _own_role(key, made.name)
        taken = {w.rule.role for w in made.weights.values()}
        number = 1
        wanted = name
        while name in taken:
            number += 1
            name = f"{wanted}_{number}"
        return whole(name, len(array.shape))

    def _constant(self, array: Array) -> Constant:
        if array.count <= _INLINE and dtypes.bits(array.dtype) >= 8:
            numbers = read_small(array)
            if numbers.dtype.kind in "iub" or (numbers.dtype.kind == "f" and np.isfinite(numbers).all()):
                return Constant(array, numbers.tolist())
        return Constant(array)

    def _layer(self, made: _Made) -> Layer:
        draft = made.drafts[0]
        op = draft.op
        word = op.type if not op.domain or op.domain == "wexport" else f"{op.domain}.{op.type}"
        attributes = dict(draft.lowered.attributes)
        if made.part is not None:
            attributes["part"] = made.part
        if fused := self._fused(draft):
            attributes["fused"] = fused
        return Layer(made.name, draft.lowered.kind, word, attributes, tuple(made.weights.values()))

    def _fused(self, draft: Draft) -> list[str]:
        """The normalizations that an exporter has folded into a kernel, where the file tells (`names.py`)."""
        if draft.lowered.kind not in {"conv", "conv_transpose", "depthwise_conv", "dense"}:
            return []
        return fused_into(draft.op, [u.array for u in draft.uses], self.container.proto.producer_name)

    # -- values and calls --

    def _name_values(self, made: _Made, taken: set[str]) -> None:
        for number, draft in enumerate(made.drafts, 1):
            base = made.name if number == 1 else f"{made.name}@{number}"
            first = True
            for i, value in enumerate(draft.outputs):
                if value not in self.takers and value not in self.ends:
                    continue
                name = unique(base if first else f"{base}:{i}", taken)
                taken.add(name)
                self.values[value] = name
                first = False
            for label, (body, _) in draft.bodies.items():
                for i, value in enumerate(body.inputs):
                    self.values[value] = unique(f"{base}/{label}:{i}", taken)
                    taken.add(self.values[value])

    def _calls(self, drafts: Sequence[Draft]) -> list[Call]:
        calls = []
        for draft in drafts:
            args = {role: self._arg(arg) for role, arg in draft.lowered.args.items()}
            outs = tuple(
                Out(role, self.values.get(value) if value else None)
                for role, value in zip(draft.lowered.roles, draft.outputs, strict=True)
            )
            bodies = {
                label: Body(
                    tuple(self.values[i] for i in body.inputs),
                    tuple(self._calls(inner)),
                    tuple(self._arg(self.lowering.operand(o)) for o in body.outputs),
                )
                for label, (body, inner) in draft.bodies.items()
            }
            calls.append(Call(self.layer_of[id(draft)].name, args, outs, bodies))
        return calls

    def _arg(self, arg: Argument) -> Arg:
        if isinstance(arg, tuple):
            return tuple(self._arg(a) for a in arg)
        if not isinstance(arg, Operand):
            return arg
        key = self.lowering.leaf(arg)
        if key is not None:
            found = self.constants.get(key)
            if key not in self.owned and found is None:
                found = self.constants[key] = self._constant(self.graph.arrays[key])
            if found is not None and found.value is not None:
                return Const(found.value, found.array.dtype, found.array.shape, key)
            return Ref(key)
        if self.lowering.inlined(arg) and arg.known is not None:
            dtype = "string" if arg.known.dtype.kind == "U" else str(arg.known.dtype)
            return Const(arg.known.tolist(), dtype, arg.known.shape)
        if any(left.key == arg.value for left in self.graph.left_out):
            self.warnings.append(f"{arg.value} is read, but left out; the model cannot be computed from the bundle")
            return None
        if arg.value not in self.values:
            raise SourceError(
                f"{self.container.path}: the value {arg.value!r} is read, and nothing that wexport kept gives it; "
                "please report this with the file"
            )
        return self.values[arg.value]

    def _outputs(self, calls: list[Call]) -> dict[str, str]:
        found = {}
        for info, value in zip(self.container.proto.graph.output, self.graph.outputs, strict=True):
            found[info.name] = self.values[value] if value in self.values else self._given(value, calls)
        return found

    def _given(self, value: str, calls: list[Call]) -> str:
        """An output that is a stored array: what gives it is a call of its own."""
        operand = self.lowering.operand(value)
        name = unique(f"identity_{value}", {m.name for m in self.made} | set(self.values.values()))
        made = _Made([Draft(Op("Identity", "", 1, "", [value], [value]), _IDENTITY, [value])], name)
        self.made.append(made)
        self.values[value] = name
        calls.append(Call(name, {"x": self._arg(operand)}, (Out("y", name),)))
        return name

    # -- the rest --

    def _left_out(self) -> list[LeftOut]:
        found = list(self.graph.left_out)
        constant = self._settings()
        for key, array in self.graph.arrays.items():
            if key in self.owned or key in self.constants:
                continue
            if key in constant:
                self.constants[key] = self._constant(array)
            else:
                found.append(LeftOut(key, array.shape, "no output of the model needs it"))
        return found

    def _settings(self) -> set[str]:
        """The arrays that lowered operators read as settings (axes, bounds, shapes)."""
        found: set[str] = set()
        waiting = [v for d in self.all for v in (*d.op.inputs, *d.op.absorbed, *(h.value for h in _held(d.op)))]
        seen: set[str] = set()
        while waiting:
            value = waiting.pop()
            if value in seen:
                continue
            seen.add(value)
            if value in self.graph.stored:
                found.add(self.graph.stored[value])
            op = self.lowering.makers.get(value)
            if op is not None:
                waiting += [*op.inputs, *(h.value for h in _held(op))]
        return found

    def _warn(self) -> None:
        for made in self.made:
            draft = made.drafts[0]
            if not draft.unknown:
                continue
            n = len(made.weights)
            what = f"its {n} weight{'s are' if n != 1 else ' is'} exported whole" if n else "it has no weights"
            word = f"{draft.op.domain}.{draft.op.type}" if draft.op.domain else draft.op.type
            why = f" ({draft.warning})" if draft.warning else ""
            self.warnings.append(
                f"{made.name}: {word} is not an operator that wexport knows{why}; {what}, "
                "and the model cannot be computed from the bundle"
            )


def _made_up(name: Any) -> bool:
    """Whether an exporter numbered a free dimension that has no name."""
    return isinstance(name, str) and re.fullmatch(r"unk__\d+", name) is not None


def _held(op: Op) -> list[Held]:
    return [v for v in op.attributes.values() if isinstance(v, Held)]


def _own_role(key: str, layer: str) -> str:
    """The file's word for an array below its layer: `weight_v` is `kernel_v`."""
    if "::" in key:  # a number, no word
        return "operand"
    last = key.rpartition("/")[2].removeprefix(f"{layer}.").rpartition(".")[2].partition(":")[0]
    last = {"original0": "kernel_g", "original1": "kernel_v"}.get(last, last)
    last = "".join(c if c.isalnum() or c == "_" else "_" for c in last)
    if last.startswith("weight"):
        last = f"kernel{last.removeprefix('weight')}"
    return last if last and not last[0].isdigit() else f"operand{last}"


def _framework(proto: Any) -> tuple[str, str | None]:
    return (proto.producer_name or "onnx"), (proto.producer_version or None)


_IDENTITY = Lowered("identity")
