"""The arrays of an archive, brought to their layers by path and number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from wexport.layers.keras import Era
from wexport.model import LeftOut
from wexport.readers.hdf5 import H5Array
from wexport.readers.keras.bind import Binding, Found, described, fits, retold, unknown_binding
from wexport.readers.keras.graph import Draft, draft_layers, made_up
from wexport.readers.keras.paths import below, layer_paths, left_out_reason, owners, variables
from wexport.readers.keras.source import Source, as_found
from wexport.readers.keras.tree import Tree
from wexport.words import shape_text


def archive_arrays(
    source: Source, era: Era, tree: Tree
) -> tuple[dict[str, Binding], dict[str, Draft], list[LeftOut], list[str]]:
    """Every layer's arrays, the layers, what is left out and what needs saying.

    Raises:
        SourceError: a layer that must have weights has none.
    """
    paths = layer_paths(tree, source.root, era)
    _give_assets(tree, paths, source)
    drafts = draft_layers(tree)
    bindings: dict[str, Binding] = {}
    left: list[LeftOut] = []
    warnings: list[str] = []
    used: set[str] = set()
    for name, draft in drafts.items():
        path = paths.get(name)
        if path is None:
            continue
        binding = _numbered(source, draft, path)
        if binding is None and retold(
            draft, [f for k, a in _members(source, path) if isinstance(f := as_found(k, k, a), Found)]
        ):
            binding = _numbered(source, draft, path)
        if binding is None:
            found = _all_below(source, path, left)
            if not found:
                continue
            binding = unknown_binding(draft, found, False)
            if draft.stored.known:
                has = ", ".join(f"{f.name} {shape_text(f.array.shape)}" for f in found[:6])
                warnings.append(f"{name}: found {has}; that is not what {described(draft)} stores; exported whole")
        bindings[name] = binding
        used |= {f.key for _, f in binding.pairs}
    _orphans(source, era, paths, used, bindings, left, warnings)
    return bindings, drafts, left, warnings


def _give_assets(tree: Tree, paths: Mapping[str, str], source: Source) -> None:
    for entry in tree.walk():
        path = paths.get(entry.full)
        found = {k[len(path) + 1 :]: v for k, v in source.assets.items() if path and k.startswith(f"{path}/")}
        if found:
            entry.layer = replace(entry.layer, assets=found)


def _numbered(source: Source, draft: Draft, path: str) -> Binding | None:
    """The layer's arrays by the numbers of its slots; None where they do not fit."""
    if not draft.stored.known or draft.stored.bind is not None:
        return Binding(draft) if draft.stored.bind is not None else None
    slots = [s for s in draft.stored.slots if not s.merged]
    binding = Binding(draft)
    for part in dict.fromkeys(s.path for s in slots):
        full = f"{path}/{part}" if part else path
        stored = variables(source.root.group(full))
        own = [s for s in slots if s.path == part]
        if len(stored) < len(own):
            own = [s for s in own if s.copy_of is None] if len(stored) < len(own) else own
        if len(stored) != len(own):
            return None
        for slot, (name, array) in zip(own, stored, strict=True):
            item = as_found(f"{full}/vars/{name}", slot.name, array)
            if isinstance(item, LeftOut):
                return None
            binding.pairs.append((slot, item))
    extra = [k for k, _ in _members(source, path)]
    if set(extra) - {f.key for _, f in binding.pairs}:
        return None
    return binding if fits(binding) else None


def _members(source: Source, path: str) -> list[tuple[str, H5Array]]:
    group = source.root.group(path)
    if group is None:
        return []
    return [
        (f"{path}/{inner + '/' if inner else ''}vars/{n}", a)
        for inner, owner in owners(group)
        for n, a in variables(owner)
    ]


def _all_below(source: Source, path: str, left: list[LeftOut]) -> list[Found]:
    found = []
    for key, array in _members(source, path):
        reason = left_out_reason(key[len(path) + 1 :])
        item = (
            LeftOut(key, array.shape, reason)
            if reason
            else as_found(key, key[len(path) + 1 :].replace("vars/", ""), array)
        )
        if isinstance(item, LeftOut):
            left.append(item)
        else:
            found.append(item)
    return found


def _orphans(
    source: Source, era: Era, paths: Mapping[str, str], used: set[str], bindings: dict[str, Binding],
    left: list[LeftOut], warnings: list[str],
) -> None:  # fmt: skip
    """Arrays at paths that no layer accounts for: left out if nobody predicts with them, else exported whole."""
    for path, group in owners(source.root):
        fresh = []
        for name, array in variables(group):
            key = f"{path}/vars/{name}" if path else f"vars/{name}"
            if key in used or (path and below(paths, path) and key in used):
                continue
            reason = left_out_reason(path)
            item = LeftOut(key, array.shape, reason) if reason else as_found(key, name, array)
            if isinstance(item, LeftOut):
                left.append(item)
            else:
                fresh.append(item)
        if fresh:
            name = path.replace("/", ".") or "model"
            bindings[name] = unknown_binding(made_up(name, era), fresh, False)
            warnings.append(
                f"{name}: the archive holds weights at a path of no layer in its config; they are exported whole"
            )
