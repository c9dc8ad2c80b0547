"""Keras' implicit masks, made arguments.

Keras attaches a mask to a value and hands it on from layer to layer. `Stored.mask` says what a class does:

    make      gives a mask of its own (Masking, Embedding with mask_zero)
    pass      hands on the mask of its first argument
    sequence  a recurrent layer: hands it on if it returns sequences
    merge     joins the masks of its arguments (merging layers)
    query     hands on the query's mask (attention)
    stop      gives none

Sources: keras/engine/base_layer.py and topology.py (1.2.2, 2.2.4); keras/src/layers/layer.py, __call__ steps 6
and 7 (3.15.1): with several tensor arguments Keras 3 fills only `<argument>_mask`.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence

from wexport.layers.keras import Keras, Stored
from wexport.model import Arg, Call, Out

MASK_ROLES = {"mask", "query_mask", "value_mask", "key_mask"}
Masks = MutableMapping[str, str | None]


def pass_masks(
    masks: Masks, stored: Stored, layer: Keras, name: str, args: Mapping[str, Arg], outs: Sequence[Out]
) -> Call:
    """The call with the masks that it takes and gives; `masks` learns those of its outputs."""
    given = dict(args)
    first = given.get("x", given.get("query"))
    values = [v for v in (first if isinstance(first, tuple) else (first,)) if isinstance(v, str)]
    found = [masks.get(v) for v in values]
    stated = given.get("mask")
    mask = stated if isinstance(stated, str) else found[0] if found else None
    if not stored.takes_mask and stored.mask != "merge":
        given.pop("mask", None)
    elif stored.mask == "query":
        _attention_masks(masks, layer, given)
        query = given.get("query_mask")
        mask = query if isinstance(query, str) else masks.get(first) if isinstance(first, str) else None
    elif stored.mask == "merge":
        return _merged(masks, stored, name, given, outs, found)
    elif stored.takes_mask and mask is not None and not _is_left_alone(layer, stored, given):
        given["mask"] = mask
    return _handed_on(masks, stored, name, given, outs, mask)


def _is_left_alone(layer: Keras, stored: Stored, args: Mapping[str, Arg]) -> bool:
    """Keras 3 gives no implicit mask to a recurrent layer that also takes initial states."""
    return (
        layer.era.major > 2
        and stored.mask == "sequence"
        and args.get("initial_state") is not None
        and not args.get("mask")
    )


def _attention_masks(masks: Masks, layer: Keras, args: dict[str, Arg]) -> None:
    if layer.class_name == "MultiHeadAttention" and layer.era.major < 3 and not layer.era.since(2, 10):
        return  # did not look at masks before
    if isinstance(stated := args.get("mask"), tuple):  # one list for the query and the value (Attention)
        args.pop("mask")
        given = zip(("query_mask", "value_mask"), stated, strict=False)
        args |= {role: m for role, m in given if m is not None}
        return
    if layer.class_name == "MultiHeadAttention" and layer.era.since(3, 8):
        args.pop("query_mask", None)  # only the query's own counts
    for role in ("query", "value", "key"):
        value = args.get(role)
        if isinstance(value, str) and masks.get(value) is not None and f"{role}_mask" not in args:
            if role == "key" and value == args.get("value"):
                continue
            args[f"{role}_mask"] = masks[value]


def _merged(
    masks: Masks, stored: Stored, name: str, args: dict[str, Arg], outs: Sequence[Out], found: Sequence[str | None]
) -> Call:
    present = [m for m in found if m is not None]
    rule = stored.attributes.get("mask_rule")
    args.pop("mask", None)
    partial = rule == "any" and stored.kind != "concat" and len(present) < len(found)
    if not present:
        return Call(name, args, tuple(outs))
    args["mask"] = tuple(found)
    if partial:
        return Call(name, args, tuple(outs))
    out = f"{outs[0].value}:mask"
    masks[outs[0].value or ""] = out
    return Call(name, args, (*outs, Out("mask", out)))


def _handed_on(
    masks: Masks, stored: Stored, name: str, args: dict[str, Arg], outs: Sequence[Out], mask: str | None
) -> Call:
    y = outs[0].value or ""
    if stored.mask == "make":
        masks[y] = f"{y}:mask"
        return Call(name, args, (*outs, Out("mask", f"{y}:mask")))
    if stored.mask in {"pass", "query"} or (stored.mask == "sequence" and stored.attributes.get("return_sequences")):
        masks[y] = mask
        if stored.mask == "sequence" and len(outs) > 1 and outs[1].role == "y_backward":
            masks[outs[1].value or ""] = mask
    return Call(name, args, tuple(outs))
