"""What can be said of values without running the model: which are views of stored arrays, and which are constants.

Views are followed through ONNX' shape operations (`follow.py`). Small whole numbers, and single floats, are worked out
(`fold.py`); arithmetic on weights never is. `uniform` says which values hold one number everywhere,
whatever their shape (the zeros that exporters make for initial states).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from wexport.model import Port
from wexport.readers.onnx.container import read_small
from wexport.readers.onnx.fold import FOLDS, fold
from wexport.readers.onnx.follow import VIEWS
from wexport.readers.onnx.lengths import measure
from wexport.readers.onnx.ops import PROGRAM, Graph, Held, Op
from wexport.readers.onnx.statics import Array, Statics
from wexport.readers.onnx.views import Virtual

_SMALL = 64  # elements
_MAX_KNOWN = 4096  # of what is worked out
_MAX_STATE = 64 << 20  # bytes of an initial state that is looked at
_SPREADING = {
    "Expand", "Unsqueeze", "Squeeze", "Reshape", "Identity", "Cast", "Concat", "Transpose", "Slice", "Tile", "Gather",
}  # fmt: skip


def stored_constants(graph: Graph) -> dict[str, Array]:
    """The elements of small stored arrays."""
    small = {k for k, a in graph.arrays.items() if a.count <= _SMALL or (a.dtype == "int64" and a.count <= _MAX_KNOWN)}
    read = {k: read_small(graph.arrays[k]) for k in small}
    return {value: read[key] for value, key in graph.stored.items() if key in read}


def analyse(graph: Graph, ports: Mapping[str, Port], constants: Mapping[str, Array]) -> Statics:
    """Follow every value of the graph."""
    found = Statics()
    for value, key in graph.stored.items():
        found.views[value] = Virtual.of(graph.arrays[key])
    found.fixed |= set(graph.stored)
    found.known |= constants
    _states(graph, found)
    _walk(graph.ops, found, ports)
    return found


def _states(graph: Graph, found: Statics) -> None:
    """The arrays behind initial states, and those among them that are all zero."""
    makers = {o: op for op in graph.ops for o in op.outputs}
    waiting = [v for op in graph.ops if op.type in _RECURRENT for v in op.inputs[5:7] if v]
    seen: set[str] = set()
    while waiting:
        value = waiting.pop()
        if value in seen:
            continue
        seen.add(value)
        if value in graph.stored:
            array = graph.arrays[graph.stored[value]]
            found.states.add(array.key)
            if array.nbytes <= _MAX_STATE and not any(array.bytes()):
                found.uniform[value] = 0.0
        elif (op := makers.get(value)) is not None and op.type in _SPREADING:
            waiting += op.inputs if op.type == "Concat" else op.inputs[:1]


def _walk(ops: Sequence[Op], found: Statics, ports: Mapping[str, Port]) -> None:
    for op in ops:
        for body in op.bodies.values():
            _walk(body.ops, found, ports)
        if not op.bodies and op.domain in {"", PROGRAM}:
            _follow(op, found, ports)


def _follow(op: Op, found: Statics, ports: Mapping[str, Port]) -> None:
    given = [i for i in op.inputs if i]
    measure(op, found, ports)
    if op.outputs and op.outputs[0] in found.known:
        return
    if given and all(i in found.fixed for i in given) and op.type not in _RANDOM:
        found.fixed.update(o for o in op.outputs if o)
    _spread(op, found)
    if op.type in VIEWS and op.inputs and op.inputs[0] in found.views:
        VIEWS[op.type](op, found)
    if op.type in FOLDS and op.outputs[0] not in found.known:
        fold(op, found)


_RECURRENT = {"LSTM", "GRU", "RNN", "DynamicQuantizeLSTM"}
_RANDOM = {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial"}


def _spread(op: Op, found: Statics) -> None:
    """Values that hold one number everywhere."""
    if op.type == "ConstantOfShape":
        held = op.attributes.get("value")
        value = found.known.get(held.value) if isinstance(held, Held) else np.zeros(1)
        if value is not None and value.size == 1:
            found.uniform[op.outputs[0]] = float(value.reshape(-1)[0])
        return
    if op.type == "ConstantFill":
        found.uniform[op.outputs[0]] = float(op.attributes.get("value", 0.0))
        return
    if op.type not in {
        "Expand",
        "Unsqueeze",
        "Squeeze",
        "Reshape",
        "Identity",
        "Cast",
        "Concat",
        "Transpose",
        "Slice",
        "Tile",
    }:
        return
    sources = op.inputs if op.type == "Concat" else op.inputs[:1]
    numbers = {_number(s, found) for s in sources}
    if len(numbers) == 1 and (number := numbers.pop()) is not None:
        found.uniform[op.outputs[0]] = number


def _number(value: str, found: Statics) -> float | None:
    if value in found.uniform:
        return found.uniform[value]
    known = found.known.get(value)
    if known is None or not known.size or known.dtype.kind not in "fiub":
        return None
    first = known.reshape(-1)[0]
    return float(first) if (known == first).all() else None
