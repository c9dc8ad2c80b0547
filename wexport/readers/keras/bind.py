"""Which stored array is which variable.

`.h5` files give every top-level layer a list: trainable variables first, those of nested models flattened. Archives
give every object a group, numbered. Both are held against what the classes say they store (`Slot`); names and
shapes must agree, else the layer is taken for unknown and its arrays are exported whole.

Sources: keras/engine/saving.py (2.2.4); keras/src/saving/legacy/saving_utils.py, hdf5_format.py `_legacy_weights`
(2.15); keras/src/saving/saving_lib.py (3.15.1).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from wexport.errors import LayoutError
from wexport.layers.keras import Shapes, Slot, dtype_name, stored, told, unknown
from wexport.layers.unknown import whole
from wexport.layout import axis_sizes
from wexport.model import Array, Json, Layer, Weight
from wexport.readers.keras.graph import Draft
from wexport.readers.keras.tree import Entry, Tree
from wexport.words import shape_text


@dataclass(frozen=True, slots=True)
class Found:
    """An array in the file: its key there, the name that the writer gave it, and the array."""

    key: str
    name: str
    array: Array


@dataclass(slots=True)
class Binding:
    """The arrays of one layer, each with its slot (None: not understood)."""

    draft: Draft
    pairs: list[tuple[Slot | None, Found]] = field(default_factory=list)
    ordered: bool = True  # whether the file tells the framework's own order of them

    def shapes(self) -> Shapes:
        """The shapes of the arrays by the names of their variables."""
        return {slot.name: found.array.shape for slot, found in self.pairs if slot is not None and slot.copy_of is None}


@dataclass(frozen=True, slots=True)
class Want:
    """A variable that a layer stores, waiting for its array."""

    draft: Draft
    slot: Slot
    trainable: bool


# -- the order of an .h5 group -----------------------------------------------------------------------------------------


def wants(entry: Entry, drafts: Mapping[str, Draft], frozen: bool = False) -> list[Want]:
    """The variables of a layer (or of all layers of a nested model) as their classes list them."""
    frozen = frozen or not entry.trainable
    if entry.model is not None:
        return [w for e in entry.model.entries for w in wants(e, drafts, frozen)]
    draft = drafts.get(entry.full)
    if draft is None:
        return []
    own = [s for s in draft.stored.slots if s.copy_of is None]
    return [Want(draft, s, s.trainable and not frozen) for s in own]


def file_order(found: Sequence[Want]) -> list[Want]:
    """Trainable variables first."""
    return [w for w in found if w.trainable] + [w for w in found if not w.trainable]


def layer_order(found: Sequence[Want]) -> list[Want]:
    """Layer by layer, each with its trainable variables first."""
    result: list[Want] = []
    for name in dict.fromkeys(w.draft.name for w in found):
        result += file_order([w for w in found if w.draft.name == name])
    return result


def declared_order(found: Sequence[Want]) -> list[Want]:
    """As if nothing were frozen: what is never trained comes last."""
    return [w for w in found if w.slot.trainable] + [w for w in found if not w.slot.trainable]


def bind_group(found: Sequence[Found], wanted: Sequence[Want], layer_name: str) -> dict[str, Binding] | None:
    """The arrays of an .h5 group, each with its variable; None where no order of them fits.

    An order is believed only if every name and every shape agrees with it.
    """
    if not wanted or len(found) != len(wanted):
        return None
    hints = [short_name(f.name, layer_name) for f in found]
    single = len({w.draft.name for w in wanted}) == 1
    orders = [file_order(wanted), declared_order(wanted), layer_order(wanted), list(wanted)]
    if single and len(set(hints)) == len(hints) and set(hints) == {w.slot.name for w in wanted}:
        by_name = {w.slot.name: w for w in wanted}
        orders.insert(0, [by_name[h] for h in hints])
    for strict in (True, False):
        for order in orders:
            if strict and not all(_agree(h, w.slot.name) for h, w in zip(hints, order, strict=True)):
                continue
            if not strict and any(_contradict(h, w, wanted) for h, w in zip(hints, order, strict=True)):
                continue
            bindings = _paired(order, found)
            if all(fits(b) for b in bindings.values()):
                return bindings
    return None


def _paired(order: Sequence[Want], found: Sequence[Found]) -> dict[str, Binding]:
    bindings: dict[str, Binding] = {}
    for want, array in zip(order, found, strict=True):
        bindings.setdefault(want.draft.name, Binding(want.draft)).pairs.append((want.slot, array))
    return bindings


def _agree(hint: str, name: str) -> bool:
    return hint == name or re.sub(r"_\d+$", "", hint) == name


def _contradict(hint: str, want: Want, wanted: Sequence[Want]) -> bool:
    """Whether a name is that of another variable of the group."""
    return not _agree(hint, want.slot.name) and any(_agree(hint, w.slot.name) for w in wanted)


def short_name(name: str, layer_name: str) -> str:
    """A weight's own name: the last word of its path, without the `:0` of a graph or Keras 1's layer name."""
    last = re.sub(r":\d+$", "", name).rpartition("/")[2]
    if last.startswith(f"{layer_name}_"):
        last = last[len(layer_name) + 1 :]
    match = re.fullmatch(
        r".*?_([WUb](?:_[icfozrh]|_carry)?|gamma|beta|running_mean|running_std|alphas|betas|[ta]_left|[ta]_right)(?:_\d+)?",
        last,
    )
    return match[1] if match else last


def fits(binding: Binding) -> bool:
    """Whether every array has the shape that its rule wants."""
    try:
        check(binding)
    except (LayoutError, KeyError, IndexError):
        return False
    return True


def _width(draft: Draft) -> Json:
    """How many outputs the config says that a layer has."""
    return draft.stored.attributes.get("units", draft.stored.attributes.get("filters"))


def described(draft: Draft) -> str:
    """A layer in a message about its arrays: `LSTM of 128 units`."""
    width = _width(draft)
    return f"{draft.entry.layer.class_name}{f' of {width} units' if isinstance(width, int) else ''}"


def check(binding: Binding) -> None:
    """Hold the arrays' shapes against the rules, axes of one name against each other, and units against the config.

    Raises:
        LayoutError: they do not fit.
    """
    shapes = binding.shapes()
    lengths: dict[str, int] = {}
    stated = _width(binding.draft)
    for slot, found in binding.pairs:
        if slot is None:
            continue
        rule = slot.rule_for(found.array.shape, shapes)
        for axis, n in axis_sizes(rule, found.array.shape).items():
            key = f"{rule.at.get('direction', '')}.{rule.at.get('cell', '')}.{rule.at.get('part', '')}.{axis}"
            if axis in {"in", "unit", "out", "channel", "dim", "token"} and lengths.setdefault(key, n) != n:
                raise LayoutError(f"{found.key}: axis {axis!r} has {n} elements, elsewhere in the layer {lengths[key]}")
            if axis in {"unit", "out"} and isinstance(stated, int) and stated != n:
                raise LayoutError(f"{found.key}: axis {axis!r} has {n} elements, the config says {stated}")


# -- layers ------------------------------------------------------------------------------------------------------------


def finished(binding: Binding) -> Layer:
    """The layer with its weights.

    Raises:
        LayoutError: an array does not fit its rule.
    """
    draft, shapes = binding.draft, binding.shapes()
    attributes = draft.attributes
    if draft.stored.derive is not None and shapes:
        attributes |= draft.stored.derive(shapes)
    keys = {
        f"{s.path}/{s.name}" if s.path else s.name: f.key
        for s, f in binding.pairs
        if s is not None and s.copy_of is None
    }
    weights = []
    for slot, found in binding.pairs:
        if slot is None:
            weights.append(Weight(found.array, whole(unknown_name(found.name), len(found.array.shape))))
            continue
        copy = keys.get(slot.copy_of) if slot.copy_of else None
        weights.append(Weight(found.array, slot.rule_for(found.array.shape, shapes), slot.splits, copy))
    stated = draft.entry.layer.get("dtype")
    compute = dtype_name(stated)[1] if stated is not None else None
    return Layer(draft.name, draft.stored.kind, draft.entry.layer.class_name, attributes, tuple(weights), compute)


def unknown_name(name: str) -> str:
    """A name below its layer, with dots for slashes."""
    return re.sub(r":\d+$", "", name).replace("/", ".")


def unknown_binding(draft: Draft, found: Iterable[Found], ordered: bool) -> Binding:
    """A layer whose arrays are not understood."""
    made = replace(draft.stored, kind="unknown", known=False, derive=None, bind=None, slots=())
    if draft.stored.known:
        made = unknown(draft.entry.layer)
    return Binding(Draft(draft.name, draft.entry, made, draft.distributed), [(None, f) for f in found], ordered)


# words of variables that no built-in layer keeps out of training
_TRAINED = {"kernel", "recurrent_kernel", "bias", "gamma", "beta", "scale", "embeddings", "alpha"}
_TRAINED |= {"depthwise_kernel", "pointwise_kernel"}


def in_order(found: Sequence[Found]) -> bool:
    """Whether an `.h5` group of Keras 3 is in the order of `get_weights()`: where all of it is trained."""
    return {short_name(f.name, "") for f in found} <= _TRAINED


def retold(draft: Draft, found: Sequence[Found]) -> bool:
    """Take in what the arrays tell of a layer's config; whether they told anything."""
    shapes = {short_name(f.name, draft.name): f.array.shape for f in found}
    layer = told(draft.entry.layer, shapes)
    if layer is None or not draft.stored.known:
        return False
    draft.entry.layer = layer
    draft.stored = stored(layer)
    return True


