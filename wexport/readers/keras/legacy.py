"""HDF5 files as Keras 1, 2, tf.keras and Keras 3's old writer make them: full models and weights alone.

    <root>                     attrs keras_version, backend, model_config, training_config
    model_weights/             attrs layer_names, and since Keras 2 backend and keras_version
      <layer>/                 attrs weight_names: paths below the layer's group, in order
      top_level_model_weights/ what the model itself owns
    optimizer_weights/         left out

A weights file has the inside of `model_weights` at its root. Keras 0.x and 1.0 files (`nb_layers`) name their
arrays param_0, param_1, ... below layer_0, layer_1, ...
Source: keras/engine/saving.py (2.2.4), keras/src/legacy/saving/legacy_h5_format.py (3.15.1).
"""

from __future__ import annotations

from collections.abc import Iterable

from wexport.errors import SourceError
from wexport.model import LeftOut
from wexport.readers.hdf5 import Group
from wexport.readers.keras.bind import Found
from wexport.readers.keras.source import Source, as_found, member, text_list

Groups = dict[str, list[Found]]


def weights_group(root: Group) -> Group | None:
    """The group that lists the layers: the root of a weights file, `model_weights` in a full model."""
    for group in (root, root.groups.get("model_weights")):
        if group is not None and (text_list(group.attrs, "layer_names") is not None or "nb_layers" in group.attrs):
            return group
    return None


def describe(source: Source, group: Group) -> None:
    """Fill in the version and backend that the file states."""
    for attrs in (source.root.attrs, group.attrs):
        for name, attribute in (("keras_version", "version"), ("backend", "backend")):
            found = attrs.get(name)
            if isinstance(found, str) and getattr(source, attribute) is None:
                setattr(source, attribute, found)


def layer_arrays(source: Source, group: Group) -> tuple[Groups, list[LeftOut]]:
    """The arrays of every top-level layer, in the file's order, and what is left out.

    Raises:
        SourceError: the file names a layer or an array that it does not hold.
    """
    groups: Groups = {}
    left: list[LeftOut] = []
    if "nb_layers" in group.attrs:
        _numbered(source, group, groups)
    for name in text_list(group.attrs, "layer_names") or []:
        inner = group.group(name)
        if inner is None:
            raise SourceError(f"{source.path}: the file names a layer {name!r} but holds no weights for it")
        groups[name] = _listed(source, name, inner, left)
    extra = group.groups.get("top_level_model_weights")
    if extra is not None and (text_list(extra.attrs, "weight_names") or []):
        groups["top_level_model_weights"] = _listed(source, "top_level_model_weights", extra, left)
    for name in ("optimizer_weights", "optimizer"):
        if (state := source.root.groups.get(name)) is not None and name not in groups:
            left += [LeftOut(f"{name}/{path}", a.shape, "optimizer state") for path, a in state.walk()]
    return groups, left


def _listed(source: Source, name: str, group: Group, left: list[LeftOut]) -> list[Found]:
    names = text_list(group.attrs, "weight_names")
    if names is None:
        raise SourceError(f"{source.path}: the group of layer {name!r} does not list its weights (no weight_names)")
    found: list[Found] = []
    for weight in names:
        item = as_found(f"{name}/{weight}", weight, member(group, weight, str(source.path)))
        (found if isinstance(item, Found) else left).append(item)  # type: ignore[arg-type]
    keys = [f.key for f in found]
    if len(set(keys)) < len(keys):
        raise SourceError(f"{source.path}: layer {name!r} names a weight twice")
    return found


def _numbered(source: Source, group: Group, groups: Groups) -> None:
    count = group.attrs["nb_layers"]
    if not isinstance(count, int) or count > 100_000:
        raise SourceError(f"{source.path}: nb_layers is {count!r}, not a number of layers")
    for i in range(count):
        inner = group.groups.get(f"layer_{i}")
        if inner is None:
            raise SourceError(f"{source.path}: the file has {count} layers but no group layer_{i}")
        arrays = sorted(inner.arrays.items(), key=lambda item: int(item[0].rpartition("_")[2] or 0))
        items = [as_found(f"layer_{i}/{n}", n, a) for n, a in arrays]
        groups[f"layer_{i}"] = [f for f in items if isinstance(f, Found)]


def names_of(groups: Iterable[list[Found]]) -> list[str]:
    """Every weight's own name."""
    return [f.name for found in groups for f in found]
