"""What is looked up in a table: by which argument of which kind of layer, and what the table has an answer for.

Numbers that only move on their way to a table are bound by it, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from wexport.model import Json

Length = Callable[
    [Any, int], int | None
]  # of an argument, or of a tensor of the layer (by its short name), along an axis
Pool = Sequence[int]

# kinds whose outputs hold elements of their first argument, moved, repeated, or cast
MOVERS = frozenset({
    "cast", "center_crop", "clip", "concat", "concat_sequence", "crop", "depth_to_space", "dropout", "dynamic_clip",
    "dynamic_expand_dims", "dynamic_pad", "dynamic_reshape", "dynamic_slice", "dynamic_split", "dynamic_squeeze",
    "dynamic_tile", "expand", "expand_dims", "flatten", "flatten_at", "flip", "gather", "gather_elements", "gather_nd",
    "identity", "masking", "maximum", "minimum", "pad", "pad_all", "permute", "pick_features", "repeat", "repeat_axis",
    "reshape", "reshape_all", "reverse_sequence", "sequence", "sequence_at", "slice", "space_to_depth", "split",
    "split_to_sequence", "squeeze", "stack", "tile", "transpose", "where",
})  # fmt: skip

# the roles that count in a table of the layer itself
_OWN = {
    ("embed_norm", "x"): "embedding",
    ("embed_norm", "positions"): "position_embedding",
    ("embed_norm", "segments"): "segment_embedding",
    ("rotary_embedding", "positions"): "cos_cache",
    ("grouped_attention", "positions"): "cos_cache",
}


def pool(layer: Mapping[str, Json], role: str, args: Mapping[str, Json], length: Length) -> Pool | None:
    """The whole numbers that a layer can look up as this argument; None where it looks nothing up, or takes any.

    Args:
        layer: its kind and attributes.
        role: the argument's.
        args: the call's arguments.
        length: of an argument along an axis, and of the layer's own tensors by name.
    """
    kind = layer["kind"]
    if kind in {"quantized", "integer"}:
        return pool(layer["layer"], role, args, length)
    if (table := _OWN.get((kind, role))) is not None:
        return _below(length(args.get(table) or table, 0))
    if role in {"indices", "index"} and kind in {"gather", "gather_elements"}:
        return _below(length(args.get("x"), layer["axis"]))
    if role != "x":
        return None
    if kind in {"embedding", "category_encoding"}:
        return _below(layer["tokens"])
    if kind == "one_hot":
        return _below(layer["depth"])
    if kind == "one_hot_values":
        return _below(_number(args.get("depth")))
    if kind == "lookup" and layer["invert"]:
        return _below(len(layer["vocabulary"] or ()) + layer["oov_tokens"] + (layer["mask_token"] is not None))
    words = layer.get({"lookup": "vocabulary", "label_encoder": "keys", "one_hot_labels": "labels"}.get(kind, ""))
    return tuple(words) if words and all(type(w) is int for w in words) else None


def _below(n: Any) -> Pool | None:
    return range(n) if isinstance(n, int) and n > 0 else None


def _number(arg: Any) -> Any:
    found = arg.get("const") if isinstance(arg, Mapping) else None
    while isinstance(found, list | tuple) and len(found) == 1:
        found = found[0]
    return found
