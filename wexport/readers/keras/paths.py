"""Where an archive keeps the variables of each layer.

Every object that owns variables has a group `<path>/vars` with data sets "0", "1", ... A path is made of class
names in snake case with a counter per class, never of layer names:

    Keras 3            layers/<class>[_n]: the config's layers in order, operations and (Sequential) inputs left out
    tf.keras 2.12, 13  _layer_checkpoint_dependencies/: as above, but each layer with weights is listed twice and
                       so takes two numbers
    tf.keras 2.14      _layer_checkpoint_dependencies/;  2.15 and tf-keras: layers/

From Keras 3.6 on, `vars` carries the object's name, which decides where the two disagree.
Source: keras/src/saving/saving_lib.py, _save_state and _save_container_state (2.12 to 3.15.1); utils/naming.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from wexport.layers.keras import Era
from wexport.layers.keras_ops import snake
from wexport.readers.hdf5 import Group, H5Array
from wexport.readers.keras.tree import Entry, Tree

_LEFT_OUT = {
    "optimizer": "optimizer state",
    "_optimizer": "optimizer state",
    "metrics": "a metric's state",
    "compile_metrics": "a metric's state",
    "loss": "a loss' state",
    "seed_generator": "the state of a random generator",
}

_CONTAINERS = ("layers", "_layer_checkpoint_dependencies")
_ODD_NAMES = {"GroupQueryAttention": "grouped_query_attention"}


def layer_paths(tree: Tree, root: Group, era: Era) -> dict[str, str]:
    """The path of every layer, by its dotted name."""
    return dict(_paths(tree, "", root, era))


def _paths(tree: Tree, path: str, root: Group, era: Era) -> Iterator[tuple[str, str]]:
    container = next((c for c in _CONTAINERS if root.group(f"{path}{c}")), _CONTAINERS[0])
    group = root.group(f"{path}{container}")
    listed = [e for e in tree.entries if not e.operation and not (e.is_input and tree.class_name == "Sequential")]
    names = _names(listed, group, container == _CONTAINERS[1] and not era.since(2, 14))
    for entry, name in zip(listed, names, strict=True):
        full = f"{path}{container}/{name}"
        if entry.model is not None:
            inner = f"{full}/" + "layer/" * entry.distributed
            yield from _paths(entry.model, inner, root, era)
        yield entry.full, full


def _names(entries: Sequence[Entry], group: Group | None, twice: bool) -> list[str]:
    """The member of a container for each of its layers; `twice`: one with weights takes two numbers."""
    seen: dict[str, int] = {}
    result = []
    for entry in entries:
        base = class_segment(entry.layer.class_name)
        count = seen.get(base, 0)
        name = f"{base}_{count}" if count else base
        owner = group.groups.get(name) if group else None
        seen[base] = count + (2 if twice and owner is not None and any(True for _ in owner.walk()) else 1)
        result.append(name)
    by_name = {n: key for key, member in group.groups.items() if (n := own_name(member))} if group else {}
    return [by_name.get(e.name, name) for e, name in zip(entries, result, strict=True)]


def class_segment(class_name: str) -> str:
    """A class name as it stands in a path."""
    name = class_name.rpartition(">")[2]
    return _ODD_NAMES.get(name) or snake(name)


def own_name(group: Group) -> str | None:
    """The name of the object that a group belongs to, where the file says it."""
    inner = group.groups.get("vars")
    name = inner.attrs.get("name") if inner else None
    return name if isinstance(name, str) else None


def left_out_reason(path: str) -> str | None:
    """Why nobody predicts with what lies at a path; None if somebody may."""
    return next((text for word, text in _LEFT_OUT.items() if word in path.split("/")), None)


def variables(group: Group | None) -> list[tuple[str, H5Array]]:
    """The arrays of an object, in the order of their numbers; other names come last."""
    inner = group.groups.get("vars") if group else None
    if inner is None:
        return []
    return sorted(
        inner.arrays.items(),
        key=lambda item: (not item[0].isdigit(), int(item[0]) if item[0].isdigit() else 0, item[0]),
    )


def owners(root: Group, path: str = "") -> Iterator[tuple[str, Group]]:
    """Every group that has variables, with its path."""
    for name, group in root.groups.items():
        if name == "vars":
            if group.arrays:
                yield path.rstrip("/"), root
        else:
            yield from owners(group, f"{path}{name}/")


def below(paths: Mapping[str, str], path: str) -> bool:
    """Whether one of these layers owns a path."""
    return any(path == p or path.startswith(f"{p}/") for p in paths.values())
