"""An interpreter of a manifest's equations, as `docs/equations.md` describes them.

It shares no code with what it is compared with: functions are written anew, plainly, from their descriptions.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from equations import attention, classic, functions, recurrence, rounding, windows
from equations.parts import part
from equations.recurrence import Block, after, run
from equations.values import Array, Call, Value, elementwise, matmul, tensor, transposed, value

FUNCTIONS: dict[str, Any] = {
    **functions.FUNCTIONS, **windows.FUNCTIONS, **rounding.FUNCTIONS, **attention.FUNCTIONS, **classic.FUNCTIONS,
    **recurrence.FUNCTIONS,
}  # fmt: skip
_ROWS = (
    "linear_regressor",
    "linear_classifier",
    "svm_",
    "tree_",
)  # kinds whose x has a row for each sample; a single one may come alone
_HEADER = re.compile(r"(?:(forward|backward), )?each step(, from the last)?:")
_LINE = re.compile(r"([\w.]+(?:, [\w.]+)*) = (.*?)(  # .*)?")
_SIGNS: dict[type, Any] = {
    ast.Add: np.add, ast.Sub: np.subtract, ast.Mult: np.multiply, ast.Div: np.divide, ast.Pow: np.power,
    ast.USub: np.negative, ast.Eq: np.equal, ast.NotEq: np.not_equal, ast.Gt: np.greater, ast.GtE: np.greater_equal,
    ast.Lt: np.less, ast.LtE: np.less_equal,
}  # fmt: skip


def evaluated(
    lines: Sequence[str], entry: Mapping[str, Any], tensors: Mapping[str, tuple[str, Array]], args: Mapping[str, Any]
) -> dict[str, Any]:
    """What the lines define, by role: everything but the names that only lines use."""
    steps = entry.get("time_distributed", 0)
    shape = None
    if steps:
        shape = _first(args["x"]).shape[: steps + 1]
        args = {role: _folded(a, steps) for role, a in args.items()}
    if entry["kind"].startswith(_ROWS):
        args = {**args, "x": np.atleast_2d(np.asarray(args["x"], np.float64))}
    call = Call(entry, {n: tensor(axes, data) for n, (axes, data) in tensors.items()}, args)
    _run(call, list(lines))
    found = {name: _plain(v) for name, v in call.found.items() if not isinstance(v, Block)}
    if entry.get("return_sequences") and entry["axes"]["y"][0] == "length" and entry.get("merge_mode") != "stack":
        found |= {role: np.swapaxes(found[role], 0, 1) for role in ("y", "y_backward") if role in found}
    if shape is None:
        return found
    return {name: v.reshape(*shape, *v.shape[1:]) if v.ndim else v for name, v in found.items()}


def _first(x: Any) -> Array:
    return np.asarray(x[0] if isinstance(x, tuple) else x)


def _folded(arg: Any, steps: int) -> Any:
    if isinstance(arg, tuple):
        return tuple(_folded(a, steps) for a in arg)
    if not isinstance(arg, np.ndarray) or arg.ndim <= steps:
        return arg
    return arg.reshape(-1, *arg.shape[steps + 1 :])


def _plain(found: Any) -> Any:
    return found.data if isinstance(found, Value) else tuple(map(_plain, found))


def _run(call: Call, lines: list[str]) -> None:
    while lines:
        line = lines.pop(0)
        header = _HEADER.fullmatch(line)
        if header is None:
            _assign(call, line)
            continue
        body = []
        while lines and lines[0].startswith("  "):
            body.append(lines.pop(0)[2:])
        block = Block(header[1] or "", bool(header[2]), body)
        run(call, block, _assign)
        call.found[block.name] = block
        if not block.name:
            call.found.update(after(block))


def _assign(call: Call, line: str) -> None:
    match = _LINE.fullmatch(line)
    assert match is not None, f"no assignment: {line}"
    names, result = match[1].split(", "), _parsed(call, match[2])
    if len(names) == 1:
        call.found[names[0]] = result
        return
    for name, item in zip(names, result, strict=True):
        call.found[name] = item


def _parsed(call: Call, text: str) -> Any:
    quoted: list[str] = []

    def named(match: re.Match[str]) -> str:
        quoted.append(match[1])
        return f"quoted_{len(quoted) - 1}"

    tree = ast.parse(re.sub("`([^`]+)`", named, text), mode="eval")
    return _Reader(call, quoted).read(tree.body)


class _Reader:
    """Evaluates an expression: a closed set of nodes, and names that the call knows."""

    def __init__(self, call: Call, quoted: list[str]) -> None:
        self.call, self.quoted = call, quoted

    def read(self, node: ast.AST) -> Any:
        found = getattr(self, f"_{type(node).__name__.lower()}", None)
        assert found is not None, f"no part of the language: {ast.unparse(node)}"
        return found(node)

    def _constant(self, node: ast.Constant) -> Any:
        return node.value

    def _tuple(self, node: ast.Tuple) -> Any:
        return tuple(self.read(e) for e in node.elts)

    def _dict(self, node: ast.Dict) -> Any:
        return {self.read(k): self.read(v) for k, v in zip(node.keys, node.values, strict=True) if k is not None}

    def _quoted(self, node: ast.AST) -> str | None:
        return self.quoted[int(node.id[7:])] if isinstance(node, ast.Name) and node.id.startswith("quoted_") else None

    def _name(self, node: ast.Name) -> Any:
        """A tensor; else what a line gave, an argument, a word of the layer's entry."""
        short, call = self._quoted(node), self.call
        if short is not None:
            return call.tensors[short]
        if node.id in call.found:
            return call.found[node.id]
        if node.id in call.parts:
            return part(call, node.id, ())
        if node.id in call.args:
            return _argument(call.args[node.id], node.id, call)
        found = call.entry[node.id]
        return found if node.id in {"classes", "nodes_modes"} else Value(*_attribute(found))

    def _unaryop(self, node: ast.UnaryOp) -> Any:
        found = self.read(node.operand)
        return -found if isinstance(found, int | float) else elementwise(self.call, _SIGNS[type(node.op)], found)

    def _binop(self, node: ast.BinOp) -> Any:
        left, right = self.read(node.left), self.read(node.right)
        if isinstance(node.op, ast.MatMult):
            return matmul(self.call, left, right)
        return elementwise(self.call, _SIGNS[type(node.op)], left, right)

    def _compare(self, node: ast.Compare) -> Any:
        (sign,), (right,) = node.ops, node.comparators
        return elementwise(self.call, _SIGNS[type(sign)], self.read(node.left), self.read(right))

    def _ifexp(self, node: ast.IfExp) -> Any:
        name = node.test
        if isinstance(name, ast.Name):  # an argument that is true, or false, or missing
            return self.read(node.body if bool(self.call.args.get(name.id)) else node.orelse)
        return self.read(node.body if self.read(name).data else node.orelse)

    def _attribute(self, node: ast.Attribute) -> Any:
        found = self.read(node.value)
        return after(found)[node.attr] if isinstance(found, Block) else transposed(found)

    def _slice(self, node: ast.Slice) -> Any:
        return slice(*(None if n is None else self.read(n) for n in (node.lower, node.upper, node.step)))

    def _subscript(self, node: ast.Subscript) -> Any:
        if isinstance(node.value, ast.Name) and node.value.id in self.call.parts:
            labels = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
            return part(self.call, node.value.id, tuple(map(ast.unparse, labels)))
        base, source = self.read(node.value), self._quoted(node.slice)
        if source is not None and self._quoted(node.value) is None:
            return _view(self.call, base, source)
        place = self.read(node.slice)
        if isinstance(base, list):
            return functions.picked(base, place)
        if isinstance(base, tuple | Value) and not isinstance(place, Value):
            return base[place] if isinstance(base, tuple) else value(base.data[place])
        return functions.rows(base, place)

    def _call(self, node: ast.Call) -> Any:
        assert isinstance(node.func, ast.Name)
        name = node.func.id
        if name == "float32":
            self.call.single = True
            found = self.read(node.args[0])
            self.call.single = False
            return found
        words = {"cast": 1, "saturate": 1}.get(name)
        given: list[Any] = [
            n.id if i == words and isinstance(n, ast.Name) else self.read(n) for i, n in enumerate(node.args)
        ]
        named = {str(k.arg): k.value.id if _is_word(k) else self.read(k.value) for k in node.keywords}  # type: ignore[attr-defined]
        if name in attention.BY_NAME:
            roles = [ast.unparse(n) for n in node.args]
            return attention.BY_NAME[name](self.call, dict(zip(roles, given, strict=True)), **named)
        return FUNCTIONS[name](self.call, *given, **named)


