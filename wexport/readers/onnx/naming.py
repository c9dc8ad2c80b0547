"""Names for layers: the module's for what owns weights, the operator's own for all else.

A module's name goes to the first layer that takes arrays as its rule says, then to those that take them as they are
stored. Several recurrent layers in a module are numbered, several projections of an attention are called by their part;
of any others the later ones have their operator's name behind the module's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from wexport.names import Names, unique
from wexport.readers.onnx.lower import Draft
from wexport.readers.onnx.names import Style, inlined, own_name, surroundings

_RECURRENT = {"lstm", "gru", "rnn"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a layer might be called: by its module, by its operator; `rank` is its place among those that ask."""

    module: str
    own: str
    rank: int
    kind: str
    part: str | None


def name_layers(
    drafts: Sequence[Draft], arrays: Callable[[Draft], Sequence[str]], module: Callable[[Draft, Sequence[str]], str],
    parts: Mapping[int, str], style: Style, taken: Iterable[str],
) -> list[str]:  # fmt: skip
    """A name for each layer, of which the first draft is given.

    `arrays` gives the weights that a draft takes, `module` the path of the module that it is of.
    """
    wanted = []
    numbers: Counter[str] = Counter()
    for draft in drafts:
        kind = draft.lowered.kind
        numbers[kind] += 1
        found = arrays(draft)
        path = module(draft, found) if found else ""
        own = own_name(draft.op, style)
        around = surroundings(draft.op)
        own = f"{around}.{own}".strip(".") if own and around else own
        path = f"{around}.{path}" if path and around and inlined(draft.op) else path
        rank = 0 if draft.uses else 1 if path else 2
        wanted.append(Wanted(path, own or f"{kind}_{numbers[kind]}", rank, kind, parts.get(id(draft))))
    return _chosen(_numbered(wanted), taken)


def _numbered(wanted: Sequence[Wanted]) -> list[Wanted]:
    """Recurrent layers of one module get its name with their number, where there are several."""
    cells: dict[str, list[str]] = {}
    for w in wanted:
        if w.kind in _RECURRENT and w.module:
            cells.setdefault(w.module.partition("#")[0], []).append(w.module)
    found = []
    seen: Counter[str] = Counter()
    for w in wanted:
        head, mark, number = w.module.partition("#")
        path = head
        if len(set(cells.get(head, ()))) > 1 or len(cells.get(head, ())) > 1:
            if mark:
                path = f"{head}.{number}"
            elif w.kind in _RECURRENT:
                path = f"{head}.{seen[head]}"
                seen[head] += 1
        found.append(Wanted(path, w.own, w.rank, w.kind, w.part))
    return found


def _chosen(wanted: Sequence[Wanted], taken: Iterable[str]) -> list[str]:
    dense = Counter(w.module for w in wanted if w.kind == "dense")
    names: dict[int, str] = {}
    used = Names(taken)
    for i in sorted(range(len(wanted)), key=lambda i: wanted[i].rank):
        w = wanted[i]
        name = f"{w.module}.{w.part}" if w.part and w.module and dense[w.module] > 1 else w.module
        if name in used and w.own not in used:
            name = w.own if w.own.startswith(w.module) else f"{w.module}.{w.own}"
        names[i] = unique(name or w.own, used)
        used.add(names[i])
    return [names[i] for i in range(len(wanted))]
