"""Operators as layers and calls: every room is asked, and what it calls a weight is found in what is stored.

Only what the outputs need is lowered. A weight that is a view of stored arrays gets its rule restated for each of
them; where an array would not be covered, each element once, or where two layers take it apart differently, the
view is given up: the array is then a tensor as it is stored, and the operators that turn it stay in the graph.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from wexport.errors import LayoutError
from wexport.layers import complete  # noqa: F401 - signs all operators in
from wexport.layers.onnx import ROOMS, Argument, Lowered, Node, Operand, Own, Scaled, UnclearError
from wexport.layers.unknown import whole
from wexport.layout import Piece, Rule, expand
from wexport.model import Port
from wexport.readers.onnx.ops import Body, Graph, Held, Op
from wexport.readers.onnx.shapes import plain
from wexport.readers.onnx.statics import Statics
from wexport.readers.onnx.views import Virtual, place, restated
from wexport.view import View

# what a room raises where attributes are of other types and sizes than its operator has
_MALFORMED = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError)


@dataclass(slots=True)
class Use:
    """A weight that a layer takes from one array: the tensors, where they lie, and the rule of the array.

    `part` numbers the layers that share an array, each with its own elements; the rule, one for all of them, has an
    axis `layer` then.
    """

    own: Own
    array: str
    pieces: list[tuple[Piece, View]]
    rule: Rule | None
    part: int | None = None


@dataclass(slots=True)
class Draft:
    """An operator on its way to be a call; `outputs` are the values that it gives, by role."""

    op: Op
    lowered: Lowered
    outputs: list[str]
    uses: list[Use] = field(default_factory=list)
    bodies: dict[str, tuple[Body, list[Draft]]] = field(default_factory=dict)
    warning: str | None = None

    @property
    def unknown(self) -> bool:
        """Whether no room knows the operator."""
        return self.lowered.kind == "unknown"

    def operands(self) -> Iterator[tuple[str, Operand]]:
        """The operands among the arguments, with their roles."""
        for role, arg in self.lowered.args.items():
            yield from ((role, o) for o in _flat(arg))


def _flat(arg: Argument) -> Iterator[Operand]:
    if isinstance(arg, Operand):
        yield arg
    elif isinstance(arg, tuple):
        for item in arg:
            yield from _flat(item)


def every(drafts: Sequence[Draft]) -> Iterator[Draft]:
    """Drafts, and those in their bodies behind them."""
    for draft in drafts:
        yield draft
        for _, inner in draft.bodies.values():
            yield from every(inner)


class Lowering:
    """The drafts of a graph's operators, in order."""

    def __init__(self, name: str, graph: Graph, ports: Mapping[str, Port], statics: Statics) -> None:
        self.name, self.graph, self.ports, self.statics = name, graph, ports, statics
        self.given_up: set[str] = set()  # values that are not followed back, though they are views
        self.drafts: dict[int, Draft] = {}  # by the operator's identity
        self.makers: dict[str, Op] = {}
        self.read = set(graph.outputs)
        _list_values(graph.ops, self.makers, self.read)

    def run(self) -> list[Draft]:
        """Lower what the outputs need."""
        while True:
            self.drafts = {}
            self._demand(self.graph.outputs)
            doubtful = self._doubtful()
            if not doubtful:
                return self._collected(self.graph.ops)
            self.given_up |= doubtful

    def _collected(self, ops: Sequence[Op]) -> list[Draft]:
        found = [self.drafts[id(op)] for op in ops if id(op) in self.drafts]
        for draft in found:
            draft.bodies = {label: (body, self._collected(body.ops)) for label, body in draft.op.bodies.items()}
        return found

    def _demand(self, values: Sequence[str]) -> None:
        waiting = list(values)
        while waiting:
            op = self.makers.get(waiting.pop())
            if op is None or id(op) in self.drafts:
                continue
            draft = self.drafts[id(op)] = self._draft(op)
            for _, operand in draft.operands():
                if self.leaf(operand) is None and not self.inlined(operand):
                    waiting.append(operand.value)
            for body in op.bodies.values():
                waiting += body.outputs

    # -- what an operand is --

    def operand(self, value: str) -> Operand | None:
        """An operator's input as a room sees it."""
        if not value:
            return None
        port = plain(self.ports.get(value) or Port(None, None))
        view = self.statics.views.get(value)
        stored = view is not None and value not in self.given_up
        shape = port.shape if view is None else view.shape
        dtype = port.dtype if view is None else view.dtype
        known = self.statics.known.get(value)
        uniform = self.statics.uniform.get(value)
        return Operand(value, shape, dtype, stored, known, uniform, self._scaled(value))

    def _scaled(self, value: str) -> Scaled | None:
        op = self.makers.get(value)
        if op is None or op.type != "DequantizeLinear" or op.domain not in {"", "com.microsoft"}:
            return None
        axis, block = op.attributes.get("axis", 1), op.attributes.get("block_size", 0)
        parts = [self.operand(i) for i in op.inputs]
        if len(parts) < 2 or not isinstance(axis, int) or not isinstance(block, int):
            return None
        q, scale = parts[0], parts[1]
        if q is None or scale is None or not q.stored or not scale.stored:
            return None
        zero = parts[2] if len(parts) > 2 else None
        if zero is not None and not zero.stored:
            return None
        return Scaled(q, scale, zero, axis, block)

    def leaf(self, operand: Operand) -> str | None:
        """The key of the array that an operand is, as it is stored."""
        if operand.value in self.graph.stored:
            return self.graph.stored[operand.value]
        return None

    def inlined(self, operand: Operand) -> bool:
        """Whether an operand is a constant that was worked out."""
        return operand.known is not None and operand.value not in self.graph.stored

    def view(self, operand: Operand) -> Virtual:
        """The stored elements that an operand shows."""
        return self.statics.views[operand.value]

    # -- one operator --

    def _draft(self, op: Op) -> Draft:
        node = Node(
            op.type, op.domain, op.version,
            tuple(self.operand(i) for i in op.inputs),
            tuple(self.operand(o) for o in op.outputs),
            {k: self._attribute(v) for k, v in op.attributes.items()},
            {label: (tuple(body.inputs), tuple(body.outputs)) for label, body in op.bodies.items()},
        )  # fmt: skip
        warning = None
        room = ROOMS.get((op.domain, op.type))
        while room is not None:
            before = len(self.given_up)
            try:
                lowered = room(node)
                if extra := [o for o in op.outputs[len(lowered.roles) :] if o and o in self.read]:
                    raise UnclearError(f"{op.type}: gives {extra[0]!r}, which is more than it has to give")
                uses = [use for own in lowered.weights for use in self._uses(own)]
                return Draft(op, lowered, self._outputs(op, lowered), uses)
            except (LayoutError, *_MALFORMED) as error:
                warning = str(error) if isinstance(error, LayoutError) else f"{op.type}: its settings make no sense"
            if len(self.given_up) == before:
                break
            node = replace(node, inputs=tuple(self.operand(i) for i in op.inputs))
        lowered = self._unknown(node, warning)
        return Draft(op, lowered, self._outputs(op, lowered), warning=warning)

    def _outputs(self, op: Op, lowered: Lowered) -> list[str]:
        return [*op.outputs, *[""] * len(lowered.roles)][: len(lowered.roles)]

    def _attribute(self, value: Any) -> Any:
        if isinstance(value, Held):
            known = None if value.weight else self.statics.known.get(value.value)
            return self.operand(value.value) if known is None else known
        return value

    def _unknown(self, node: Node, reason: str | None) -> Lowered:
        config: dict[str, Any] = {}
        held = []
        for name, value in node.attributes.items():
            if isinstance(value, Operand):
                held.append(value)
            else:
                config[name] = value.tolist() if hasattr(value, "tolist") else value
        roles = ("y", *(f"y_{i}" for i in range(1, len(node.outputs))))
        args: dict[str, Argument] = {"x": tuple(node.inputs)}
        if held:
            args["held"] = tuple(held)
        why = {} if reason is None else {"reason": reason}
        return Lowered("unknown", {"config": config, **why}, args, (), roles)

    # -- weights --

    def _uses(self, own: Own) -> list[Use]:
        """The arrays that a weight is taken from.

        Raises:
            LayoutError: it is no view of stored arrays, or not one that a rule could say.
        """
        x = self.view(own.operand)
        rule = own.rule or whole(own.role, len(x.shape))
        if (key := x.whole) is not None and self.graph.arrays[key].shape == x.shape:
            return [Use(own, key, [(p, p.view) for p in expand(rule, self.graph.arrays[key].shape)], rule)]
        if rule.steps:
            self.given_up.add(own.operand.value)
            raise LayoutError(f"{own.operand.value}: is put together from parts, which its layout has no word for")
        found: dict[str, list[tuple[Piece, View]]] = {}
        for piece in expand(rule, x.shape):
            where = place(x, piece.view)
            if where is None:
                self.given_up.add(own.operand.value)
                raise LayoutError(f"{own.operand.value}: a tensor of it lies in two arrays")
            found.setdefault(where[0], []).append((piece, where[1]))
        uses = []
        for key, pieces in found.items():
            uses.append(Use(own, key, pieces, restated(pieces, rule, self.graph.arrays[key].shape)))
        return uses

    def _doubtful(self) -> set[str]:
        """Views to give up: of arrays that two layers take apart differently, or that are also read as they are."""
        found: set[str] = set()
        by_array: dict[str, list[Use]] = {}
        for draft in self.drafts.values():
            for use in draft.uses:
                by_array.setdefault(use.array, []).append(use)
        read = {key for d in self.drafts.values() for _, o in d.operands() if (key := self.leaf(o)) is not None}
        for key, uses in by_array.items():
            whole = all(use.rule is not None for use in uses)
            if not whole and key not in read and self._share(key, uses):
                continue
            if (
                not whole
                or not all(_agree(uses[0], u) for u in uses[1:])
                or (key in read and not self._is_whole(key, uses))
            ):
                found.update(use.own.operand.value for use in uses)
        return found - self.given_up

    def _is_whole(self, key: str, uses: Sequence[Use]) -> bool:
        stored = View.whole(self.graph.arrays[key].shape)
        return all(len(u.pieces) == 1 and u.pieces[0][1] == stored for u in uses)

    def _share(self, key: str, uses: Sequence[Use]) -> bool:
        """Give layers that take different parts of one array a rule together, if the parts are all of it."""
        parts: list[Use] = []
        for use in uses:
            same = next((i for i, other in enumerate(parts) if _agree(other, use)), None)
            use.part = len(parts) if same is None else same
            if same is None:
                parts.append(use)
        rule = parts[0].own.rule
        if rule is None or len(parts) < 2:
            return False
        pieces = [
            (replace(piece, at={"layer": str(i), **piece.at}), view)
            for i, use in enumerate(parts)
            for piece, view in use.pieces
        ]
        made = restated(pieces, replace(rule, target=f"{{layer}}.{rule.target}"), self.graph.arrays[key].shape)
        for use in uses:
            use.rule = made
        return made is not None and {use.own.role for use in uses} == {parts[0].own.role}


def _agree(a: Use, b: Use) -> bool:
    """Whether two uses of an array give the same tensors, in their order of axes or the reverse."""
    mine, theirs = [v for _, v in a.pieces], {v for _, v in b.pieces}
    turned = {v.permute(tuple(reversed(range(len(v.shape))))) for v in theirs}
    return len(mine) == len(theirs) and (set(mine) == theirs or set(mine) == turned)


def _list_values(ops: Sequence[Op], makers: dict[str, Op], read: set[str]) -> None:
    for op in ops:
        makers.update((o, op) for o in op.outputs if o)
        read.update(op.inputs)
        for body in op.bodies.values():
            read.update(body.outputs)
            _list_values(body.ops, makers, read)