def explain_mismatch(found: Sequence[Found], wanted: Sequence[Want]) -> str:
    """What the file holds for a layer, and what was expected."""
    has = ", ".join(f"{f.name} {shape_text(f.array.shape)}" for f in found[:8])
    names = ", ".join(w.slot.name for w in wanted[:8])
    whose = " and ".join(dict.fromkeys(described(w.draft) for w in wanted[:8]))
    expected = f"{names} of {whose}" if wanted else "nothing"
    return f"found {has or 'nothing'}{', ...' if len(found) > 8 else ''}; expected {expected}"


# -- the framework's own order -----------------------------------------------------------------------------------------


Order = list[tuple[bool, str | None]]  # whether it is trained, and its key (None: not in the file)


def indexed(
    tree: Tree, bindings: Mapping[str, Binding], drafts: Mapping[str, Draft], modern: bool, tf: bool
) -> dict[str, int]:
    """The place of every array in `get_weights()`, by its key; those whose place the file does not tell are missing."""
    order: list[str | None] = []
    for entry in tree.entries:
        if modern:
            order += _modern_order(entry, bindings, drafts)
        elif tf:
            order += _tf_order(entry, bindings, drafts)
        else:
            order += [k for _, k in _old_order(entry, bindings, drafts)]
    return {key: i for i, key in enumerate(order) if key is not None}


