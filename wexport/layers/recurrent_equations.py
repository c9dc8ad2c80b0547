"""The equations of recurrent layers: a cell's lines, each step's; what the steps of both directions give.

`recurrent.py` is where the layers are declared, read and computed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from wexport.layers.recurrent import STATES, kind_of_cell
from wexport.layers.registry import equations
from wexport.layers.step import Terms, unread
from wexport.model import Json


@dataclass(frozen=True, slots=True)
class Cells:
    """The lines of one step, and what is left when all are taken: the output's name, the states' roles and names."""

    lines: list[str]
    output: str
    states: list[tuple[str, str]]


def _recurrent(terms: Terms, hidden: str, name: str) -> str:
    """What a kernel does to the state before."""
    rounds = terms.attributes.get("quantize_input") is not None
    return f"{f'rounded({hidden})' if rounds else hidden} @ {terms.ref(name)}"


def _gate(terms: Terms, gate: str, x: str, i: str) -> str:
    h = _recurrent(terms, f"h{i}_prev", f"{gate}.recurrent")
    term = f"{terms.product(f'{gate}.kernel', x=x)} + {h}{terms.plus(f'{gate}.bias', f'{gate}.recurrent_bias')}"
    seen = f"c{i}" if gate == "output" else f"c{i}_prev"  # the output gate sees the new cell
    return term + (f" + {terms.ref(f'{gate}.peephole')} * {seen}" if terms.has(f"{gate}.peephole") else "")


def _act(terms: Terms, key: str, text: str) -> str:
    """An activation of a term, which is clipped before."""
    clip = terms.attributes.get("clip")
    return terms.activation(key, text if clip is None else f"clip({text}, {-clip}, {clip})")


def _lstm_lines(terms: Terms, x: str, i: str) -> list[str]:
    gates = {"i": "input", "f": "forget", "o": "output"}
    lines = {k: f"{k}{i} = {_act(terms, 'recurrent_activation', _gate(terms, g, x, i))}" for k, g in gates.items()}
    if terms.attributes.get("coupled"):
        lines["f"] = f"f{i} = 1 - i{i}{unread(terms.below('forget'))}"
    new = f"c{i} = f{i} * c{i}_prev + i{i} * g{i}"
    last = "output_activation" if "output_activation" in terms.attributes else "activation"
    return [
        lines["i"],
        lines["f"],
        f"g{i} = {_act(terms, 'activation', _gate(terms, 'cell', x, i))}",
        *((new, lines["o"]) if terms.has("output.peephole") else (lines["o"], new)),
        f"h{i} = o{i} * {terms.activation(last, f'c{i}')}",
    ]


def _gru_lines(terms: Terms, x: str, i: str) -> list[str]:
    z, r = (
        f"{k}{i} = {_act(terms, 'recurrent_activation', _gate(terms, g, x, i))}"
        for k, g in (("z", "update"), ("r", "reset"))
    )
    kernel, before = terms.product("candidate.kernel", x=x), f"h{i}_prev"
    if terms.attributes.get("reset_after"):
        inner = f"{_recurrent(terms, before, 'candidate.recurrent')}{terms.plus('candidate.recurrent_bias')}"
        term = f"{kernel}{terms.plus('candidate.bias')} + r{i} * ({inner})"
    else:
        biases = terms.plus("candidate.bias", "candidate.recurrent_bias")
        term = f"{kernel} + {_recurrent(terms, f'(r{i} * {before})', 'candidate.recurrent')}{biases}"
    new = f"h{i} = z{i} * {before} + (1 - z{i}) * n{i}"
    return [z, r, f"n{i} = {_act(terms, 'activation', term)}", new]


def _rnn_lines(terms: Terms, x: str, i: str) -> list[str]:
    h = _recurrent(terms, f"h{i}_prev", "recurrent")
    term = f"{terms.product('kernel', x=x)} + {h}{terms.plus('bias', 'recurrent_bias')}"
    return [f"h{i} = {_act(terms, 'activation', term)}"]


_LINES = {"lstm": _lstm_lines, "gru": _gru_lines, "rnn": _rnn_lines}


def directed(terms: Terms, cells: Callable[[Terms], Cells]) -> list[str]:
    """The steps of each direction in which the layer runs, and what becomes of their outputs."""
    a = terms.attributes
    none: Mapping[str, Json] = {}
    runs = {"": none} if a.get("direction") != "bidirectional" else {"forward": none, "backward": a["backward"]}
    found = ["x = rounded(x)"] if a.get("quantize_input") is not None else []
    outputs, states = [], []
    for name, theirs in runs.items():
        own = {**a, **theirs}
        cell = cells(terms.below(name, own) if name else terms)
        dot = f"{name}." if name else ""
        head = f"{name}, each step" if name else "each step"
        found += [f"{head}{', from the last' if own['go_backwards'] else ''}:", *(f"  {line}" for line in cell.lines)]
        y = f"{'every' if own['return_sequences'] else 'last'}({dot}{cell.output})"
        turned = own["go_backwards"] if a.get("merge_mode") == "stack" else name == "backward"
        outputs.append(f"reverse({y})" if turned and own["return_sequences"] else y)
        states.append([(role, dot + value) for role, value in cell.states])
    return [*found, *_merged(a, outputs), *_left(a, states)]


def _merged(a: Mapping[str, Any], outputs: Sequence[str]) -> list[str]:
    mode = a.get("merge_mode")
    if mode == "stack":
        return [f"y = stack({', '.join(outputs)})"]
    if len(outputs) == 1:
        return [f"y = {outputs[0]}"]
    if mode is None:
        return [f"y = {outputs[0]}", f"y_backward = {outputs[1]}"]
    p, q = outputs
    how = {"concat": f"concat({p}, {q})", "sum": f"{p} + {q}", "ave": f"({p} + {q}) / 2", "mul": f"{p} * {q}"}
    return [f"y = {how[mode]}"]


def _left(a: Mapping[str, Any], states: Sequence[Sequence[tuple[str, str]]]) -> list[str]:
    """The states after the last step."""
    if not a["return_state"]:
        return []
    if a.get("merge_mode") == "stack":
        return [f"{same[0][0]} = stack({', '.join(name for _, name in same)})" for same in zip(*states, strict=True)]
    dots = ("forward.", "backward.") if len(states) > 1 else ("",)
    return [f"{dot}{role} = {name}" for dot, own in zip(dots, states, strict=True) for role, name in own]


def _states(kind_of: str, i: str = "") -> dict[str, str]:
    return {state: f"{state[-1]}{i}" for state in STATES[kind_of]}


@equations("lstm", "gru", "rnn")
def _cell_equations(terms: Terms) -> list[str]:
    what = kind_of_cell(terms.attributes)
    return directed(terms, lambda t: Cells(_LINES[what](t, "x", ""), "h", list(_states(what).items())))


@equations("cell_step")
def _step_equations(terms: Terms) -> list[str]:
    cell = {**terms.attributes["cell"], "reads": terms.attributes.get("reads")}
    states = _states(cell["kind"]).items()
    several = len(states) > 1
    given = [f"{name}_prev = initial_state{[i] if several else ''}" for i, (_, name) in enumerate(states)]
    lines = _LINES[cell["kind"]](replace(terms, attributes=cell), "x", "")
    return [*given, *lines, "y = h", *(f"{role} = {name}" for role, name in states)]


@equations("stacked_rnn")
def _stacked_equations(terms: Terms) -> list[str]:
    def cells(inner: Terms) -> Cells:
        lines: list[str] = []
        names: dict[str, str] = {}
        own = inner.attributes["cells"]
        for i, cell in enumerate(own):
            cell = {**cell, "reads": inner.attributes.get("reads") if i == 0 else None}
            lines += _LINES[cell["kind"]](inner.below(str(i), cell), f"h{i - 1}" if i else "x", str(i))
            names |= {f"{i}.{state}": name for state, name in _states(cell["kind"], str(i)).items()}
        states = [(role, names[role]) for role in inner.attributes["state_order"]]
        return Cells(lines, f"h{len(own) - 1}", states)

    return directed(terms, cells)
