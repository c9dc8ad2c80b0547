"""Which dense layers are the query, key and value of an attention: proved by the products around a softmax.

    scores = q @ k'   (scaled, masked)      y = softmax(scores) @ v

Each operand is followed back through moves, scales, rotations and normalizations; it is a part only where all ways
back end in the same one layer. A layer from which more than one operand comes is no part of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from wexport.layers.onnx import Operand
from wexport.readers.onnx.lower import Draft, every

_SCORES = {
    "add",
    "subtract",
    "multiply",
    "divide",
    "where",
    "cast",
    "clip",
    "maximum",
    "identity",
    "dropout",
    "activation",
}
_MOVES = _SCORES | {
    "transpose", "reshape", "reshape_all", "dynamic_reshape", "flatten_at", "expand_dims", "squeeze", "split", "slice",
    "dynamic_slice", "gather", "concat", "expand", "unary", "rms_norm", "layer_norm", "rotary_embedding", "tile",
}  # fmt: skip
_STEPS = 200


Core = tuple[str, str, str]  # the values that are multiplied as query, key and value


def attention_parts(drafts: Sequence[Draft], cores: Sequence[Core]) -> dict[int, str]:
    """`query`, `key` or `value` for each dense layer that is one, by the draft's identity."""
    makers = {o: d for d in every(drafts) for o in d.outputs if o}
    found: dict[int, set[str]] = {}
    for core in cores:
        origins = [_origins(value, makers) for value in core]
        if all(len(o) == 1 for o in origins):
            for part, origin in zip(("query", "key", "value"), origins, strict=True):
                found.setdefault(origin.pop(), set()).add(part)
    return {draft: parts.pop() for draft, parts in found.items() if len(parts) == 1}


def attention_cores(drafts: Sequence[Draft]) -> list[Core]:
    """The operands of every attention."""
    makers = {o: d for d in every(drafts) for o in d.outputs if o}
    takers: dict[str, list[Draft]] = {}
    for draft in every(drafts):
        for _, operand in draft.operands():
            takers.setdefault(operand.value, []).append(draft)
    found: list[Core] = []
    for draft in every(drafts):
        if draft.lowered.kind == "scaled_dot_product":
            q, k, v = (draft.lowered.args.get(role) for role in ("query", "key", "value"))
            if isinstance(q, Operand) and isinstance(k, Operand) and isinstance(v, Operand):
                found.append((q.value, k.value, v.value))
        activation = draft.lowered.attributes.get("activation") or {}
        if draft.lowered.kind != "activation" or activation.get("name") != "softmax":
            continue
        scores = _product(_first(draft), makers)
        mixed = _mixed(draft, takers)
        if scores is not None and mixed is not None:
            found.append((*scores, mixed))
    return found


def _first(draft: Draft) -> str:
    return next((o.value for _, o in draft.operands()), "")


def _product(value: str, makers: Mapping[str, Draft]) -> tuple[str, str] | None:
    """The operands of the product behind a value: the only one on its way."""
    waiting, found, seen = [value], [], set[int]()
    while waiting and len(seen) < _STEPS:
        draft = makers.get(waiting.pop())
        if draft is None or id(draft) in seen:
            continue
        seen.add(id(draft))
        operands = [o.value for _, o in draft.operands()]
        if draft.lowered.kind == "matmul" and not draft.uses and len(operands) == 2:
            found.append((operands[0], operands[1]))
        elif draft.lowered.kind in _SCORES:
            waiting += operands
    return found[0] if len(found) == 1 else None


def _mixed(draft: Draft, takers: Mapping[str, Sequence[Draft]]) -> str | None:
    """What the probabilities are multiplied with."""
    value = draft.outputs[0]
    for _ in range(_STEPS):
        users = takers.get(value, ())
        if len(users) != 1:
            return None
        user = users[0]
        operands = [o.value for _, o in user.operands()]
        if user.lowered.kind == "matmul" and not user.uses and len(operands) == 2:
            return operands[1] if operands[0] == value else None
        if user.lowered.kind not in _SCORES:
            return None
        value = user.outputs[0]
    return None


def _origins(value: str, makers: Mapping[str, Draft]) -> set[int]:
    """The dense layers from which a value comes; empty where a way back ends elsewhere."""
    waiting, found, seen = [value], set[int](), set[int]()
    while waiting:
        draft = makers.get(waiting.pop())
        if draft is None or len(seen) > _STEPS:
            return set()
        if id(draft) in seen:
            continue
        seen.add(id(draft))
        kind = draft.lowered.kind
        if kind == "dense":
            found.add(id(draft))
        elif kind in _MOVES:
            inner = [o for _, o in draft.operands() if o.value in makers and o.known is None]
            if not inner:
                return set()
            waiting += [o.value for o in inner]
        elif kind not in {"shape", "size", "range", "fill", "compare"}:
            return set()
    return found