def _old_order(entry: Entry, bindings: Mapping[str, Binding], drafts: Mapping[str, Draft]) -> Order:
    """Keras 1 and 2: of a top-level layer, all that is trained, then all that is not."""
    pairs: Order = []
    if entry.model is not None and entry.full not in bindings:
        for inner in entry.model.entries:
            pairs += _old_order(inner, bindings, drafts)
    elif entry.full in bindings:
        own = bindings[entry.full]
        pairs = [
            (slot is None or slot.trainable, f.key if own.ordered else None)
            for slot, f in own.pairs
            if not _is_copy(slot)
        ]
    if (draft := drafts.get(entry.full)) is not None:
        pairs += [(True, None)] * draft.stored.ghosts
    if not entry.trainable:
        pairs = [(False, k) for _, k in _first_trained(pairs)]
    return _first_trained(pairs)


def _first_trained(pairs: Order) -> Order:
    return [p for p in pairs if p[0]] + [p for p in pairs if not p[0]]


def _is_copy(slot: Slot | None) -> bool:
    return slot is not None and slot.copy_of is not None


def _tf_order(entry: Entry, bindings: Mapping[str, Binding], drafts: Mapping[str, Draft]) -> list[str | None]:
    """tf.keras: layer by layer, also inside nested models."""
    if entry.model is not None and entry.full not in bindings:
        return [k for e in entry.model.entries for k in _tf_order(e, bindings, drafts)]
    return [k for _, k in _old_order(entry, bindings, drafts)]


def _modern_order(entry: Entry, bindings: Mapping[str, Binding], drafts: Mapping[str, Draft]) -> list[str | None]:
    """Keras 3: object by object; of each, what it tracks as trainable, then the rest."""
    if entry.model is not None and entry.full not in bindings:
        return [k for e in entry.model.entries for k in _modern_order(e, bindings, drafts)]
    return list(_by_object(bindings[entry.full])) if entry.full in bindings else []


def _by_object(binding: Binding) -> Iterator[str | None]:
    keys = {(s.path, s.name): f.key for s, f in binding.pairs if s is not None and s.copy_of is None}
    if not keys:
        yield from (None for _ in binding.pairs)
        return
    seen: set[str] = set()
    slots = binding.draft.stored.slots
    for path in dict.fromkeys(s.path for s in slots):
        own = [s for s in slots if s.path == path]
        for slot in [s for s in own if _tracked(s)] + [s for s in own if not _tracked(s)]:
            target = slot.copy_of.rpartition("/") if slot.copy_of else (slot.path, "", slot.name)
            key = keys.get((target[0], target[2]))
            if key is None or key not in seen:
                yield key
            seen.add(key or "")


def _tracked(slot: Slot) -> bool:
    return slot.trainable if slot.tracked is None else slot.tracked