def _is_word(keyword: ast.keyword) -> bool:
    return keyword.arg == "over" and isinstance(keyword.value, ast.Name)


def _argument(arg: Any, role: str, call: Call) -> Any:
    if arg is None:
        return None
    if isinstance(arg, tuple):
        return tuple(_argument(a, role, call) for a in arg)
    if role == "kernel" and call.inner.get("kernel_axes"):
        return tensor(call.inner["kernel_axes"], np.asarray(arg))
    if isinstance(arg, str | bool):
        return arg
    found = value(arg)
    return Value(found.data, ((),) * found.ndim, True) if _is_setting(role, call) else found


def _is_setting(role: str, call: Call) -> bool:
    """Arguments that stand for tensors, which the file does not store: they are laid like them."""
    names = r"scale|offset|mean|variance|alpha|bias|.*_(scale|zero_point)|zero_point"
    return (
        role != "x"
        and re.fullmatch(names, role) is not None
        and not (role == "offset" and "offset_groups" in call.entry)
    )


def _attribute(found: Any) -> tuple[Array, tuple[Any, ...], bool]:
    data = np.asarray(found)
    return data, ((),) * data.ndim, data.ndim > 0


def _view(call: Call, x: Value, source: str) -> Value:
    """The part of x's features that comes from a source, as the entry's `reads` says, flattened."""
    read = next(r for r in call.entry["reads"] if r["from"] == source)
    places = np.asarray(read["start"])
    for n, stride in zip(read["sizes"], read["strides"], strict=True):
        places = places[..., None] + np.arange(n) * stride
    axis = call.channels if x.ndim > 2 else -1
    return value(np.take(x.data, places.reshape(-1), axis))
